"""The benchmark: it catches wrong contenders, flags regressions, counts its scene and writes what it says."""

import json
import os
import subprocess
import sys

import pytest
import torch

from nerfad import ops
from nerfad.bench import ceilings, command, merge, report, results, scene, targets, timing
from nerfad.bench.contender import Contender, Work, Workload
from nerfad.bench.measurement import selected
from nerfad.bench.timing import QUICK, Row, Settings, measure
from nerfad.errors import BackendError

RIGHT = torch.arange(1.0, 9.0)
GROUPS = ["march", "encode-fwd", "mlp-fwd", "field-fwd", "composite", "frame-256", "train-step"]
EXTRAS = ["sweeps", "checks"]


def workload(**contenders) -> Workload:
    made = tuple(Contender(name, {"": run}) for name, run in contenders.items())
    return Workload("toy", 8, 4, 16, Work(flop=1e3), (RIGHT.double(),), made)


@pytest.mark.parametrize(
    "wrong",
    [RIGHT * 1.01, RIGHT[:-1], RIGHT * float("nan")],
    ids=["one per cent off", "too short", "not a number"],
)
def test_a_wrong_contender_is_reported_and_not_timed(wrong):
    good, bad = measure(workload(good=lambda: [RIGHT], bad=lambda: [wrong]), 1, settings=QUICK)
    assert good.status == "ok" and len(good.wall_s) == QUICK.rounds
    assert bad.status == "mismatch" and bad.wall_s == [] and "off by" in bad.reason


def test_a_contender_that_fails_does_not_stop_the_others():
    def broken():
        raise RuntimeError("no compiler\nand more")

    bad, good = measure(workload(bad=broken, good=lambda: [RIGHT]), 1, settings=QUICK)
    assert bad.status == "failed" and bad.reason == "RuntimeError: no compiler"
    assert good.status == "ok"


def test_the_fastest_variant_is_named():
    slow = lambda: [torch.stack([RIGHT] * 2000).mean(0)]  # noqa: E731
    contender = Contender("both", {"slow": slow, "fast": lambda: [RIGHT]})
    toy = Workload("toy", 8, 4, 16, Work(), (RIGHT.double(),), (contender,))
    assert measure(toy, 1, settings=QUICK)[0].variant == "fast"


@pytest.mark.parametrize(
    ("cpu", "waited", "contended"),
    [(0.98, 0.0, False), (0.5, None, True), (0.5, 0.4, True), (0.5, 0.0, False)],
    ids=["busy", "half busy", "waited for a core", "uses half of its threads"],
)
def test_a_round_that_was_held_up_is_contended(cpu, waited, contended):
    row = Row("toy", "ours", None, "float32", 1, wall_s=[1.0], cpu_s=[cpu], waited_s=[waited])
    assert row.contended is contended


def test_a_disturbed_round_is_measured_again(monkeypatch):
    waits = iter([0.0, 5.0] + [0.0] * 100)  # the first round waits for a core
    monkeypatch.setattr(timing, "threads_wait_s", lambda: next(waits))
    monkeypatch.setattr(timing, "BUSY", 1e9)  # only the waits decide
    settings = Settings(rounds=2, warm_up_s=0.0, round_s=0.0)
    (row,) = measure(workload(ours=lambda: [RIGHT]), 1, settings=settings)
    assert len(row.wall_s) == 2 and row.dropped_rounds == 1 and not row.contended


def test_some_contenders_race_with_the_most_threads_alone():
    once = Contender("once", {}, one_run=True)
    toy = Workload("toy", 8, 4, 16, Work(), (), (once, Contender("always", {}, "avx2")))
    names = [[c.name for c in selected(toy, None, False, most).contenders] for most in (False, True)]
    assert names == [["always"], ["once", "always"]]


def result(
    group="toy", contender="ours", isa="avx2", seconds=1.0, threads=1, contended=False, **more
) -> dict:
    figures = dict(median_s=seconds, cpu_median_s=seconds * threads, contended=contended, status="ok")
    return (
        dict(group=group, contender=contender, isa=isa, precision="float32", threads=threads) | figures | more
    )


def test_ratios():
    rows = [
        result(seconds=0.5),
        result(isa="avx512", seconds=0.25),
        result(isa="avx512", seconds=0.2, threads=2),
        result(contender="eager", isa=None, seconds=2.0),
        result(contender="eager", isa=None, seconds=1.2, threads=2, contended=True),
        result(contender="compile", isa=None, status="failed"),
    ]
    table = results.ratio_table(rows)
    found = {(e["isa"], e["threads"]): (e["ratio"], e["wall"], e["contended"]) for e in table}
    assert found == {
        ("avx2", 1): ("toy/eager", 4.0, False),
        ("avx512", 1): ("toy/eager", 8.0, False),
        ("avx512", 2): ("toy/eager", pytest.approx(6.0), True),
    }
    assert results.headline_ratios(table) == {"toy/eager": 8.0}  # the other was disturbed


