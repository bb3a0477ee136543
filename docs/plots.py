"""Draw the plots of the page on growth from the figures in ``docs/data``, as SVG.

``make plots`` runs it. The plots are kept in the repository, so that the documentation needs no
tool for them; a test checks that they show the figures.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
WIDTH, HEIGHT = 640, 360
# Left, right, top, bottom.
LEFT, RIGHT, TOP, BOTTOM = 70, 240, 30, 50
COLOURS = ('#1b6ca8', '#c0392b', '#2e8b57', '#8e44ad', '#d68910', '#555555')

Series = Mapping[str, Sequence[tuple[float, float]]]


def _ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten around a range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _text(x: float, y: float, text: str, **attributes: str) -> str:
    marks = ''.join(f' {name.replace("_", "-")}="{each}"' for name, each in attributes.items())
    return f'<text x="{x:.0f}" y="{y:.0f}"{marks}>{escape(text)}</text>'


def plot(title: str, across: str, up: str, series: Series) -> str:
    """Return a plot with logarithmic axes.

    Args:
        title (str): over the plot.
        across (str): what the x axis is.
        up (str): what the y axis is.
        series (Series): points by the names of their lines.
    """
    points = [point for line in series.values() for point in line]
    xs, ys = (_ticks(min(each), max(each)) for each in zip(*points, strict=True))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(value: float, ticks: Sequence[float], start: float, end: float) -> float:
        low, high = math.log10(ticks[0]), math.log10(ticks[-1])
        return start + (math.log10(value) - low) / (high - low) * (end - start)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        '<style>text {font: 12px sans-serif}</style>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 18, title, font_weight='bold'),
        _text((LEFT + right) / 2, HEIGHT - 12, across, text_anchor='middle'),
        _text(12, TOP + 10, up),
    ]
    for tick in xs:
        x = at(tick, xs, LEFT, right)
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#ddd"/>')
        parts.append(_text(x, bottom + 18, f'{tick:,.0f}', text_anchor='middle'))
    for tick in ys:
        y = at(tick, ys, bottom, TOP)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f'{tick:,g}', text_anchor='end'))
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(at(x, xs, LEFT, right), at(y, ys, bottom, TOP)) for x, y in line]
        path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        y = TOP + 14 + 18 * number
        parts.append(f'<rect x="{right + 14}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(right + 30, y, name))
    return '\n'.join([*parts, '</svg>']) + '\n'


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / 'data' / name).open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def _series(rows: Sequence[Mapping[str, str]], x: str, *columns: str) -> Series:
    """Return a line for each database and column."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for column in columns:
            name = row['database'] if len(columns) == 1 else f'{row["database"]}: {column}'
            series.setdefault(name, []).append((float(row[x]), float(row[column])))
    return series


def plots() -> dict[str, str]:
    """Return all plots by the names of their files."""
    growth, vanish = _rows('growth.csv'), _rows('vanish.csv')
    calls = ('placement in a frame of 100', 'report of a farmer')
    for row in vanish:
        row['database'] += ', two at a time' if row['vanish at a time'] == '2' else ', all at once'
    return {
        'growth-calls.svg': plot(
            'Calls of an upload', 'files in the database', 'ms', _series(growth, 'files', *calls)
        ),
        'growth-listing.svg': plot(
            'A page of a listing',
            'files in the database',
            'ms',
            _series(growth, 'files', 'page of a listing'),
        ),
        'growth-repairs.svg': plot(
            '30 % of the farmers vanish: until all copies are back',
            'farmers',
            's',
            _series(vanish, 'farmers', 'seconds'),
        ),
    }


def main() -> None:
    """Write the plots."""
    for name, text in plots().items():
        (HERE / 'images' / name).write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
