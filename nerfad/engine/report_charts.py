"""Line charts as inline SVG: no plotting package, crisp at any size, coloured by the page's style."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 640, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 40


@dataclass(frozen=True)
class Line:
    """A curve: y over x, NaN where it is interrupted; `colour` is a CSS class c1..c4."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    colour: str = "c1"


@dataclass(frozen=True)
class Marker:
    """A vertical (`x`) or horizontal (`y`) line with a label."""

    label: str
    x: float | None = None
    y: float | None = None


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Round numbers that cover the range with about `target` steps.

    >>> ticks(0.0, 10.0)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / target
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(lines: Sequence[Line], axis: str, markers: Sequence[Marker] = ()) -> tuple[float, float]:
    values = np.concatenate([np.asarray(getattr(line, axis), np.float64) for line in lines])
    values = np.append(values, [v for m in markers if (v := getattr(m, axis)) is not None])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) if axis == "y" else 0.0
    if high - low < 1e-12:
        pad = max(0.5, abs(high) * 0.1)
    return low - pad, high + pad


def _label(value: float) -> str:
    if abs(value) >= 10000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def _paths(x: np.ndarray, y: np.ndarray) -> str:
    """An SVG path; a NaN lifts the pen."""
    parts, down = [], False
    for a, b in zip(x, y, strict=True):
        if not (math.isfinite(a) and math.isfinite(b)):
            down = False
            continue
        parts.append(f"{'L' if down else 'M'}{a:.1f} {b:.1f}")
        down = True
    return "".join(parts)


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, markers: Sequence[Marker] = (), *, title: str = ""
) -> str:
    """An SVG element with axes, a grid, the curves and a legend (for more than one curve)."""
    (x0, x1), (y0, y1) = _range(lines, "x", markers), _range(lines, "y", markers)

    def to_x(values: Sequence[float] | np.ndarray | float) -> np.ndarray:
        return LEFT + (np.asarray(values, np.float64) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def to_y(values: Sequence[float] | np.ndarray | float) -> np.ndarray:
        return HEIGHT - BOTTOM - (np.asarray(values, np.float64) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    name = html.escape(title or y_label)
    svg = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">']
    for tick in ticks(y0, y1):
        y = float(to_y(tick))
        svg.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        svg.append(
            f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">{_label(tick)}</text>'
        )
    for tick in ticks(x0, x1, 8):
        x, base = float(to_x(tick)), HEIGHT - BOTTOM
        svg.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 4}"/>')
        svg.append(
            f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{_label(tick)}</text>'
        )
    for marker in markers:
        svg.append(_marker(marker, to_x, to_y))
    for line in lines:
        path = _paths(to_x(line.x), to_y(line.y))
        svg.append(
            f'<path class="line {line.colour}" d="{path}"><title>{html.escape(line.name)}</title></path>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    svg.append(
        f'<text class="axis" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    across = (TOP + HEIGHT - BOTTOM) / 2
    svg.append(
        f'<text class="axis" transform="translate(12 {across}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text></svg>"
    )
    legend = "".join(
        f'<span class="key"><i class="{line.colour}"></i>{html.escape(line.name)}</span>' for line in lines
    )
    return "".join(svg) + (f'<div class="legend">{legend}</div>' if len(lines) > 1 else "")


def _marker(marker: Marker, to_x: object, to_y: object) -> str:
    assert callable(to_x) and callable(to_y)
    text = html.escape(marker.label)
    if marker.x is not None:
        x = float(to_x(marker.x))
        return (
            f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="tick" x="{x + 5:.1f}" y="{TOP + 9}">{text}</text>'
        )
    y = float(to_y(marker.y))
    return (
        f'<line class="marker" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{WIDTH - RIGHT}" y="{y - 5:.1f}" text-anchor="end">{text}</text>'
    )
