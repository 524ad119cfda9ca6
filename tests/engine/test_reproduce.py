"""`nerfad reproduce`: which stage is trained when, by whom, and what comes of it. Training is a fake here;
test_reproduce_rows.py has real runs.
"""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_faces import write_tiny_faces

from nerfad.engine import checkpoint
from nerfad.engine import reproduce as module
from nerfad.engine.interrupt import TrainingInterrupted
from nerfad.engine.reproduce import reproduce
from nerfad.engine.reproduce_config import ReproduceConfig
from nerfad.engine.reproduce_rows import FULL, PLAIN, TABLES, Budget
from nerfad.engine.reproduce_table import as_text, spread_over_seeds
from nerfad.errors import NerfadError, OutputError
from nerfad.io.atomic import atomic_write
from nerfad.io.lock import locked

STAGES = ("attention", "fusion", "field")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces"), n_frames=130)


class Workshop:
    """Trainers that write a checkpoint's JSON, and scores that tell rows and seeds apart."""

    def __init__(self, monkeypatch):
        self.trained: list[tuple[str, str, float]] = []
        self.scored: list[str] = []
        self.settings: dict = {}
        self.people: dict[str, tuple[Path, ...]] = {}
        self.interrupt_at: str | None = None
        monkeypatch.setattr(module, "_trainer", self.trainer)
        monkeypatch.setattr(module, "score_row", self.score)

    def trainer(self, stage, people):
        def train(config, progress):
            self.settings[config.out.name], self.people[config.out.name] = config, people
            self.train(stage, config)

        return train

    def train(self, stage, config):
        share = config.steps if config.steps is not None else config.minutes
        self.trained.append((stage, config.out.name, share))
        stopped = config.out.name == self.interrupt_at
        config.out.mkdir(parents=True, exist_ok=True)
        meta = {"format": checkpoint.FORMAT, "format_version": 1, "step": config.steps or 0}
        meta["elapsed_s"] = 1.0 if stopped else 60 * (config.minutes or 0)
        with atomic_write(config.out / checkpoint.META_NAME, "w") as file:  # as checkpoints are
            file.write(json.dumps(meta))
        if stopped:
            self.interrupt_at = None
            raise TrainingInterrupted("stopped")

    def score(self, row, runs, seed, out, dataset, **settings):
        self.scored.append(f"{row.name}-s{seed}")
        scores = {"psnr_face": 20.0 + 2 * seed, "au_agreement": None, "lip_gap_correlation": 0.5}
        mask = {"iou": 0.4 + 0.1 * seed, "auc": 0.9, "faults": []} if row.recipe.attention else None
        shared = {"syncnet_of_real": 3.0, "frames": 50, "image_size": [32, 32], "dead_units": {}}
        about = {"reasons": {"au_agreement": "no reader"}, "versions": {"torch": "x"}, "isa": "avx2"}
        stages = {stage: {"steps": 1, "seconds": 1.0} for stage in row.recipe.stages}
        return {"scores": scores, "mask": mask, "stages": stages, **shared, **about}


@pytest.fixture
def workshop(monkeypatch):
    return Workshop(monkeypatch)


def config(data, tmp_path, **settings):
    return ReproduceConfig(
        **{"table": 3, "out": tmp_path / "t.json", "data": data, "seeds": (0, 1), "minutes": 1.0, **settings}
    )


def test_every_stage_is_trained_once_and_budgets_are_equal(data, tmp_path, workshop):
    reproduce(config(data, tmp_path))
    names = [name for _, name, _ in workshop.trained]
    assert len(names) == len(set(names)) == 2 * (1 + 3 + 4)
    spent = {name: share for _, name, share in workshop.trained}
    for row in TABLES[3].values():
        stages = [row.recipe.folder(Path("/"), stage, 0).name for stage in row.recipe.stages]
        assert sum(spent[name] for name in stages) == pytest.approx(1.0)
    assert spent["field-plain-s0"] == 1.0 and spent["field-full-s0"] == pytest.approx(0.5)


def test_the_table_has_mean_spread_and_every_seed(data, tmp_path, workshop):
    table = reproduce(config(data, tmp_path))
    assert table == json.loads((tmp_path / "t.json").read_text())
    assert set(table["variants"]) == {"full", "wo_att_d", "wo_au", "plain"}
    face = table["variants"]["full"]["psnr_face"]
    assert face == {"mean": 21.0, "spread": pytest.approx(2**0.5), "values": {"0": 20.0, "1": 22.0}}
    assert table["variants"]["full"]["au_agreement"]["mean"] is None
    assert table["mask_iou"]["mean"] == pytest.approx(0.45) and table["seeds"] == [0, 1]
    assert table["reasons"] == {"au_agreement": "no reader"} and table["isa"] == ["avx2"]
    assert str(data) not in json.dumps(table) and str(tmp_path) not in json.dumps(table)
    text = as_text(table)
    assert "21 ± 1.4" in text and "AU acc." not in text and "mask_iou 0.45 ± 0.071" in text


