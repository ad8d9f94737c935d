// SPDX-License-Identifier: Apache-2.0
// What several servers did under the same load, as rows: a row is one question (a load and a unit),
// its sides are those that were asked, and each has one figure a round. Rounds are interleaved, so
// what else happens on the machine falls on all sides of a round; what a row says is therefore the
// ratio of two sides *round by round*: its median, its quartiles, its ends. Printed as it goes, and
// in the end written as JSON and as a picture. One thread.
#ifndef QS_BENCH_BOARD_H
#define QS_BENCH_BOARD_H

#include "common/base/base.h"

#define BOARD_SIDES 8
#define BOARD_ROUNDS_MAX 101
#define BOARD_ROWS_MAX 64
#define BOARD_CLAIMS_MAX 32
#define BOARD_NOTES_MAX 32

struct board_side {
    const char *name;
    double figures[BOARD_ROUNDS_MAX]; // of each round
    size_t rounds;
};

struct board_row {
    const char *section; // of the experiment
    char *what;          // the load
    const char *unit;    // of the figures
    size_t base;         // the side that the others are put in ratio to
    struct board_side sides[BOARD_SIDES];
    size_t count;
};

// A limit of a side's ratio to the base.
struct board_claim {
    size_t row, side;
    bool most; // the limit is an upper one
    double limit;
    bool held;
};

struct board {
    struct board_row rows[BOARD_ROWS_MAX];
    size_t row_count;
    struct board_claim claims[BOARD_CLAIMS_MAX];
    size_t claim_count;
    char *notes[BOARD_NOTES_MAX]; // about the set-up, one line each
    size_t note_count;
};

struct board_ratio {
    double least, low, median, high, most; // of the rounds that both sides have
    size_t rounds;                         // 0: nothing can be said
};

// A new row of so many sides; names, unit and section are static text, `what` is taken over.
struct board_row *board_add(struct board *board, const char *section, char *what, const char *unit,
                            size_t count, const char *const *sides, size_t base);

// The figure of a side in its next round.
void board_put(struct board_row *row, size_t side, double figure);

// Claims something about a side of a row whose figures are complete. Held by the median of the
// ratios; an upper limit also when it is 5 % above, or when the lower quartile is below.
void board_claim(struct board *board, const struct board_row *row, size_t side, bool most,
                 double limit);

struct board_ratio board_ratio(const struct board_row *row, size_t side);
double board_median(const struct board_side *side);

// A line about the set-up, printed at once and kept for the JSON; taken over.
void board_note(struct board *board, char *text);

// On standard output: a row with its claims; how many claims were held.
void board_print(const struct board *board, const struct board_row *row);
void board_print_claims(const struct board *board);

// Write DIRECTORY/NAME.json and .svg. False: they could not, said on standard error.
bool board_write_json(const struct board *board, const char *directory,
                      const char *name) MUST_CHECK;
bool board_write_picture(const struct board *board, const char *directory,
                         const char *name) MUST_CHECK;

void board_close(struct board *board);

#endif
