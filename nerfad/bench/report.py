"""A result as a page: tables with rays per second first, roofs, targets, where others are better, plots."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from pathlib import Path

from nerfad.bench import ceilings, results
from nerfad.bench.targets import verdicts
from nerfad.engine.report_charts import Line, line_chart
from nerfad.io.atomic import atomic_write

COLOURS = ("#2f6fed", "#e0662f", "#2a9d73", "#8a5cd6")
STYLE = (
    "svg{background:#fff;font-family:system-ui,sans-serif}.grid{stroke:#e3e6ec}"
    ".tick,.axis,.legend{fill:#5d6675;font-size:11px}.line{fill:none;stroke-width:1.8}"
    + "".join(f".c{k}{{stroke:{colour}}}.f{k}{{fill:{colour}}}" for k, colour in enumerate(COLOURS, 1))
)
NAMES = {"ours": "nerfad"}


def write(record: dict, out: Path) -> None:
    """Writes the page, and its plots into images/ beside it."""
    folder = out.parent / "images"
    plots = []
    for name, (title, svg) in charts(record).items():
        with atomic_write(folder / f"performance-{name}.svg", "w") as file:
            file.write(svg)
        plots.append(f"![{title}](images/performance-{name}.svg)\n")
    with atomic_write(out, "w") as file:
        file.write(page(record, plots))


def page(record: dict, plots: list[str]) -> str:
    parts = [_head(record), "## Roofs\n", _roofs(record), "## Targets\n", _targets(record)]
    parts += [
        "## What limits each kernel\n",
        _limits(record),
        "## Where others are better\n",
        _better(record),
    ]
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
    dirty = " with local changes" if record["dirty"] else ""
    quick = "\n**A quick run on tiny inputs: these are no measurements.**\n" if record["quick"] else ""
    scene = "".join(
        f"- {size}²: {c['rays']:,} rays, {c['rays_hit']:,} hit, {c['samples']:,} samples, "
        f"{c['samples_after_termination']:,} of them before the early stop\n"
        for size, c in record["scene"].items()
    )
    gpu = "" if record["device"] == "cuda" else "\n**No GPU figure has been measured yet.**\n"
    pinned = "threads pinned" if all(record["pinned"].values()) else "threads not pinned"
    return (
        f"# Performance\n\nMade by `python -m nerfad.bench --report` from a run of `{record['command']}`: "
        f"{record['gpu'] or record['cpu']}, {record['cores']} cores, best instruction set {record['isa']}, "
        f"{pinned}; torch {record['versions']['torch']}, Python {record['versions']['python']}, commit "
        f"{record['commit']}{dirty}. Medians of {record['rounds']} interleaved rounds.\n{quick}{gpu}\n"
        "Every contender first had to match a float64 reference on the same weights, rays and occupancy; one "
        'that did not is listed as "mismatch" without a time. "eager" is the fastest of four plain-torch '
        'variants, "compile" the same under torch.compile in its best mode, "RAD-style" the loop of RAD-NeRF '
        "on our own ops. A figure marked † was disturbed by other work, and no ratio with it counts.\n\n"
        f"The bench head:\n\n{scene}"
    )


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
    lines = [
        [v.what, v.target, v.found, "met" if v.met else f"**missed**: {v.why}" if v.why else "**missed**"]
        for v in verdicts(record)
    ]
    return (
        markdown(["target", "at least", "measured", ""], lines)
        if lines
        else "This run measured none of them.\n"
    )


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


def label(row: dict) -> str:
    name = NAMES.get(row["contender"], row["contender"]) + (f" [{row['isa']}]" if row["isa"] else "")
    name += f" {row['precision']}" if row["precision"] != "float32" else ""
    return name + (" †" if row.get("contended") else "")


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


def charts(record: dict) -> dict[str, tuple[str, str]]:
    """(title, SVG) of every sweep that the run has."""
    found = {}
    axes = {
        "samples": ("log2 of the samples in a batch", lambda p: math.log2(p["samples"]), "samples_per_s"),
        "resolution": ("side of the picture", lambda p: p["size"], "rays_per_s"),
        "steps": ("samples of a ray that hits", lambda p: p["samples_per_hit"], "rays_per_s"),
        "threads": ("threads", lambda p: p["threads"], "rays_per_s"),
    }
    for name, (x_label, x, y) in axes.items():
        points = record["sweeps"].get(name)
        if not points:
            continue
        series: dict[str, list[dict]] = {}
        for p in points:
            series.setdefault(
                f"{NAMES.get(p['contender'], p['contender'])}, {p['pass']}" if "pass" in p else "nerfad", []
            ).append(p)
        lines = [
            Line(key, [x(p) for p in ps], [p[y] / 1e6 for p in ps], f"c{k}")
            for k, (key, ps) in enumerate(series.items(), 1)
        ]
        what = "million samples a second" if y == "samples_per_s" else "million rays a second"
        title = f"{what} against {x_label}"
        found[name] = title, standalone(line_chart(lines, x_label, what, title=title), lines)
    return found


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