def test_a_second_call_trains_and_scores_nothing(data, tmp_path, workshop):
    first = reproduce(config(data, tmp_path))
    workshop.trained.clear()
    workshop.scored.clear()
    assert reproduce(config(data, tmp_path)) == first
    assert workshop.trained == [] and workshop.scored == []


def test_ctrl_c_loses_only_what_was_at_work(data, tmp_path, workshop):
    workshop.interrupt_at = "fusion-full-s0"
    with pytest.raises(TrainingInterrupted):
        reproduce(config(data, tmp_path))
    assert [name for _, name, _ in workshop.trained] == ["attention-s0", "fusion-full-s0"]
    workshop.trained.clear()
    reproduce(config(data, tmp_path))
    names = [name for _, name, _ in workshop.trained]
    assert names[0] == "fusion-full-s0" and "attention-s0" not in names


def test_two_processes_share_the_work_and_both_have_the_whole_table(data, tmp_path, workshop, monkeypatch):
    """Threads hold file locks apart as processes do: a lock belongs to the open file."""
    monkeypatch.setattr(module, "POLL_S", 0.01)
    tables = {}

    def work(name, variants):
        settings = {"runs": tmp_path / "runs", "variants": variants, "out": tmp_path / f"{name}.json"}
        tables[name] = reproduce(config(data, tmp_path, **settings))

    workers = [
        threading.Thread(target=work, args=arguments)
        for arguments in (("a", ("full", "plain")), ("b", ("wo_au", "wo_att_d", "full")))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    names = [name for _, name, _ in workshop.trained]
    assert len(names) == len(set(names)) == 16 and len(workshop.scored) == len(set(workshop.scored)) == 8
    assert any(set(table["variants"]) == set(TABLES[3]) for table in tables.values())


class Waited(Exception):
    """Somebody would have slept."""


def stop_waiting(seconds):
    raise Waited


def test_what_another_process_trains_is_left_alone(data, tmp_path, workshop, monkeypatch):
    runs = tmp_path / "runs"
    told = []
    with locked(runs / "attention-s0.lock"):
        monkeypatch.setattr(module.time, "sleep", stop_waiting)
        with pytest.raises(Waited):
            reproduce(config(data, tmp_path, runs=runs, seeds=(0,)), lambda done, text: told.append(text))
    assert sorted(workshop.scored) == ["plain-s0", "wo_att_d-s0"]
    assert told[-1] == "another process works on full, seed 0"


def test_other_data_or_another_budget_need_another_folder(data, tmp_path, workshop):
    reproduce(config(data, tmp_path, seeds=(0,)))
    with pytest.raises(OutputError, match=r"was begun with minutes 1.0, not 2.0; choose another --runs"):
        reproduce(config(data, tmp_path, minutes=2.0))
    with pytest.raises(OutputError, match=r"was begun with clock wall, not cpu; choose another --runs"):
        reproduce(config(data, tmp_path, clock="cpu"))
    other = write_tiny_faces(tmp_path / "other", seed=1)
    with pytest.raises(OutputError, match="was begun with another data set"):
        reproduce(config(other, tmp_path))


def test_table_2_reports_on_the_way(data, tmp_path, workshop):
    for step in (4000, 10000):
        run = TABLES[2][f"nerf_ad_{step}"].field_run(tmp_path / "runs", 0)
        if step == 4000:
            workshop.train("field", type("C", (), {"steps": 1, "minutes": 1.0, "out": run})())
    table = reproduce(config(data, tmp_path, table=2, runs=tmp_path / "runs", seeds=(0,)))
    assert set(table["variants"]) == {
        "nerf_ad_4000",
        *(f"{name}_end" for name in ("plain_nerf", "ad_nerf_like", "dfrf_like", "nerf_ad")),
    }
    assert table["ground_truth"] == {"syncnet": 3.0} and "ground truth" not in as_text(table)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    folder = tmp_path_factory.mktemp("others")
    return tuple(write_tiny_faces(folder / f"person{k}", seed=k + 1) for k in range(2))


def test_a_base_is_trained_once_a_seed_and_fields_with_a_fusion_start_from_it(
    data, others, tmp_path, workshop
):
    settings = {"table": 1, "base": others, "clip_s": 2.0, "variants": ("nerf_ad", "ad_nerf_like")}
    table = reproduce(config(data, tmp_path, **settings))
    stages = ("attention-s0", "fusion-full-s0", "base-full-s0", "field-full-s0", "field-plain-s0")
    seed_0 = [(name, share) for _, name, share in workshop.trained if name.endswith("s0")]
    assert [name for name, _ in seed_0] == list(stages)
    assert [share for _, share in seed_0] == pytest.approx([0.3, 0.2, 0.5, 1.0, 1.0])
    attention, fusion, base, field, plain = (workshop.settings[name] for name in stages)
    assert attention.datasets == fusion.datasets == tuple(map(str, others))
    assert workshop.people["base-full-s0"] == others and base.fusion == fusion.out and base.clip_s is None
    assert (field.dataset, field.base, field.clip_s) == (data, base.out, 2.0)
    assert plain.base is None and plain.clip_s == 2.0
    names = [name for _, name, _ in workshop.trained]
    assert len(names) == len(set(names)) == 2 * len(stages)
    assert table["data"]["clip_s"] == 2.0 and [p["name"] for p in table["base"]] == ["person0", "person1"]
    assert "--base person0 person1 --clip-s 2 --seeds" in table["command"]
    assert set(table["variants"]["nerf_ad"]["stages"]["0"]) == {"attention", "fusion", "base", "field"}
    workshop.trained.clear()
    reproduce(config(data, tmp_path, **settings))
    assert workshop.trained == []


def test_a_base_of_other_people_or_another_clip_need_another_folder(data, others, tmp_path, workshop):
    settings = {"table": 1, "seeds": (0,), "base": others, "clip_s": 2.0}
    reproduce(config(data, tmp_path, **settings))
    with pytest.raises(OutputError, match="was begun with another base; choose another --runs"):
        reproduce(config(data, tmp_path, **{**settings, "base": others[::-1]}))
    with pytest.raises(OutputError, match="was begun with another base"):
        reproduce(config(data, tmp_path, **{**settings, "base": (), "clip_s": None}))
    with pytest.raises(OutputError, match=r"was begun with clip_s 2.0, not 3.0"):
        reproduce(config(data, tmp_path, **{**settings, "clip_s": 3.0}))
    with pytest.raises(NerfadError, match="is the person of --data; give other people"):
        reproduce(config(data, tmp_path, **{**settings, "base": (*others, data)}))


def test_a_folder_from_before_there_were_bases_goes_on(data, tmp_path, workshop):
    reproduce(config(data, tmp_path, seeds=(0,)))
    path = tmp_path / "t/plan.json"
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({key: plan[key] for key in plan if key not in ("base", "clip_s")}))
    workshop.trained.clear()
    reproduce(config(data, tmp_path, seeds=(0,)))
    assert workshop.trained == []


