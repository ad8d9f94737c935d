// SPDX-License-Identifier: Apache-2.0
// The picture of a sheet: for each row that has a base its sides as lines from the least to the
// most of their ratios to it, with a dot at the median, all on one logarithmic axis.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/sheet.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

#define LABEL_WIDTH 300
#define AXIS_WIDTH 600
#define TITLE_HEIGHT 20
#define SIDE_HEIGHT 13
#define ROW_GAP 10
#define TOP 62
#define MARGIN 60 // to the right, and below

// A side has the same one everywhere; its name stands beside each of its lines.
static const char *const colours[] = {"#1f6feb", "#d9480f", "#2b8a3e", "#862e9c", "#e8a500",
                                      "#0b7285", "#c2255c", "#5c4a1f", "#7048e8", "#495057"};

// Powers of two that the axis shows, 1 and all quartiles among them; what is beyond is cut off.
struct axis {
    double low, high;
};

static const char *colour_of(const char *name)
{
    return colours[hash64(bytes_of(name, strlen(name)), 0) % ARRAY_LEN(colours)];
}

static bool is_shown(const struct sheet_row *row, size_t side, struct sheet_ratio *ret_ratio)
{
    *ret_ratio = sheet_ratio(row, side);
    return side != row->base && ret_ratio->rounds > 0 && ret_ratio->least > 0;
}

static double row_height(const struct sheet_row *row)
{
    size_t sides = 0;
    struct sheet_ratio ratio;
    for (size_t side = 0; side < row->count; side++) {
        sides += is_shown(row, side, &ratio);
    }
    return sides == 0 ? 0 : TITLE_HEIGHT + SIDE_HEIGHT * (double)sides + ROW_GAP;
}

static struct axis axis_of(const struct sheet *sheet)
{
    struct axis axis = {.low = -1, .high = 1};
    struct sheet_ratio ratio;
    for (size_t i = 0; i < sheet->row_count; i++) {
        for (size_t side = 0; side < sheet->rows[i].count; side++) {
            if (is_shown(&sheet->rows[i], side, &ratio)) {
                axis.low = fmin(axis.low, floor(log2(ratio.low)));
                axis.high = fmax(axis.high, ceil(log2(ratio.high)));
            }
        }
    }
    return axis;
}

static double place(const struct axis *axis, double ratio)
{
    double part = (log2(ratio) - axis->low) / (axis->high - axis->low);
    return LABEL_WIDTH + AXIS_WIDTH * fmin(fmax(part, 0), 1);
}

static void draw_axis(FILE *to, const struct axis *axis, double bottom)
{
    double step = fmax(1, ceil((axis->high - axis->low) / 12));
    for (double power = axis->low; power <= axis->high; power += step) {
        double x = place(axis, pow(2, power));
        fprintf(to,
                "<line x1='%.1f' y1='%d' x2='%.1f' y2='%.0f' stroke='#e4e4e4'/>"
                "<text x='%.1f' y='%.0f' text-anchor='middle' fill='#555'>%.3g x</text>\n",
                x, TOP, x, bottom, x, bottom + 16, pow(2, power));
    }
    double one = place(axis, 1);
    fprintf(to, "<line x1='%.1f' y1='%d' x2='%.1f' y2='%.0f' stroke='#888'/>\n", one, TOP, one,
            bottom);
}

static void draw_side(FILE *to, const struct axis *axis, double y, const char *name,
                      const struct sheet_ratio *ratio)
{
    const char *colour = colour_of(name);
    fprintf(to,
            "<text x='%d' y='%.1f' text-anchor='end' font-size='10' fill='%s'>%s</text>"
            "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='%s' stroke-width='2'/>"
            "<circle cx='%.1f' cy='%.1f' r='4' fill='%s'/>"
            "<text x='%.1f' y='%.1f' font-size='10' fill='%s'>%.3g</text>\n",
            LABEL_WIDTH - 12, y + 3, colour, name, place(axis, ratio->least), y,
            place(axis, ratio->most), y, colour, place(axis, ratio->median), y, colour,
            place(axis, ratio->most) + 6, y + 3, colour, ratio->median);
}

// Returns where the next row begins.
static double draw_row(FILE *to, const struct axis *axis, const struct sheet_row *row, double y)
{
    double height = row_height(row);
    if (height == 0) {
        return y;
    }
    fprintf(to,
            "<text x='16' y='%.0f' font-weight='bold'>%s</text>"
            "<text x='%d' y='%.0f' text-anchor='end' fill='#555' font-size='10'>%s, x %s</text>\n",
            y + 10, row->what, LABEL_WIDTH + AXIS_WIDTH, y + 10, row->unit,
            row->sides[row->base].name);
    struct sheet_ratio ratio;
    double at = y + TITLE_HEIGHT;
    for (size_t side = 0; side < row->count; side++) {
        if (is_shown(row, side, &ratio)) {
            draw_side(to, axis, at, row->sides[side].name, &ratio);
            at += SIDE_HEIGHT;
        }
    }
    return y + height;
}

static void draw(FILE *to, const struct sheet *sheet)
{
    struct axis axis = axis_of(sheet);
    double height = TOP + 10;
    for (size_t i = 0; i < sheet->row_count; i++) {
        height += row_height(&sheet->rows[i]);
    }
    fprintf(to,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%.0f' "
            "font-family='sans-serif' font-size='11'>\n"
            "<rect width='100%%' height='100%%' fill='white'/>\n"
            "<text x='16' y='24' font-size='16'>%s, as ratios round by round</text>\n"
            "<text x='16' y='44' fill='#555'>lines: all rounds, dots: medians; of times less is "
            "better, of look-ups more</text>\n",
            LABEL_WIDTH + AXIS_WIDTH + MARGIN, height + MARGIN, sheet->title);
    draw_axis(to, &axis, height);
    double y = TOP + 10;
    for (size_t i = 0; i < sheet->row_count; i++) {
        y = draw_row(to, &axis, &sheet->rows[i], y);
    }
    fprintf(to, "</svg>\n");
}

bool sheet_write_picture(const struct sheet *sheet, const char *directory, const char *name)
{
    char *path = mem_format("%s/%s.svg", directory, name);
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        draw(file, sheet);
    }
    bool written = file != NULL && !ferror(file);
    written = file != NULL && fclose(file) == 0 && written;
    if (!written) {
        fprintf(stderr, "qs-bench: %s cannot be written\n", path);
    }
    mem_free(path);
    return written;
}
