// SPDX-License-Identifier: Apache-2.0
#include "bench/board.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/claims.h"
#include "common/base/mem.h"

#define TOLERANCE 1.05 // of an upper limit, as in `roles`: closer than that nothing is told apart

struct board_row *board_add(struct board *board, const char *section, char *what, const char *unit,
                            size_t count, const char *const *sides, size_t base)
{
    CHECK(board->row_count < BOARD_ROWS_MAX && count <= BOARD_SIDES && base < count);
    struct board_row *row = &board->rows[board->row_count++];
    *row = (struct board_row){
        .section = section, .what = what, .unit = unit, .base = base, .count = count};
    for (size_t i = 0; i < count; i++) {
        row->sides[i].name = sides[i];
    }
    return row;
}

void board_put(struct board_row *row, size_t side, double figure)
{
    CHECK(side < row->count && row->sides[side].rounds < BOARD_ROUNDS_MAX);
    struct board_side *to = &row->sides[side];
    to->figures[to->rounds++] = figure;
}

// ---- what the figures say -----------------------------------------------------------------------

static struct board_ratio quantiles(double *figures, size_t count)
{
    qsort(figures, count, sizeof *figures, claims_by_size);
    return (struct board_ratio){
        .least = claims_quantile(figures, count, 0),
        .low = claims_quantile(figures, count, 0.25),
        .median = claims_quantile(figures, count, 0.5),
        .high = claims_quantile(figures, count, 0.75),
        .most = claims_quantile(figures, count, 1),
        .rounds = count,
    };
}

static struct board_ratio spread(const struct board_side *side)
{
    double sorted[BOARD_ROUNDS_MAX];
    memcpy(sorted, side->figures, side->rounds * sizeof *sorted);
    return quantiles(sorted, side->rounds);
}

double board_median(const struct board_side *side) { return spread(side).median; }

struct board_ratio board_ratio(const struct board_row *row, size_t side)
{
    CHECK(side < row->count && row->base < row->count);
    const struct board_side *a = &row->sides[side], *b = &row->sides[row->base];
    double ratios[BOARD_ROUNDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < a->rounds && i < b->rounds; i++) {
        if (b->figures[i] > 0) {
            ratios[count++] = a->figures[i] / b->figures[i];
        }
    }
    return quantiles(ratios, count);
}

void board_claim(struct board *board, const struct board_row *row, size_t side, bool most,
                 double limit)
{
    CHECK(board->claim_count < BOARD_CLAIMS_MAX && side < row->count);
    struct board_claim *claim = &board->claims[board->claim_count++];
    *claim = (struct board_claim){
        .row = (size_t)(row - board->rows),
        .side = side,
        .most = most,
        .limit = limit,
    };
    struct board_ratio ratio = board_ratio(row, side);
    bool below = ratio.median <= limit * TOLERANCE || ratio.low <= limit;
    claim->held = ratio.rounds > 0 && (most ? below : ratio.median >= limit);
}

static const char *base_name(const struct board_row *row) { return row->sides[row->base].name; }

static char *claim_text(const struct board *board, const struct board_claim *claim)
{
    const struct board_row *row = &board->rows[claim->row];
    return mem_format("%s: %s at %s %.2f x %s", row->what, row->sides[claim->side].name,
                      claim->most ? "most" : "least", claim->limit, base_name(row));
}

// ---- the table ----------------------------------------------------------------------------------

void board_note(struct board *board, char *text)
{
    CHECK(board->note_count < BOARD_NOTES_MAX);
    board->notes[board->note_count++] = text;
    printf("  %s\n", text);
    fflush(stdout);
}

static const char *held_text(bool held) { return held ? "held" : "NOT HELD"; }

