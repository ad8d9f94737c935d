// SPDX-License-Identifier: Apache-2.0
#include "bench/sheet.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/claims.h"
#include "common/base/mem.h"

#define SMALL 0.1 // a ratio
#define TOLERANCE 1.05 // as in `roles`: closer than that nothing is told apart

struct sheet_row *sheet_add(struct sheet *sheet, const char *section, char *what, const char *unit,
                            size_t count, const char *const *sides, size_t base)
{
    CHECK(sheet->row_count < SHEET_ROWS_MAX && count <= SHEET_SIDES && base < count);
    struct sheet_row *row = &sheet->rows[sheet->row_count++];
    *row = (struct sheet_row){
        .section = section, .what = what, .unit = unit, .base = base, .count = count};
    for (size_t i = 0; i < count; i++) {
        row->sides[i].name = sides[i];
    }
    return row;
}

void sheet_put(struct sheet_row *row, size_t side, double figure)
{
    CHECK(side < row->count && row->sides[side].rounds < SHEET_ROUNDS_MAX);
    struct sheet_side *to = &row->sides[side];
    to->figures[to->rounds++] = figure;
}

// ---- what the figures say -----------------------------------------------------------------------

static struct sheet_ratio quantiles(double *figures, size_t count)
{
    qsort(figures, count, sizeof *figures, claims_by_size);
    return (struct sheet_ratio){
        .least = claims_quantile(figures, count, 0),
        .low = claims_quantile(figures, count, 0.25),
        .median = claims_quantile(figures, count, 0.5),
        .high = claims_quantile(figures, count, 0.75),
        .most = claims_quantile(figures, count, 1),
        .rounds = count,
    };
}

static struct sheet_ratio spread(const struct sheet_side *side)
{
    double sorted[SHEET_ROUNDS_MAX];
    memcpy(sorted, side->figures, side->rounds * sizeof *sorted);
    return quantiles(sorted, side->rounds);
}

double sheet_median(const struct sheet_side *side) { return spread(side).median; }

struct sheet_ratio sheet_ratio_to(const struct sheet_row *row, size_t side, size_t against)
{
    CHECK(side < row->count && against < row->count);
    const struct sheet_side *a = &row->sides[side], *b = &row->sides[against];
    double ratios[SHEET_ROUNDS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < a->rounds && i < b->rounds; i++) {
        if (b->figures[i] > 0) {
            ratios[count++] = a->figures[i] / b->figures[i];
        }
    }
    return quantiles(ratios, count);
}

struct sheet_ratio sheet_ratio(const struct sheet_row *row, size_t side)
{
    return sheet_ratio_to(row, side, row->base);
}

static bool is_held(const struct sheet_row *row, const struct sheet_claim *claim)
{
    struct sheet_ratio ratio = sheet_ratio_to(row, claim->side, claim->against);
    const struct sheet_side *side = &row->sides[claim->side];
    switch (claim->kind) {
    case SHEET_LEAST:
        return ratio.rounds > 0 && ratio.median >= claim->limit;
    case SHEET_MOST:
        return ratio.rounds > 0 && ratio.median <= claim->limit;
    case SHEET_NO_WORSE:
        return ratio.rounds > 0 && ratio.median <= claim->limit * TOLERANCE;
    case SHEET_FASTER:
        return ratio.rounds > 0 && ratio.median * claim->limit <= 1;
    case SHEET_FIGURE_LEAST:
        return side->rounds > 0 && sheet_median(side) >= claim->limit;
    case SHEET_FIGURE_MOST:
        return side->rounds > 0 && sheet_median(side) <= claim->limit;
    }
    return false;
}

void sheet_claim(struct sheet *sheet, const struct sheet_row *row, size_t side,
                 enum sheet_kind kind, size_t against, double limit)
{
    CHECK(sheet->claim_count < SHEET_CLAIMS_MAX && side < row->count && against < row->count);
    struct sheet_claim *claim = &sheet->claims[sheet->claim_count++];
    *claim = (struct sheet_claim){
        .row = (size_t)(row - sheet->rows),
        .side = side,
        .against = against,
        .kind = kind,
        .limit = limit,
    };
    claim->held = is_held(row, claim);
}

static const char *base_name(const struct sheet_row *row) { return row->sides[row->base].name; }

static char *claim_text(const struct sheet *sheet, const struct sheet_claim *claim)
{
    const struct sheet_row *row = &sheet->rows[claim->row];
    const char *side = row->sides[claim->side].name, *against = row->sides[claim->against].name;
    switch (claim->kind) {
    case SHEET_FASTER:
        return mem_format("%s: %s at least %.3g times as fast as %s", row->what, side,
                          claim->limit, against);
    case SHEET_FIGURE_LEAST:
    case SHEET_FIGURE_MOST:
        return mem_format("%s: %s at %s %.6g (%s)", row->what, side,
                          claim->kind == SHEET_FIGURE_MOST ? "most" : "least", claim->limit,
                          row->unit);
    case SHEET_NO_WORSE:
        return mem_format("%s: %s no worse than %.2f x %s", row->what, side, claim->limit,
                          against);
    default:
        return mem_format("%s: %s at %s %.2f x %s", row->what, side,
                          claim->kind == SHEET_MOST ? "most" : "least", claim->limit, against);
    }
}

// ---- the table ----------------------------------------------------------------------------------

