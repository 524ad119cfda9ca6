"""The CPU targets of the project, and whether a result meets them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nerfad.bench.contender import NOT_CACHED

BF16 = ("amx",)  # the instruction sets whose targets are for bfloat16 networks
RATIOS = [  # (ratio, instruction set, at least)
    ("field-fwd/eager", "avx2", 11.0),
    ("field-fwd/compile", "avx2", 6.0),
    ("field-fwd/eager", "avx512", 16.0),
    ("field-fwd/compile", "avx512", 8.0),
    ("field-fwd/eager", "amx", 42.0),
    ("field-fwd/compile", "amx", 22.0),
    ("field-fwdbwd/eager", "avx2", 8.0),
    ("field-fwdbwd/eager", "avx512", 14.0),
    ("field-fwdbwd/eager", "amx", 34.0),
    ("train-step/eager", "avx512", 15.0),
    ("train-step/eager", "amx", 30.0),
]
MLP_SHARES = [("avx2", 0.8), ("avx512", 0.7)]
FRAMES_PER_S = [  # (group, instruction set, at least)
    ("frame-512", "avx512", 15.0),
    ("frame-512", "amx", 35.0),
    ("frame-512-cached", "amx", 60.0),
]
FRAMES = {
    "frame-512": "512² frame, head moving",
    "frame-512-cached": "512² frame at a fixed pose, from the cache",
}
THREADS_2 = 1.8
CACHED = 1.7  # rate of a frame from the cache over that of the same frame rendered anew
FLAT = 0.2  # spread of the cost per sample over the batch sizes
SAME_MEMORY = 1.1  # peak of a frame with many samples over that of one with few
BF16_PSNR = 50.0  # dB
BUSY = "the machine was busy: measure again"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`met` is None where nothing counts: not on this machine, or disturbed."""

    what: str
    target: str
    found: str
    met: bool | None
    why: str = ""  # where it is missed, or does not count

    @property
    def text(self) -> str:
        if self.met is None:
            return self.why
        return "met" if self.met else f"**missed**: {self.why}" if self.why else "**missed**"


def verdicts(record: dict) -> Iterator[Verdict]:
    """Every target that the run measured, and those that it would have measured on another machine."""
    yield from _mlp_shares(record)
    yield from _ratios(record)
    yield from _frames(record)
    yield from _cached(record)
    if {1, 2} <= set(record["threads"]):
        yield from _scaling(record)
    yield from _flatness(record)
    yield from _memory(record)
    yield from _bfloat16(record)


def _ours(record: dict, group: str, isa: str, threads: int) -> dict | None:
    precision = "bfloat16" if isa in BF16 else "float32"
    for r in record["results"]:
        same = (r["group"], r["isa"], r["precision"], r["threads"]) == (group, isa, precision, threads)
        if r["contender"] == "ours" and r["status"] == "ok" and same:
            return r
    return None


def _verdict(what: str, target: str, found: str, met: bool, contended: bool, row: dict | None) -> Verdict:
    """A figure with what holds it back, as far as the run tells; none counts that was disturbed."""
    if contended:
        return Verdict(what, target, found, None, BUSY)
    roof = row.get("roof") if row and not met else None
    why = f"the kernel is at {roof['share']:.0%} of its roof ({roof['name']})" if roof else ""
    return Verdict(what, target, found, met, why)


def _elsewhere(record: dict, group: str, isa: str, what: str, target: str) -> Iterator[Verdict]:
    """A target that the run would have measured, had the machine that instruction set."""
    if isa not in record["isas"] and any(r["group"] == group for r in record["results"]):
        yield Verdict(what, target, "–", None, f"not measured: this machine has no {isa}")


def _mlp_shares(record: dict) -> Iterator[Verdict]:
    for isa, share in MLP_SHARES:
        for threads in record["threads"]:
            row = _ours(record, "mlp-fwd", isa, threads)
            if row:
                found = row["roof"]["share"]
                what = f"MLP, share of the multiply-add peak, {isa}, threads: {threads}"
                figures = (f"{share:.0%}", f"{found:.0%}", found >= share)
                yield _verdict(what, *figures, row["contended"], row)


def _ratios(record: dict) -> Iterator[Verdict]:
    by_ratio = {(e["ratio"], e["isa"], e["precision"], e["threads"]): e for e in record["ratio_table"]}
    for ratio, isa, least in RATIOS:
        group, precision = ratio.split("/")[0], "bfloat16" if isa in BF16 else "float32"
        for threads in record["threads"]:
            entry = by_ratio.get((ratio, isa, precision, threads))
            if entry:
                found = f"{entry['wall']:.1f}× ({entry['cpu']:.1f}× CPU time)"
                what = f"{ratio}, {isa}, threads: {threads}"
                figures = (f"{least:g}×", found, entry["wall"] >= least, entry["contended"])
                yield _verdict(what, *figures, _ours(record, group, isa, threads))
        yield from _elsewhere(record, group, isa, f"{ratio}, {isa}", f"{least:g}×")


