# SPDX-License-Identifier: Apache-2.0
"""The picture and the table of a run of a large tree, into docs.

Usage: picture.py POINTS TABLE SVG PAGE

POINTS is what `size --points` wrote, TABLE what it printed; SVG is written anew, and what stands
between the two marks of PAGE is replaced by the table.
"""
import math
import pathlib
import sys

WIDTH, HEIGHT = 1200, 420
PANEL, TOP, BOTTOM, LEFT = 330, 60, 360, 60
STEP = 390  # from one panel to the next
MARKS = ((256, "256 ms"), (1000, "1 s"), (2290, "2.29 s"))
COLOURS = ("#1f5fa8", "#c2571a", "#3b7d3b")
FAULTS = ("a site's uplink is cut", "an intermediate loses power", "an intermediate's process ends")
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"


class Panel:
    """One plot: from numbers to places, and the drawing so far."""

    def __init__(self, number, title, x_range, y_range, x_log=False, y_log=False):
        self.left = LEFT + number * STEP
        self.x_range, self.y_range, self.x_log, self.y_log = x_range, y_range, x_log, y_log
        self.parts = [f'<text x="{self.left}" y="{TOP - 22}" class="title">{title}</text>',
                      f'<rect x="{self.left}" y="{TOP}" width="{PANEL}" height="{BOTTOM - TOP}"'
                      ' class="frame"/>']

    def x(self, value):
        low, high = self.x_range
        if self.x_log:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        return self.left + PANEL * min(1, (value - low) / (high - low))

    def y(self, value):
        low, high = self.y_range
        if self.y_log:  # few and many in one plot, and none at all
            value, low, high = math.log1p(value), math.log1p(low), math.log1p(high)
        return BOTTOM - (BOTTOM - TOP) * min(1, (value - low) / (high - low))

    def ticks(self, xs, ys, x_name, y_name):
        for value in xs:
            self.parts.append(f'<text x="{self.x(value):.1f}" y="{BOTTOM + 16}"'
                              f' text-anchor="middle">{value:g}</text>')
        for value in ys:
            y = self.y(value)
            self.parts.append(f'<path d="M{self.left} {y:.1f}h{PANEL}" class="grid"/>'
                              f'<text x="{self.left - 6}" y="{y + 4:.1f}"'
                              f' text-anchor="end">{value:g}</text>')
        self.parts.append(f'<text x="{self.left + PANEL / 2}" y="{BOTTOM + 36}"'
                          f' text-anchor="middle">{x_name}</text>'
                          f'<text x="{self.left}" y="{TOP - 6}">{y_name}</text>')

    def line(self, points, colour, dashed=False):
        places = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}"'
                          f' stroke-width="1.6"{dash}/>')

    def label(self, x, y, text, colour="#333"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{text}</text>')


def read(path):
    rows = {"delay": [], "node": [], "heal": []}
    for line in pathlib.Path(path).read_text().splitlines():
        kind, *numbers = line.split()
        rows[kind].append([int(number) for number in numbers])
    return rows


def delays(rows):
    panel = Panel(0, "From acknowledgement to visible, all nodes", (1, 3000), (0, 100), True)
    panel.ticks((1, 10, 100, 1000), (0, 50, 90, 99), "ms", "% of all timed writes and nodes")
    panel.line([(us / 1000, permille / 10) for us, permille in rows["delay"]], COLOURS[0])
    for number, (ms, text) in enumerate(MARKS):
        panel.line([(ms, 0), (ms, 100)], "#888", True)
        panel.label(panel.x(ms) - 42, TOP + 150 + 16 * number, text, "#666")
    return panel


def nodes(rows):
    most = max(max(slowest, p99) for _, slowest, p99 in rows["node"]) / 1000
    limit = math.ceil(most / 50) * 50
    panel = Panel(1, "Each node: p99 over the slowest round trip on its path", (0, limit),
                  (0, limit))
    ticks = range(0, limit + 1, 50)
    panel.ticks(ticks, ticks, "slowest round trip, ms", "p99, ms")
    places = {(round(panel.x(slowest / 1000)), round(panel.y(p99 / 1000)))
              for _, slowest, p99 in rows["node"]}
    for x, y in sorted(places):
        panel.parts.append(f'<rect x="{x - 1}" y="{y - 1}" width="2" height="2"'
                           f' fill="{COLOURS[0]}" fill-opacity="0.6"/>')
    top = (limit - 2) / 1.5
    panel.line([(0, 2), (top, limit)], COLOURS[1])
    panel.label(panel.x(top) + 6, TOP + 16, "1.5 x + 2 ms", COLOURS[1])
    return panel


def healing(rows):
    most = max([late for *_, late in rows["heal"]] + [lone for *_, lone, _ in rows["heal"]] + [1])
    seconds = max([ms for _, ms, _, _ in rows["heal"]] + [1000]) / 1000
    panel = Panel(2, "After a fault: orphans (dashed), late nodes",
                  (0, math.ceil(seconds)), (0, most * 1.5), y_log=True)
    tens = [10 ** i for i in range(5) if 10 ** i <= most * 1.5]
    panel.ticks(range(0, math.ceil(seconds) + 1), [0] + tens,
                "s since it struck", "nodes")
    for number, name in enumerate(FAULTS):
        points = [(ms / 1000, lone, late) for fault, ms, lone, late in rows["heal"]
                  if fault == number]
        panel.line([(s, lone) for s, lone, _ in points], COLOURS[number], True)
        panel.line([(s, late) for s, _, late in points], COLOURS[number])
        panel.label(panel.left + 130, TOP + 18 + 16 * number, name, COLOURS[number])
    return panel


def draw(rows):
    panels = [delays(rows), nodes(rows)] + ([healing(rows)] if rows["heal"] else [])
    style = ("text{font:12px sans-serif;fill:#333}.title{font-weight:bold}"
             ".frame{fill:none;stroke:#999}.grid{stroke:#ddd;fill:none}")
    body = "\n".join(part for panel in panels for part in panel.parts)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">\n'
            f'<style>{style}</style>\n<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n'
            f"{body}\n</svg>\n")


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    points, table, svg, page = sys.argv[1:]
    pathlib.Path(svg).write_text(draw(read(points)))
    text = pathlib.Path(page).read_text()
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    shown = pathlib.Path(table).read_text().strip()
    pathlib.Path(page).write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}")


if __name__ == "__main__":
    main()