def write(path, *rows) -> str:
    path.write_text(json.dumps({"schema": results.SCHEMA, "results": list(rows)}))
    return str(path)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (dict(seconds=1.05), 0),
        (dict(seconds=1.3), 1),
        (dict(seconds=1.3, contended=True), 0),
        (dict(status="mismatch"), 1),
    ],
    ids=["within the tolerance", "slower", "slower, but disturbed", "wrong now"],
)
def test_compare_flags_a_regression(tmp_path, capsys, after, code):
    before, now = write(tmp_path / "a.json", result()), write(tmp_path / "b.json", result(**after))
    assert command.run(["--compare", before, now]) == code
    assert ("REGRESSION" in capsys.readouterr().out) == bool(code)


def test_compare_measures_against_the_roof_of_each_run(tmp_path):
    before = write(tmp_path / "a.json", result(roof=dict(name="fma avx2", share=0.5)))
    slower_machine = write(tmp_path / "b.json", result(seconds=2.0, roof=dict(name="fma avx2", share=0.5)))
    assert command.run(["--compare", before, slower_machine]) == 0


def test_compare_says_what_is_wrong_with_a_file(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text("{}")
    assert command.run(["--compare", str(path), str(path)]) == 2
    assert "measure again" in capsys.readouterr().err


def test_scene_counts_are_checked():
    frame = scene.frame(64)
    counts = scene.checked_counts(frame)
    assert counts.rays == 64 * 64 and counts.samples > counts.samples_after_termination
    with pytest.raises(BackendError, match="instead of 21%"):
        scene.checked_counts(frame | {"step_size": scene.STEP_SIZE * 2})


def test_the_talking_head_changes_in_its_lower_third_alone():
    frame = scene.talking_frame(48)
    g = torch.Generator().manual_seed(5)
    others = torch.randn(6, scene.SIGMA.d_cond, generator=g) * 0.3
    colors = [ops.render_rays_fused(**frame | {"cond": cond})[0] for cond in others.split(1)]
    change = (torch.stack(colors).amax(0) - torch.stack(colors).amin(0)).amax(1).view(48, 48)
    assert change[30:].max() > 0.02 and change[:28].max() == 0


def test_the_roof_is_the_one_that_takes_longest():
    roofs = {"fma avx2": 1e9, ceilings.LEVEL: 1e6, "read": 1e9}
    contender = Contender("ours", {}, "avx2")
    assert ceilings.roof(Work(flop=1e9, gathers=2e6), contender, roofs) == (ceilings.LEVEL, 2.0)
    assert ceilings.roof(Work(flop=1e9, gathers=5e5), contender, roofs) == ("fma avx2", 1.0)
    assert ceilings.roof(Work(), contender, roofs) is None


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "quick.json"
    arguments = ["--quick", "--threads", "1", "--json", str(path), "--groups", *GROUPS, *EXTRAS]
    command_line = [sys.executable, "-m", "nerfad.bench", *arguments]
    done = subprocess.run(command_line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path, json.loads(path.read_text()), done.stdout


def test_a_quick_run_writes_the_whole_record(quick):
    _, record, text = quick
    assert record["schema"] == results.SCHEMA and record["command"].endswith(
        "field-fwd composite frame-256 train-step sweeps checks"
    )
    assert "/" not in record["command"].replace("nerfad.bench", "")
    for key in ("commit", "dirty", "cpu", "cores", "isa", "versions", "seed", "pinned", "ceilings", "scene"):
        assert key in record
    assert {r["group"] for r in record["results"]} >= set(GROUPS)
    assert [r for r in record["results"] if r["status"] != "ok"] == []
    for r in record["results"]:
        assert (
            len(r["wall_s"]) == len(r["cpu_s"]) == QUICK.rounds
            and r["median_s"] > 0
            and r["roof"]["share"] > 0
        )
    ratios = {*record["ratios"], *record["disturbed_ratios"]}
    assert {"field-fwd/eager", "frame-256/RAD-style", "train-step/eager"} <= ratios
    assert set(record["sweeps"]) == {"samples", "resolution", "steps", "threads"}
    assert len(record["checks"]["memory"]) == 2 and record["checks"]["bfloat16"]["psnr"] > targets.BF16_PSNR
    assert "hit rays/s" in text and "samples after termination" in text


def test_the_report_of_a_run(quick, tmp_path):
    path, record, _ = quick
    record["sweeps"]["threads"] = [dict(threads=n, rays_per_s=n * 1e6, contended=n == 2) for n in (1, 2)]
    report.write(merge.merged([(path.name, record)]), tmp_path / "performance.md")
    text = (tmp_path / "performance.md").read_text()
    assert "No GPU figure has been measured yet" in text and "these are no measurements" in text
    assert "### field-fwd" in text and "images/performance-threads.svg" in text
    assert (tmp_path / "images/performance-threads.svg").read_text().startswith("<svg xmlns")
    assert "| 2 | 2.000 M † |" in text and "| frame-256 | nerfad [portable]" in text
    assert str(path.parent) not in text


def record(*rows, **more) -> dict:
    made = dict(
        device="cpu",
        gpu=None,
        cpu="EPYC",
        cores=2,
        isa="avx2",
        isas=["portable", "avx2"],
        quick=False,
        seed=0,
    )
    made |= dict(
        schema=results.SCHEMA,
        versions={"torch": "2", "python": "3"},
        commit="abc",
        dirty=False,
        command="run",
        rounds=5,
        threads=[1],
    )
    made |= dict(pinned={"1": True}, ceilings={"1": {"read": 1e9}}, scene={}, sweeps={}, checks={})
    return results.with_ratios(made | {"results": list(rows)} | more)


def test_runs_of_different_groups_become_one():
    first = record(result("a"), result("a", "eager", None, 4.0), result("b"))
    second = record(
        result("b", seconds=2.0), result("b", "eager", None, 3.0), ceilings={"1": {"read": 2e9}}, commit="def"
    )
    whole = merge.merged([("a.json", first), ("b.json", second)])
    assert [(r["group"], r["median_s"]) for r in whole["results"] if r["contender"] == "ours"] == [
        ("a", 1.0),
        ("b", 2.0),
    ]
    assert whole["ratios"] == {"a/eager": 4.0, "b/eager": 1.5}
    assert whole["ceilings"]["1"]["read"] == 2e9
    assert "These runs are of different commits" in report.page(whole | {"results": []}, [])


def test_runs_of_different_machines_are_refused(tmp_path, capsys):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    paths[0].write_text(json.dumps(record()))
    paths[1].write_text(json.dumps(record(device="cuda", gpu="H100")))
    assert command.run(["--report", *map(str, paths), "--out", str(tmp_path / "p.md")]) == 2
    assert "a.json and b.json are not of one machine: device is 'cpu'" in capsys.readouterr().err
    assert not (tmp_path / "p.md").exists()


def verdict(what: str, *rows, **more) -> targets.Verdict:
    return next(v for v in targets.verdicts(record(*rows, **more)) if what in v.what)


@pytest.mark.parametrize(
    ("rate", "contended", "met"), [(1e6, False, True), (7e5, False, False), (7e5, True, None)]
)
def test_cost_per_sample_must_be_flat(rate, contended, met):
    point = {"contender": "ours", "pass": "forward", "contended": False}
    points = [point | {"samples": 2**12, "samples_per_s": 1.1e6}]
    points.append(point | {"samples": 2**20, "samples_per_s": rate, "contended": contended})
    assert verdict("spread of the cost", sweeps={"samples": points}).met is met


@pytest.mark.parametrize(("peak", "met"), [(5_100_000, True), (50_000_000, False)])
def test_memory_must_not_grow_with_the_samples(peak, met):
    frames = [{"size": 512, "samples": n, "peak_bytes": b} for n, b in ((10**6, 5_000_000), (10**7, peak))]
    assert verdict("memory", checks={"memory": frames}).met is met


def test_bfloat16_is_held_against_autocast():
    found = {"error": 0.2, "autocast_error": 0.1, "psnr": 60.0}
    assert verdict("gradients", checks={"bfloat16": found}).met is False
    assert verdict("PSNR", checks={"bfloat16": found}).met is True


def test_the_cache_must_pay():
    rows = [result("frame-512-cached", name, isa, s) for name, isa, s in (
        ("ours", "avx2", 1.0), ("ours, not cached", "avx2", 1.5), ("ours", "avx512", 0.9),
        ("ours, not cached", "avx512", 1.8),
    )]  # fmt: skip
    found = verdict("rendered anew", *rows)
    assert "avx512, float32" in found.what and found.found == "2.00×" and found.met


def test_a_target_that_was_disturbed_or_needs_another_machine_does_not_count():
    rows = [result("frame-512", isa="avx512", seconds=0.05, contended=True)]
    found = [v for v in targets.verdicts(record(*rows, isas=["avx512"])) if "512²" in v.what]
    assert [v.met for v in found] == [None, None]
    assert "busy" in found[0].text and found[1].text == "not measured: this machine has no amx"


def test_unknown_groups_and_instruction_sets_are_named(capsys):
    assert command.run(["--quick", "--isa", "mmx"]) == 2
    assert "mmx" in capsys.readouterr().err
    assert command.run(["--quick", "--threads", "1", "--groups", "nothing"]) == 2
    assert "there are march" in capsys.readouterr().err


def test_cores_are_counted_before_a_thread_is_bound_to_one(quick):
    assert quick[1]["cores"] == len(os.sched_getaffinity(0))
