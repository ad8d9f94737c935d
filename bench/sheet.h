// SPDX-License-Identifier: Apache-2.0
// What several servers did under the same load, as rows: a row is one question (a load and a unit),
// its sides are those that were asked, and each has one figure a round. Rounds are interleaved, so
// what else happens on the machine falls on all sides of a round; what a row says is therefore the
// ratio of two sides *round by round*: its median, its quartiles, its ends. Printed as it goes, and
// in the end written as JSON and as a picture. One thread.
#ifndef QS_BENCH_SHEET_H
#define QS_BENCH_SHEET_H

#include "common/base/base.h"

#define SHEET_SIDES 12
#define SHEET_ROUNDS_MAX 101
#define SHEET_ROWS_MAX 96
#define SHEET_CLAIMS_MAX 64
#define SHEET_NOTES_MAX 48

struct sheet_side {
    const char *name;
    double figures[SHEET_ROUNDS_MAX]; // of each round
    size_t rounds;
};

struct sheet_row {
    const char *section; // of the experiment
    char *what;          // the load
    const char *unit;    // of the figures
    size_t base;         // the side that the others are put in ratio to
    struct sheet_side sides[SHEET_SIDES];
    size_t count;
};

// What is claimed of a side's figures.
enum sheet_kind {
    SHEET_LEAST,        // their ratio to another side's is no less than the limit
    SHEET_MOST,         // ... or no more
    SHEET_NO_WORSE,     // ... or no more by five percent, less than which is not told apart
    SHEET_FASTER,       // times: the other side's are at least so many times as long
    SHEET_FIGURE_LEAST, // they themselves are no less; there is no other side
    SHEET_FIGURE_MOST,  // ... or no more
};

struct sheet_claim {
    size_t row, side, against;
    enum sheet_kind kind;
    double limit;
    bool held;
};

struct sheet {
    const char *title; // of the picture
    struct sheet_row rows[SHEET_ROWS_MAX];
    size_t row_count;
    struct sheet_claim claims[SHEET_CLAIMS_MAX];
    size_t claim_count;
    char *notes[SHEET_NOTES_MAX]; // about the set-up, one line each
    size_t note_count;
};

struct sheet_ratio {
    double least, low, median, high, most; // of the rounds that both sides have
    size_t rounds;                         // 0: nothing can be said
};

// A new row of so many sides; names, unit and section are static text, `what` is taken over.
struct sheet_row *sheet_add(struct sheet *sheet, const char *section, char *what, const char *unit,
                            size_t count, const char *const *sides, size_t base);

// The figure of a side in its next round.
void sheet_put(struct sheet_row *row, size_t side, double figure);

// Claims something about a side of a row whose figures are complete; `against` is another side,
// often row->base. Held by the median of the ratios, or of the figures.
void sheet_claim(struct sheet *sheet, const struct sheet_row *row, size_t side,
                 enum sheet_kind kind, size_t against, double limit);

// Of a side's figures to another's.
struct sheet_ratio sheet_ratio_to(const struct sheet_row *row, size_t side, size_t against);
// ... to the base's.
struct sheet_ratio sheet_ratio(const struct sheet_row *row, size_t side);
double sheet_median(const struct sheet_side *side);

// A line about the set-up, printed at once and kept for the JSON; taken over.
void sheet_note(struct sheet *sheet, char *text);

// On standard output: a row with its claims; how many claims were held.
void sheet_print(const struct sheet *sheet, const struct sheet_row *row);
void sheet_print_claims(const struct sheet *sheet);

// Write DIRECTORY/NAME.json and .svg. False: they could not, said on standard error.
bool sheet_write_json(const struct sheet *sheet, const char *directory,
                      const char *name) MUST_CHECK;
bool sheet_write_picture(const struct sheet *sheet, const char *directory,
                         const char *name) MUST_CHECK;

void sheet_close(struct sheet *sheet);

#endif
