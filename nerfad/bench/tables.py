"""A run in the terminal: figures in aligned columns."""

from __future__ import annotations

from nerfad.bench import ceilings


def race(figures: list[dict], device: str) -> str:
    """Rays per second first: all pixels, then those that hit something."""
    head = ["contender", "rays/s", "hit rays/s", "samples/s", "ms", "IQR", "min", "CPU ms"]
    head += ["kernel ms"] * (device == "cuda") + ["roof", "share", "notes"]
    lines = [head]
    for f in figures:
        name = f"{f['contender']} [{f['isa']}]" if f["isa"] else f["contender"]
        if f["precision"] != "float32":
            name += f" {f['precision']}"
        if f["status"] != "ok":
            lines.append([name, f["status"], *[""] * (len(head) - 3), f["reason"]])
            continue
        rates = [millions(f[k]) for k in ("rays_per_s", "hit_rays_per_s", "samples_per_s")]
        times = [f"{1e3 * f[k]:.3f}" for k in ("median_s", "iqr_s", "min_s", "cpu_median_s")]
        if device == "cuda":
            times.append(f"{1e3 * f['kernel_median_s']:.3f}")
        roof = f.get("roof") or {"name": "", "share": 0.0}
        share = f"{roof['share']:.0%}" if roof["name"] else ""
        notes = ", ".join(x for x in (f["variant"], "contended" * f["contended"]) if x)
        lines.append([name, *rates, *times, roof["name"], share, notes])
    return aligned(lines)


def millions(rate: float) -> str:
    return f"{rate / 1e6:.3f} M" if rate else ""


def counted(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n > 1)}"


def roofs(threads: int, rates: ceilings.Ceilings, pinned: bool) -> str:
    lines = [f"roofs, {counted(threads, 'thread')}{'' if pinned else ', not pinned'}:"]
    for name, rate in rates.items():
        unit, scale = ceilings.UNITS[name.split()[0]]
        lines.append(f"  {name:16} {rate / scale:12,.1f} {unit}")
    return "\n".join(lines)


def aligned(lines: list[list[str]]) -> str:
    """Columns of a table, the first one to the left."""
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]

    def one(line: list[str]) -> str:
        cells = [
            line[0].ljust(widths[0]),
            *(c.rjust(w) for c, w in zip(line[1:-1], widths[1:-1], strict=True)),
        ]
        return "  ".join([*cells, line[-1]]).rstrip()

    return "\n".join(map(one, lines))