void board_print(const struct board *board, const struct board_row *row)
{
    size_t at = (size_t)(row - board->rows);
    if (at == 0 || strcmp(row->section, row[-1].section) != 0) {
        printf("\n%s\n", row->section);
    }
    printf("  %s (%s)\n", row->what, row->unit);
    for (size_t side = 0; side < row->count; side++) {
        struct board_ratio own = spread(&row->sides[side]), ratio = board_ratio(row, side);
        printf("    %-34s %12.1f  (%.1f - %.1f)", row->sides[side].name, own.median, own.least,
               own.most);
        if (side != row->base && ratio.rounds > 0) {
            printf("   %.3g x %s (quartiles %.3g-%.3g, all %.3g-%.3g)", ratio.median,
                   base_name(row), ratio.low, ratio.high, ratio.least, ratio.most);
        }
        printf("\n");
    }
    for (size_t i = 0; i < board->claim_count; i++) {
        if (board->claims[i].row == at) {
            char *text = claim_text(board, &board->claims[i]);
            printf("    %-8s %s\n", held_text(board->claims[i].held), text);
            mem_free(text);
        }
    }
    fflush(stdout);
}

void board_print_claims(const struct board *board)
{
    size_t held = 0;
    for (size_t i = 0; i < board->claim_count; i++) {
        held += board->claims[i].held;
    }
    printf("\n%zu of %zu claims held\n", held, board->claim_count);
}

// ---- JSON ---------------------------------------------------------------------------------------

static void put(json_t *to, const char *name, json_t *value)
{
    CHECK(json_object_set_new(to, name, value) == 0);
}

static json_t *ratio_json(const struct board_ratio *ratio)
{
    json_t *to = json_object();
    put(to, "median", json_real(ratio->median));
    put(to, "quartile_low", json_real(ratio->low));
    put(to, "quartile_high", json_real(ratio->high));
    put(to, "least", json_real(ratio->least));
    put(to, "most", json_real(ratio->most));
    return to;
}

static json_t *row_json(const struct board_row *row)
{
    json_t *to = json_object(), *sides = json_object();
    put(to, "section", json_string(row->section));
    put(to, "what", json_string(row->what));
    put(to, "unit", json_string(row->unit));
    put(to, "base", json_string(base_name(row)));
    for (size_t side = 0; side < row->count; side++) {
        struct board_ratio ratio = board_ratio(row, side);
        json_t *one = json_object(), *rounds = json_array();
        for (size_t i = 0; i < row->sides[side].rounds; i++) {
            json_array_append_new(rounds, json_real(row->sides[side].figures[i]));
        }
        put(one, "rounds", rounds);
        put(one, "median", json_real(board_median(&row->sides[side])));
        put(one, "ratio_to_base", ratio.rounds > 0 ? ratio_json(&ratio) : json_null());
        put(sides, row->sides[side].name, one);
    }
    put(to, "sides", sides);
    return to;
}

bool board_write_json(const struct board *board, const char *directory, const char *name)
{
    json_t *to = json_object(), *notes = json_array(), *rows = json_array();
    json_t *claims = json_array();
    for (size_t i = 0; i < board->note_count; i++) {
        json_array_append_new(notes, json_string(board->notes[i]));
    }
    for (size_t i = 0; i < board->row_count; i++) {
        json_array_append_new(rows, row_json(&board->rows[i]));
    }
    for (size_t i = 0; i < board->claim_count; i++) {
        char *text = claim_text(board, &board->claims[i]);
        json_t *one = json_object();
        put(one, "claim", json_string(text));
        put(one, "held", json_boolean(board->claims[i].held));
        json_array_append_new(claims, one);
        mem_free(text);
    }
    put(to, "notes", notes);
    put(to, "rows", rows);
    put(to, "claims", claims);
    char *path = mem_format("%s/%s.json", directory, name);
    bool written = json_dump_file(to, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    if (!written) {
        fprintf(stderr, "qs-bench: %s cannot be written\n", path);
    }
    mem_free(path);
    json_decref(to);
    return written;
}

void board_close(struct board *board)
{
    for (size_t i = 0; i < board->row_count; i++) {
        mem_free(board->rows[i].what);
    }
    for (size_t i = 0; i < board->note_count; i++) {
        mem_free(board->notes[i]);
    }
}