def _frames(record: dict) -> Iterator[Verdict]:
    threads = max(record["threads"])
    for group, isa, least in FRAMES_PER_S:
        row, what = _ours(record, group, isa, threads), f"{FRAMES[group]}, {isa}"
        if row:
            rate = 1 / row["median_s"]
            figures = (f"{least:g} FPS", f"{rate:.1f} FPS", rate >= least, row["contended"])
            yield _verdict(f"{what}, threads: {threads}", *figures, row)
        yield from _elsewhere(record, group, isa, what, f"{least:g} FPS")


def _cached(record: dict) -> Iterator[Verdict]:
    """The cache's gain with the fastest code of each precision."""
    threads = max(record["threads"])
    best: dict[str, dict] = {}
    for entry in record["ratio_table"]:
        if entry["ratio"] == f"frame-512-cached/{NOT_CACHED}" and entry["threads"] == threads:
            best[entry["precision"]] = entry  # instruction sets come in their order
    for precision, entry in best.items():
        what = f"{FRAMES['frame-512-cached']} over rendered anew, {entry['isa']}, {precision}"
        figures = (f"{CACHED:g}×", f"{entry['wall']:.2f}×", entry["wall"] >= CACHED, entry["contended"])
        yield _verdict(what, *figures, None)


def _scaling(record: dict) -> Iterator[Verdict]:
    for group in ("field-fwd", "field-fwdbwd", "frame-512", "train-step"):
        for isa in record["isas"]:
            one, two = _ours(record, group, isa, 1), _ours(record, group, isa, 2)
            if one and two:
                found = one["median_s"] / two["median_s"]
                contended = one["contended"] or two["contended"]
                figures = (f"{THREADS_2}×", f"{found:.2f}×", found >= THREADS_2, contended)
                yield _verdict(f"two threads over one, {group}, {isa}", *figures, two)


def _flatness(record: dict) -> Iterator[Verdict]:
    """Cost per sample from the smallest batch to the largest."""
    points = [p for p in record["sweeps"].get("samples", []) if p["contender"] == "ours"]
    for kind in dict.fromkeys(p["pass"] for p in points):
        own = sorted((p for p in points if p["pass"] == kind), key=lambda p: p["samples"])
        costs = [1 / p["samples_per_s"] for p in own]
        spread = max(costs) / min(costs) - 1
        dearest = own[costs.index(max(costs))]["samples"]
        what = f"spread of the cost per sample, {own[0]['samples']:,} to {own[-1]['samples']:,}, {kind}"
        if any(p["contended"] for p in own):
            yield Verdict(what, f"at most {FLAT:.0%}", f"{spread:.0%}", None, BUSY)
        else:
            why = "" if spread <= FLAT else f"dearest at {dearest:,} samples"
            yield Verdict(what, f"at most {FLAT:.0%}", f"{spread:.0%}", spread <= FLAT, why)


def _memory(record: dict) -> Iterator[Verdict]:
    frames = record["checks"].get("memory", [])
    if frames and all(f["peak_bytes"] is not None for f in frames):
        few, many = min(frames, key=lambda f: f["samples"]), max(frames, key=lambda f: f["samples"])
        growth = many["peak_bytes"] / few["peak_bytes"]
        found = " → ".join(
            f"{f['peak_bytes'] / 2**20:.1f} MiB ({f['samples'] / 1e6:.1f} M samples)" for f in (few, many)
        )
        what = f"memory of a fused {few['size']}² frame, few → many samples"
        yield Verdict(what, f"at most {SAME_MEMORY:g}×", found, growth <= SAME_MEMORY)


def _bfloat16(record: dict) -> Iterator[Verdict]:
    found = record["checks"].get("bfloat16")
    if found:
        share = found["error"] / found["autocast_error"]
        text = f"{share:.2f}× ({found['error']:.1%} against {found['autocast_error']:.1%})"
        what = "bfloat16: error of the gradients over that of torch autocast"
        yield Verdict(what, "at most 1×", text, share <= 1)
        psnr = found["psnr"]
        what = "bfloat16: PSNR of a frame against float32"
        yield Verdict(what, f"{BF16_PSNR:g} dB", f"{psnr:.1f} dB", psnr >= BF16_PSNR)