def test_what_cannot_be_asked_for_is_said(data, tmp_path):
    for settings, sentence in [
        ({"table": 4}, "--table must be one of 1, 2, 3, not 4"),
        ({"variants": ("ful",)}, "table 3 has no row ful; choose from full, wo_att_d, wo_au, plain"),
        ({"minutes": 1.0, "steps": 5}, "give --minutes or --steps, not both"),
        ({"clock": "cpu", "device": "cuda"}, "--clock cpu needs --device cpu"),
        ({"seeds": ()}, "give at least one seed"),
        ({"minutes": -1.0}, "must be more than 0"),
        ({"shares": (0.6, 0.4)}, "--shares must be above 0 and leave something for the field"),
        ({"base": ("a",)}, "--base a: one person alone is no base; give at least two"),
        ({"clip_s": 5.0}, r"--clip-s needs --base DATASET\.\.\.: without, attention and fusion learn from"),
        ({"clip_s": 0.0, "base": ("a", "b")}, "--clip-s must be more than 0"),
    ]:
        with pytest.raises(NerfadError, match=sentence):
            config(data, tmp_path, **settings)
    with pytest.raises(NerfadError, match=r"--videos x=.*there is no such file"):
        reproduce(config(data, tmp_path, videos=(("x", tmp_path / "x.mp4"),)))


def test_shares_and_spread():
    budget = Budget(6.0, None, 128, 1, "cpu", False)
    assert [budget.share(FULL, stage) for stage in STAGES] == pytest.approx([0.3, 0.2, 0.5])
    assert budget.share(PLAIN, "field") == 1.0
    assert Budget(6.0, None, 128, 1, "cpu", False, (0.5, 0.1)).share(FULL, "field") == pytest.approx(0.4)
    assert spread_over_seeds({0: None, 1: float("nan")}) == {
        "mean": None,
        "spread": None,
        "values": {"0": None, "1": None},
    }
    values = [1.0, 2.0, 6.0]
    assert spread_over_seeds(dict(enumerate(values)))["spread"] == pytest.approx(np.std(values, ddof=1))
