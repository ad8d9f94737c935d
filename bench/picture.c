// SPDX-License-Identifier: Apache-2.0
#include "bench/picture.h"

#include <math.h>
#include <stdio.h>

#include "common/base/mem.h"

#define PANEL_WIDTH 270
#define PANEL_HEIGHT 150
#define GAP_X 60
#define GAP_Y 62
#define MARGIN_LEFT 70
#define MARGIN_TOP 84
#define MARGIN_BOTTOM 24
#define WIDTH_LEAST 540 // the title's

static const char *const colours[SIDE_COUNT] = {"#1f6feb", "#d9480f"};
static const char *const names[SIDE_COUNT] = {"replica", "proxy"};

// The decades of nanoseconds that all panels show.
struct scale {
    double low, high; // powers of ten
};

struct panel {
    double x, y; // its upper left corner
};

static struct scale scale_of(const struct roles *roles)
{
    uint64_t least = UINT64_MAX, most = 1;
    for (size_t i = 0; i < roles->site_count; i++) {
        for (size_t j = 0; j < roles->sites[i].cell_count; j++) {
            for (size_t k = 0; k < SIDE_COUNT * roles->options.runs; k++) {
                const struct side *side = &roles->sites[i].cells[j].sides[k % SIDE_COUNT];
                uint64_t ns = side->p999_ns[k / SIDE_COUNT];
                least = ns > 0 ? u64_min(least, ns) : least;
                most = u64_max(most, ns);
            }
        }
    }
    return (struct scale){
        .low = floor(log10((double)u64_min(least, most))),
        .high = ceil(log10((double)most + 1)),
    };
}

static double height_of(const struct scale *scale, double ns)
{
    double part = (log10(ns > 1 ? ns : 1) - scale->low) / (scale->high - scale->low);
    return PANEL_HEIGHT * (1 - fmin(fmax(part, 0), 1));
}

static void draw_grid(FILE *to, const struct scale *scale, struct panel at, bool labels)
{
    for (double power = scale->low; power <= scale->high; power++) {
        double y = at.y + height_of(scale, pow(10, power));
        fprintf(to, "<line x1='%.0f' y1='%.1f' x2='%.0f' y2='%.1f' stroke='#ddd'/>\n", at.x, y,
                at.x + PANEL_WIDTH, y);
        if (labels) {
            bool small = power < 6;
            fprintf(to, "<text x='%.0f' y='%.1f' text-anchor='end'>%g %s</text>\n", at.x - 6,
                    y + 4, pow(10, power - (small ? 3 : 6)), small ? "us" : "ms");
        }
    }
}

static void draw_side(FILE *to, const struct scale *scale, struct panel at, const struct side *side,
                      uint64_t runs, const char *colour)
{
    double step = PANEL_WIDTH / (double)(runs > 1 ? runs - 1 : 1);
    fprintf(to, "<polyline fill='none' stroke='%s' stroke-width='2' points='", colour);
    for (uint64_t i = 0; i < runs; i++) {
        fprintf(to, "%.1f,%.1f ", at.x + step * (double)i,
                at.y + height_of(scale, (double)side->p999_ns[i]));
    }
    fprintf(to, "'/>\n");
}

static void draw_cell(FILE *to, const struct scale *scale, struct panel at,
                      const struct roles *roles, const struct site *site, const struct cell *cell)
{
    uint64_t runs = roles->options.runs;
    fprintf(to,
            "<text x='%.0f' y='%.0f' font-weight='bold'>working set %llu %%, %s, %llu writes/s"
            "</text>\n"
            "<text x='%.0f' y='%.0f' fill='#555'>proxy / replica: median %.2f of %llu pairs"
            "</text>\n",
            at.x, at.y - 24, (unsigned long long)site->percent, cell->uniform ? "uniform" : "Zipf",
            (unsigned long long)cell->writes, at.x, at.y - 9,
            cell->ratio[(size_t)(0.5 * (double)(runs - 1) + 0.5)], (unsigned long long)runs);
    for (int side = 0; side < SIDE_COUNT; side++) {
        draw_side(to, scale, at, &cell->sides[side], runs, colours[side]);
    }
}

static void draw_head(FILE *to, int width, int height)
{
    fprintf(to,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
            "font-family='sans-serif' font-size='11'>\n"
            "<rect width='100%%' height='100%%' fill='white'/>\n"
            "<text x='16' y='24' font-size='16'>p99.9 of look-ups on a replica and on a proxy, "
            "run by run</text>\n",
            width, height);
    for (int side = 0; side < SIDE_COUNT; side++) {
        fprintf(to,
                "<line x1='%d' y1='40' x2='%d' y2='40' stroke='%s' stroke-width='2'/>"
                "<text x='%d' y='44'>%s</text>\n",
                16 + 90 * side, 40 + 90 * side, colours[side], 46 + 90 * side, names[side]);
    }
    fprintf(to, "<text x='%d' y='44' fill='#555'>pairs of runs from left to right</text>\n",
            16 + 90 * SIDE_COUNT);
}

static void draw(FILE *to, const struct roles *roles)
{
    struct scale scale = scale_of(roles);
    size_t columns = roles->options.writes_count;
    size_t kinds = (size_t)roles->options.zipf + (size_t)roles->options.uniform;
    size_t rows = kinds * roles->site_count;
    int width = MARGIN_LEFT + (int)columns * (PANEL_WIDTH + GAP_X);
    int height = MARGIN_TOP + (int)rows * (PANEL_HEIGHT + GAP_Y) - GAP_Y + MARGIN_BOTTOM;
    draw_head(to, width > WIDTH_LEAST ? width : WIDTH_LEAST, height);
    for (size_t i = 0; i < roles->site_count; i++) {
        const struct site *site = &roles->sites[i];
        for (size_t j = 0; j < site->cell_count; j++) {
            size_t row = i * kinds + j / columns, column = j % columns;
            struct panel at = {
                .x = MARGIN_LEFT + (double)(column * (PANEL_WIDTH + GAP_X)),
                .y = MARGIN_TOP + (double)(row * (PANEL_HEIGHT + GAP_Y)),
            };
            draw_grid(to, &scale, at, column == 0);
            draw_cell(to, &scale, at, roles, site, &site->cells[j]);
        }
    }
    fprintf(to, "</svg>\n");
}

bool picture_write(const struct roles *roles)
{
    char *path = mem_format("%s/%s.svg", roles->options.out, roles->options.name);
    FILE *file = fopen(path, "we");
    if (file != NULL) {
        draw(file, roles);
    }
    bool written = file != NULL && !ferror(file);
    written = file != NULL && fclose(file) == 0 && written;
    if (!written) {
        fprintf(stderr, "qs-bench: %s cannot be written\n", path);
    }
    mem_free(path);
    return written;
}
