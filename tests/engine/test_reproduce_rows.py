"""`nerfad reproduce` for real: every row of the tables, a few steps of small networks each."""

from functools import partial

import pytest
from tiny_faces import write_tiny_faces
from tiny_runs import SMALL

from nerfad.config import TrainConfig
from nerfad.data.dataset import load_dataset
from nerfad.engine import checkpoint, reproduce_rows
from nerfad.engine import reproduce as module
from nerfad.engine.reproduce import reproduce
from nerfad.engine.reproduce_config import ReproduceConfig
from nerfad.engine.reproduce_rows import TABLES, Row
from nerfad.engine.reproduce_table import as_text
from nerfad.errors import ModelNotFoundError
from nerfad.io.video import write_video
from nerfad.sample.generate import generate

ROWS = ("plain_nerf", "ad_nerf_like", "dfrf_like", "nerf_ad")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Networks of a few channels."""
    attention = {"width": 4, "critic_width": 4, "n_blocks": 1, "size": 32, "warm_up_steps": 1}
    fusion = {"width": 2, "size": 32, "classifier_steps": 1, "classifier_width": 2, "features": "mel"}
    monkeypatch.setattr(reproduce_rows, "CPU_SIZES", {"attention": attention, "fusion": fusion})
    field = {name: SMALL[name] for name in ("field", "identity", "torso", "occupancy", "optim")}
    monkeypatch.setattr(reproduce_rows, "TrainConfig", partial(TrainConfig, **field))


@pytest.fixture
def no_reader(monkeypatch):
    """Nobody can read the face of a ball."""

    def missing(kind, models, dataset):
        raise ModelNotFoundError("no model")

    monkeypatch.setattr("nerfad.engine.evaluate.open_reader", missing)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces") / "ball", n_frames=130)


def config(data, tmp_path, **settings):
    usual = {"table": 1, "seeds": (0,), "steps": 10, "size": None, "max_frames": 2, "threads": 1}
    return ReproduceConfig(out=tmp_path / "t.json", data=data, **{**usual, **settings})


def read_nothing(stage, people):
    raise AssertionError(f"{stage} is trained again")


def test_every_row_of_tables_1_and_2_and_a_video(data, no_reader, tmp_path, monkeypatch):
    """Table 2 reports after two steps here; table 1 then has nothing left to train but is scored."""
    monkeypatch.setattr(reproduce_rows, "REPORT_AT", (2,))
    on_the_way = {f"{name}_2": Row(row.recipe, 2) for name, row in TABLES[1].items()}
    monkeypatch.setitem(TABLES, 2, {**on_the_way, **{f"{n}_end": r for n, r in TABLES[1].items()}})
    table = reproduce(config(data, tmp_path, table=2))
    assert set(table["variants"]) == {f"{name}_{at}" for name in ROWS for at in (2, "end")}
    for name in ROWS:
        early, late = (table["variants"][f"{name}_{at}"] for at in (2, "end"))
        fields = [row["stages"]["0"]["field"]["steps"] for row in (early, late)]
        assert fields == [2, 5 if name == "nerf_ad" else 10]
        assert early["psnr"]["mean"] > 5 and late["psnr"]["mean"] > 5
        assert early["psnr"]["mean"] != late["psnr"]["mean"]
    assert set(table["variants"]["nerf_ad_end"]["stages"]["0"]) == {"attention", "fusion", "field"}
    dfrf = checkpoint.load_meta(tmp_path / "t/field-dfrf_like-s0")
    assert dfrf["config"]["identity"]["audio_in_offset"] and dfrf["config"]["identity"]["form"] == "point"
    assert dfrf["config"]["fusion"] is None and dfrf["audio"]["codes"]["kind"] == "learnt"

    monkeypatch.setattr(module, "_trainer", read_nothing)
    dataset = load_dataset(data)
    _, held_out = dataset.split(0.3, 0.2)
    video = tmp_path / "real.mp4"
    write_video(video, (dataset.image(int(i)) for i in held_out), dataset.fps)
    first = reproduce(config(data, tmp_path, runs=tmp_path / "t", videos=(("real", video),)))
    assert list(first["variants"]) == list(ROWS)
    for name in ROWS:
        assert first["variants"][name] == table["variants"][f"{name}_end"]
    # The codec halves the colours' resolution, which costs much at 32 x 32.
    trained = max(first["variants"][name]["psnr"]["mean"] for name in ROWS)
    assert first["videos"]["real"]["psnr"]["mean"] > max(20, trained + 3)
    assert [line.split()[0] for line in as_text(first).splitlines()[1:6]] == [*ROWS, "real"]


def test_rows_start_from_a_base_over_other_people(data, no_reader, tmp_path):
    others = tuple(write_tiny_faces(tmp_path / f"person{k}", seed=k + 1) for k in range(2))
    settings = {"base": others, "clip_s": 2.0, "variants": ("plain_nerf", "nerf_ad")}
    table = reproduce(config(data, tmp_path, **settings))
    spent = table["variants"]["nerf_ad"]["stages"]["0"]
    assert {name: stage["steps"] for name, stage in spent.items()} == {
        **{"attention": 3, "fusion": 2, "base": 5},
        "field": 10,
    }
    assert table["variants"]["plain_nerf"]["stages"]["0"]["field"]["steps"] == 10
    runs = tmp_path / "t"
    for name in ("full", "nerf"):
        meta = checkpoint.load_meta(runs / f"field-{name}-s0")
        assert meta["dataset"]["n_train"] == 50  # two seconds
    assert checkpoint.load_meta(runs / "field-full-s0")["config"]["base"] == str(runs / "base-full-s0")
    people = [entry["fingerprint"] for entry in checkpoint.load_meta(runs / "base-full-s0")["datasets"]]
    assert people == [load_dataset(other).fingerprint() for other in others]
    assert all(row["psnr"]["mean"] > 5 for row in table["variants"].values())


def test_on_a_sample_head_every_score_has_a_value_or_a_reason(tmp_path):
    generate(tmp_path / "head", seconds=5.0, size=48)
    settings = {"table": 3, "variants": ("full", "plain"), "max_frames": 4}
    table = reproduce(config(tmp_path / "head", tmp_path, **settings))
    full, plain = (table["variants"][name] for name in ("full", "plain"))
    assert full["stages"]["0"]["field"]["steps"] == 5 and plain["stages"]["0"]["field"]["steps"] == 10
    assert full["psnr_face"]["mean"] > 5 and plain["psnr_face"]["mean"] > 5
    for row in (full, plain):
        assert row["swap_outside"]["mean"] >= 0 and row["swap_inside"]["mean"] >= 0
    assert 0 <= table["mask_iou"]["mean"] <= 1 and 0 <= table["mask_auc"]["mean"] <= 1
    missing = [name for name, value in full.items() if name != "stages" and value["mean"] is None]
    assert set(missing) <= set(table["reasons"])
    assert "swap out" in as_text(table)
