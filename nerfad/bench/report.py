"""A result as a page: tables with rays per second first, roofs, targets, where others are better, plots."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from nerfad.bench import ceilings, results
from nerfad.bench.contender import NOT_CACHED
from nerfad.bench.targets import verdicts
from nerfad.engine.report_charts import Line, line_chart
from nerfad.io.atomic import atomic_write

COLOURS = ("#2f6fed", "#e0662f", "#2a9d73", "#8a5cd6")
STYLE = (
    "svg{background:#fff;font-family:system-ui,sans-serif}.grid{stroke:#e3e6ec}"
    ".tick,.axis,.legend{fill:#5d6675;font-size:11px}.line{fill:none;stroke-width:1.8}"
    + "".join(f".c{k}{{stroke:{colour}}}.f{k}{{fill:{colour}}}" for k, colour in enumerate(COLOURS, 1))
)


def write(record: dict, out: Path) -> None:
    """Writes the page of a `merge.merged` record, and its plots into images/ beside it."""
    folder = out.parent / "images"
    plots = []
    for sweep in SWEEPS:
        points = record["sweeps"].get(sweep.name)
        if points:
            with atomic_write(folder / f"performance-{sweep.name}.svg", "w") as file:
                file.write(chart(sweep, points))
            image = f"![{sweep.title}](images/performance-{sweep.name}.svg)\n"
            plots += [f"### {sweep.title.capitalize()}\n", image, sweep_table(sweep, points)]
    with atomic_write(out, "w") as file:
        file.write(page(record, plots))


def page(record: dict, plots: list[str]) -> str:
    parts = [_head(record), "## Targets\n", _targets(record)]
    if any(r["group"].startswith("frame-") for r in record["results"]):
        parts += ["## Frames\n", _frames(record)]
    parts += ["## Roofs\n", _roofs(record), "## What limits each kernel\n", _limits(record)]
    parts += ["## Where others are better\n", _better(record)]
    if plots:
        parts += ["## How the cost grows\n", *plots]
    parts += ["## All figures\n", *_tables(record), "## Ratios\n", _ratios(record)]
    return "\n".join(parts).rstrip() + "\n"


def markdown(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = list(head)
    rows = [head, ["---"] * len(head), *map(list, lines)]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"
    )


def _head(record: dict) -> str:
    quick = "\n**A quick run on tiny inputs: these are no measurements.**\n" if record["quick"] else ""
    scene = "".join(
        f"- {size}²: {c['rays']:,} rays, {c['rays_hit']:,} hit, {c['samples']:,} samples, "
        f"{c['samples_after_termination']:,} of them before the early stop\n"
        for size, c in record["scene"].items()
    )
    gpu = "" if record["device"] == "cuda" else "\n**No GPU figure has been measured yet.**\n"
    pinned = "threads pinned" if all(record["pinned"].values()) else "threads not pinned"
    return (
        f"# Performance\n\nMade by `python -m nerfad.bench --report` on {record['gpu'] or record['cpu']}, "
        f"{record['cores']} cores, best instruction set {record['isa']}, {pinned}; torch "
        f"{record['versions']['torch']}, Python {record['versions']['python']}; from\n\n{_sources(record)}"
        f"{quick}{gpu}\n"
        "Every contender first had to match a float64 reference on the same weights, rays and occupancy; one "
        'that did not is listed as "mismatch" without a time. "eager" is the fastest of the plain-torch '
        'variants, "compile" the same under torch.compile in its best mode, "RAD-style" the loop of RAD-NeRF '
        "on our own ops. Figures are medians of interleaved rounds, which begin with a call that is not "
        "timed unless one call fills them; a round that other work disturbed is measured again. A figure "
        "marked † stayed disturbed, and no ratio with it counts.\n\n"
        f"The bench head:\n\n{scene}"
    )


def _sources(record: dict) -> str:
    """The runs, and a warning where they are not of the same code."""
    runs = record["runs"]
    lines = "".join(
        f"- `{run['command']}`: commit {run['commit']}{' with local changes' if run['dirty'] else ''}, "
        f"{run['rounds']} rounds\n"
        for run in runs
    )
    if len({run["commit"] for run in runs}) > 1:
        lines += "\n**These runs are of different commits.**\n"
    return lines


def _frames(record: dict) -> str:
    """Frames per second of our kernels with the most threads."""
    threads = max(record["threads"])
    lines = []
    for r in record["results"]:
        ours = r["contender"] == results.OURS or r["contender"] == NOT_CACHED
        if r["group"].startswith("frame-") and r["status"] == "ok" and ours and r["threads"] == threads:
            rates = [f"{r[k] / 1e6:.3f} M" for k in ("rays_per_s", "hit_rays_per_s")]
            lines.append([r["group"], label(r), *rates, f"{1 / r['median_s']:.1f}"])
    text = f"From rays to colours, early termination included; threads: {threads}.\n\n"
    return text + markdown(["frame", "kernel", "rays/s", "rays that hit/s", "FPS"], lines)


def _roofs(record: dict) -> str:
    threads = list(record["ceilings"])
    lines = []
    for name in record["ceilings"][threads[0]]:
        unit, scale = ceilings.UNITS[name.split()[0]]
        lines.append([name, unit, *(f"{record['ceilings'][n][name] / scale:,.1f}" for n in threads)])
    return markdown(["roof", "unit", *(f"threads: {n}" for n in threads)], lines)


def _targets(record: dict) -> str:
    if record["quick"]:
        return "They are for full inputs.\n"
    lines = [[v.what, v.target, v.found, v.text] for v in verdicts(record)]
    if not lines:
        return "This run measured none of them.\n"
    why = "What limits the kernels, and what was tried where a target is missed: [kernels.md](kernels.md).\n"
    return markdown(["", "target", "measured", ""], lines) + "\n" + why


def _fastest(record: dict, group: str, mine: bool) -> dict | None:
    """The fastest contender with the most threads."""
    rows = [r for r in record["results"] if r["group"] == group and r["status"] == "ok"]
    rows = [r for r in rows if (r["contender"] == results.OURS) is mine]
    most = max((r["threads"] for r in rows), default=0)
    return min((r for r in rows if r["threads"] == most), key=lambda r: r["median_s"], default=None)


def _groups(record: dict) -> list[str]:
    return list(dict.fromkeys(r["group"] for r in record["results"]))


def _limits(record: dict) -> str:
    lines = []
    for group in _groups(record):
        row = _fastest(record, group, mine=True)
        if row and row.get("roof"):
            share = row["roof"]["share"]
            lines.append([group, label(row), row["roof"]["name"], f"{share:.0%}", f"{1 / share:.1f}×"])
    text = "The roof is the one that the work, counted at its least, would take longest under.\n\n"
    return text + markdown(["group", "kernel", "limiting roof", "share", "distance"], lines)


def _better(record: dict) -> str:
    lines = []
    for group in _groups(record):
        mine, other = _fastest(record, group, mine=True), _fastest(record, group, mine=False)
        if mine and other and other["median_s"] < mine["median_s"]:
            lines.append([group, label(other), f"{mine['median_s'] / other['median_s']:.2f}×"])
    return (
        markdown(["group", "faster than ours", "by"], lines) if lines else "Nowhere among these contenders.\n"
    )


def shown(contender: str) -> str:
    """Our own kernels by their name: "ours, op by op" is "nerfad, op by op"."""
    return (
        "nerfad" + contender.removeprefix(results.OURS) if contender.startswith(results.OURS) else contender
    )


def label(row: dict) -> str:
    name = shown(row["contender"]) + (f" [{row['isa']}]" if row["isa"] else "")
    name += f" {row['precision']}" if row["precision"] != "float32" else ""
    return name + _mark(row)


def _mark(figure: dict) -> str:
    return " †" if figure.get("contended") else ""


def _tables(record: dict) -> list[str]:
    head = [
        "contender",
        "threads",
        "rays/s",
        "rays that hit/s",
        "samples/s",
        "ms",
        "IQR",
        "min",
        "share of roof",
    ]
    parts = []
    for group in _groups(record):
        lines = []
        for r in (r for r in record["results"] if r["group"] == group):
            if r["status"] != "ok":
                lines.append(
                    [label(r), str(r["threads"]), f"{r['status']}: {r['reason']}", *[""] * (len(head) - 3)]
                )
                continue
            rates = [
                f"{r[k] / 1e6:.3f} M" if r[k] else ""
                for k in ("rays_per_s", "hit_rays_per_s", "samples_per_s")
            ]
            times = [f"{1e3 * r[k]:.2f}" for k in ("median_s", "iqr_s", "min_s")]
            share = f"{r['roof']['share']:.0%}" if r.get("roof") else ""
            lines.append([label(r), str(r["threads"]), *rates, *times, share])
        parts.append(f"### {group}\n\n{markdown(head, lines)}")
    return parts


def _ratios(record: dict) -> str:
    lines = []
    for e in record["ratio_table"]:
        factors = [f"{e['wall']:.2f}×", f"{e['cpu']:.2f}×", "contended" if e["contended"] else ""]
        lines.append([e["ratio"], e["isa"] or "", e["precision"], str(e["threads"]), *factors])
    return markdown(["ratio", "instruction set", "precision", "threads", "wall", "CPU time", ""], lines)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """How a sweep of the run is shown; `rate` is the key of its points that is plotted."""

    name: str
    x_label: str
    x: Callable[[dict], float]
    rate: str
    plotted: Callable[[float], float] = float

    @property
    def what(self) -> str:
        return "million samples a second" if self.rate == "samples_per_s" else "million rays a second"

    @property
    def title(self) -> str:
        return f"{self.what} against {self.x_label}"


SWEEPS = (
    Sweep("samples", "samples in a batch", lambda p: p["samples"], "samples_per_s", math.log2),
    Sweep("resolution", "side of the picture", lambda p: p["size"], "rays_per_s"),
    Sweep("steps", "samples of a ray that hits", lambda p: p["samples_per_hit"], "rays_per_s"),
    Sweep("threads", "threads", lambda p: p["threads"], "rays_per_s"),
)


def _series(points: list[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for p in points:
        contender = p.get("contender", results.OURS)
        name = shown(contender)
        found.setdefault(f"{name}, {p['pass']}" if "pass" in p else name, []).append(p)
    return found


def chart(sweep: Sweep, points: list[dict]) -> str:
    """The sweep as an SVG file."""
    lines = [
        Line(key, [sweep.plotted(sweep.x(p)) for p in ps], [p[sweep.rate] / 1e6 for p in ps], f"c{k}")
        for k, (key, ps) in enumerate(_series(points).items(), 1)
    ]
    x_label = f"log2 of the {sweep.x_label}" if sweep.plotted is math.log2 else sweep.x_label
    return standalone(line_chart(lines, x_label, sweep.what, title=sweep.title), lines)


def sweep_table(sweep: Sweep, points: list[dict]) -> str:
    series = _series(points)
    places = sorted({sweep.x(p) for p in points})
    lines = []
    for place in places:
        at = {key: p for key, ps in series.items() for p in ps if sweep.x(p) == place}
        rates = [f"{at[k][sweep.rate] / 1e6:.3f} M{_mark(at[k])}" if k in at else "" for k in series]
        lines.append([f"{place:,.1f}".removesuffix(".0"), *rates])
    unit = "samples/s" if sweep.rate == "samples_per_s" else "rays/s"
    return markdown([sweep.x_label, *(f"{key}, {unit}" for key in series)], lines)


def standalone(chart: str, lines: list[Line]) -> str:
    """A chart of the report as a file of its own: with colours, and the legend within."""
    svg = chart.partition('<div class="legend">')[0]
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    start = svg.index(">") + 1
    legend = "".join(
        f'<text class="legend f{line.colour[1:]}" x="70" y="{26 + 14 * k}">{html.escape(line.name)}</text>'
        for k, line in enumerate(lines)
    )
    return f"{svg[:start]}<style>{STYLE}</style>{svg[start:].removesuffix('</svg>')}{legend}</svg>\n"