void sheet_note(struct sheet *sheet, char *text)
{
    CHECK(sheet->note_count < SHEET_NOTES_MAX);
    sheet->notes[sheet->note_count++] = text;
    printf("  %s\n", text);
    fflush(stdout);
}

static const char *held_text(bool held) { return held ? "held" : "NOT HELD"; }

// For people: what is a small part is told by its inverse.
static void print_ratio(const char *before, double ratio)
{
    bool small = ratio > 0 && ratio < SMALL;
    printf("%s%s%.3g", before, small ? "1/" : "", small ? 1 / ratio : ratio);
}

static void print_ratios(const struct sheet_ratio *ratio, const char *base)
{
    print_ratio("   ", ratio->median);
    printf(" x %s", base);
    print_ratio(" (quartiles ", ratio->low);
    print_ratio(" to ", ratio->high);
    print_ratio(", all ", ratio->least);
    print_ratio(" to ", ratio->most);
    printf(")");
}

// With the ratio that it is about, where the lines above do not have it.
static void print_claim(const struct sheet *sheet, const struct sheet_claim *claim)
{
    const struct sheet_row *row = &sheet->rows[claim->row];
    char *text = claim_text(sheet, claim);
    printf("    %-8s %s", held_text(claim->held), text);
    bool of_ratio = claim->kind <= SHEET_NO_WORSE;
    struct sheet_ratio ratio = sheet_ratio_to(row, claim->side, claim->against);
    if (of_ratio && claim->against != row->base && ratio.rounds > 0) {
        print_ratios(&ratio, row->sides[claim->against].name);
    }
    printf("\n");
    mem_free(text);
}

void sheet_print(const struct sheet *sheet, const struct sheet_row *row)
{
    size_t at = (size_t)(row - sheet->rows);
    if (at == 0 || strcmp(row->section, row[-1].section) != 0) {
        printf("\n%s\n", row->section);
    }
    printf("  %s (%s)\n", row->what, row->unit);
    for (size_t side = 0; side < row->count; side++) {
        struct sheet_ratio own = spread(&row->sides[side]), ratio = sheet_ratio(row, side);
        printf("    %-34s %12.1f  (%.1f - %.1f)", row->sides[side].name, own.median, own.least,
               own.most);
        if (side != row->base && ratio.rounds > 0) {
            print_ratios(&ratio, base_name(row));
        }
        printf("\n");
    }
    for (size_t i = 0; i < sheet->claim_count; i++) {
        if (sheet->claims[i].row == at) {
            print_claim(sheet, &sheet->claims[i]);
        }
    }
    fflush(stdout);
}

void sheet_print_claims(const struct sheet *sheet)
{
    size_t held = 0;
    for (size_t i = 0; i < sheet->claim_count; i++) {
        held += sheet->claims[i].held;
    }
    printf("\n%zu of %zu claims held\n", held, sheet->claim_count);
}

// ---- JSON ---------------------------------------------------------------------------------------

static void put(json_t *to, const char *name, json_t *value)
{
    CHECK(json_object_set_new(to, name, value) == 0);
}

static json_t *ratio_json(const struct sheet_ratio *ratio)
{
    json_t *to = json_object();
    put(to, "median", json_real(ratio->median));
    put(to, "quartile_low", json_real(ratio->low));
    put(to, "quartile_high", json_real(ratio->high));
    put(to, "least", json_real(ratio->least));
    put(to, "most", json_real(ratio->most));
    return to;
}

static json_t *row_json(const struct sheet_row *row)
{
    json_t *to = json_object(), *sides = json_object();
    put(to, "section", json_string(row->section));
    put(to, "what", json_string(row->what));
    put(to, "unit", json_string(row->unit));
    put(to, "base", json_string(base_name(row)));
    for (size_t side = 0; side < row->count; side++) {
        struct sheet_ratio ratio = sheet_ratio(row, side);
        json_t *one = json_object(), *rounds = json_array();
        for (size_t i = 0; i < row->sides[side].rounds; i++) {
            json_array_append_new(rounds, json_real(row->sides[side].figures[i]));
        }
        put(one, "rounds", rounds);
        put(one, "median", json_real(sheet_median(&row->sides[side])));
        put(one, "ratio_to_base", ratio.rounds > 0 ? ratio_json(&ratio) : json_null());
        put(sides, row->sides[side].name, one);
    }
    put(to, "sides", sides);
    return to;
}

bool sheet_write_json(const struct sheet *sheet, const char *directory, const char *name)
{
    json_t *to = json_object(), *notes = json_array(), *rows = json_array();
    json_t *claims = json_array();
    for (size_t i = 0; i < sheet->note_count; i++) {
        json_array_append_new(notes, json_string(sheet->notes[i]));
    }
    for (size_t i = 0; i < sheet->row_count; i++) {
        json_array_append_new(rows, row_json(&sheet->rows[i]));
    }
    for (size_t i = 0; i < sheet->claim_count; i++) {
        char *text = claim_text(sheet, &sheet->claims[i]);
        json_t *one = json_object();
        put(one, "claim", json_string(text));
        put(one, "held", json_boolean(sheet->claims[i].held));
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

void sheet_close(struct sheet *sheet)
{
    for (size_t i = 0; i < sheet->row_count; i++) {
        mem_free(sheet->rows[i].what);
    }
    for (size_t i = 0; i < sheet->note_count; i++) {
        mem_free(sheet->notes[i]);
    }
}
