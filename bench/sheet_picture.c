// SPDX-License-Identifier: Apache-2.0
// The picture of a sheet: for each row that has a base its sides as lines from the least to the
// most of their ratios to it, with a dot at the median, all on one logarithmic axis.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/sheet.h"
#include "common/base/mem.h"

#define LABEL_WIDTH 430
#define AXIS_WIDTH 520
#define ROW_HEIGHT 20
#define SIDE_HEIGHT 13
#define TOP (92 + 16 * (LEGEND_LINES - 2))
#define LEGEND_COLUMNS 4
#define LEGEND_LINES 6
#define LEGEND_WIDTH 240
#define MARGIN 60 // to the right, and below

static const char *const colours[] = {"#1f6feb", "#d9480f", "#2b8a3e", "#862e9c",
                                      "#e8a500", "#0b7285", "#c2255c", "#5c4a1f",
                                      "#74b816", "#15aabf", "#7048e8", "#f06595",
                                      "#868e96", "#212529", "#b08968", "#364fc7",
                                      "#087f5b", "#a61e4d", "#e67700", "#5f3dc4",
                                      "#66a80f", "#1098ad", "#9c36b5", "#495057"};

// Powers of two that the axis shows, 1 and all quartiles among them; what is beyond is cut off.
struct axis {
    double low, high;
};

// Sides of the whole sheet in the order of their first row: each has a colour.
struct legend {
    const char *names[ARRAY_LEN(colours)];
    size_t count;
};

static size_t colour_of(struct legend *legend, const char *name)
{
    for (size_t i = 0; i < legend->count; i++) {
        if (strcmp(legend->names[i], name) == 0) {
            return i;
        }
    }
    CHECK(legend->count < ARRAY_LEN(colours));
    legend->names[legend->count] = name;
    return legend->count++;
}

static bool is_shown(const struct sheet_row *row, size_t side, struct sheet_ratio *ret_ratio)
{
    *ret_ratio = sheet_ratio(row, side);
    return side != row->base && ret_ratio->rounds > 0 && ret_ratio->least > 0;
}

static size_t shown_sides(const struct sheet_row *row)
{
    size_t count = 0;
    struct sheet_ratio ratio;
    for (size_t side = 0; side < row->count; side++) {
        count += is_shown(row, side, &ratio);
    }
    return count;
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

static void draw_side(FILE *to, const struct axis *axis, double y, const struct sheet_ratio *ratio,
                      const char *colour)
{
    fprintf(to,
            "<line x1='%.1f' y1='%.1f' x2='%.1f' y2='%.1f' stroke='%s' stroke-width='2'/>"
            "<circle cx='%.1f' cy='%.1f' r='4' fill='%s'/>"
            "<text x='%.1f' y='%.1f' font-size='10' fill='%s'>%.3g</text>\n",
            place(axis, ratio->least), y, place(axis, ratio->most), y, colour,
            place(axis, ratio->median), y, colour, place(axis, ratio->most) + 6, y + 3, colour,
            ratio->median);
}

// Returns where the next row begins.
static double draw_row(FILE *to, const struct axis *axis, struct legend *legend,
                       const struct sheet_row *row, double y)
{
    size_t sides = shown_sides(row);
    if (sides == 0) {
        return y;
    }
    fprintf(to,
            "<text x='16' y='%.0f'>%s</text>\n"
            "<text x='%d' y='%.0f' text-anchor='end' fill='#555' font-size='9'>%s, x %s</text>\n",
            y + 10, row->what, LABEL_WIDTH - 12, y + 22, row->unit, row->sides[row->base].name);
    struct sheet_ratio ratio;
    size_t line = 0;
    for (size_t side = 0; side < row->count; side++) {
        if (is_shown(row, side, &ratio)) {
            const char *colour = colours[colour_of(legend, row->sides[side].name)];
            draw_side(to, axis, y + 6 + SIDE_HEIGHT * (double)line++, &ratio, colour);
        }
    }
    return y + ROW_HEIGHT + SIDE_HEIGHT * (double)(sides > 1 ? sides - 1 : 1);
}

static void draw(FILE *to, const struct sheet *sheet)
{
    struct axis axis = axis_of(sheet);
    struct legend legend = {.count = 0};
    double height = TOP + 10;
    for (size_t i = 0; i < sheet->row_count; i++) {
        size_t sides = shown_sides(&sheet->rows[i]);
        height += sides > 0 ? ROW_HEIGHT + SIDE_HEIGHT * (double)(sides > 1 ? sides - 1 : 1) : 0;
    }
    fprintf(to,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%.0f' "
            "font-family='sans-serif' font-size='11'>\n"
            "<rect width='100%%' height='100%%' fill='white'/>\n"
            "<text x='16' y='24' font-size='16'>%s, as ratios round by round</text>\n"
            "<text x='16' y='%d' fill='#555'>lines: all rounds, dots: medians; of times less is "
            "better, of look-ups more</text>\n",
            LABEL_WIDTH + AXIS_WIDTH + MARGIN, height + MARGIN, sheet->title, TOP - 12);
    draw_axis(to, &axis, height);
    double y = TOP + 10;
    for (size_t i = 0; i < sheet->row_count; i++) {
        y = draw_row(to, &axis, &legend, &sheet->rows[i], y);
    }
    for (size_t i = 0; i < legend.count; i++) {
        int x = 16 + LEGEND_WIDTH * (int)(i % LEGEND_COLUMNS);
        int line = 42 + 16 * (int)(i / LEGEND_COLUMNS);
        fprintf(to, "<circle cx='%d' cy='%d' r='4' fill='%s'/><text x='%d' y='%d'>%s</text>\n",
                x + 4, line - 4, colours[i], x + 14, line, legend.names[i]);
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
