"""Settings: refused with one sentence, and the same after a trip through JSON."""

import dataclasses
import json
import re

import pytest

from nerfad.config import (
    AttentionConfig,
    AttentionWeights,
    ConfigError,
    FieldConfig,
    FusionConfig,
    FusionWeights,
    IdentityOptions,
    OccupancyConfig,
    OptimConfig,
    PaperFieldConfig,
    TorsoConfig,
    TrainConfig,
    from_dict,
    to_dict,
)


def test_round_trip_through_json():
    config = TrainConfig(
        "data", "run", minutes=3.0, field=FieldConfig(width=32), optim=OptimConfig(n_rays=99)
    )
    assert from_dict(TrainConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_unknown_entries_of_another_version_are_left_out():
    values = {**to_dict(TrainConfig("data", "run")), "new_setting": 1}
    values["field"]["other"] = 2
    assert from_dict(TrainConfig, values) == TrainConfig("data", "run")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"minutes": 0}, "--minutes must be more than 0"),
        ({"steps": -1}, "--steps must be more than 0"),
        ({"steps": 5, "minutes": 1}, "give --minutes or --steps, not both"),
        ({"clock": "sun"}, "--clock must be one of wall, cpu"),
        ({"clock": "cpu", "device": "cuda"}, "--clock cpu needs --device cpu, not cuda"),
        ({"preset": "fast"}, "--preset must be one of default, streaming, not 'fast'"),
        ({"lookahead_s": 9}, "--lookahead-s must be between 0 and 2"),
    ],
)
def test_refused_with_one_sentence(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TrainConfig("data", "run", **settings)


@pytest.mark.parametrize("settings", [{"log2_table_size": 30}, {"width": 8}, {"finest_resolution": 4}])
def test_field_refuses(settings):
    with pytest.raises(ConfigError, match=r"^field\."):
        FieldConfig(**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "named"),
    [
        (FieldConfig, {"n_levels": 0}, "field.n_levels must be between 1 and 32, not 0"),
        (FieldConfig, {"n_features": 3}, "field.n_features must be 1, 2, 4 or 8"),
        (FieldConfig, {"n_hidden_color": 17}, "field.n_hidden_color must be between 1 and 16, not 17"),
        (TorsoConfig, {"width": 0}, "torso.width must be between 16 and 128, not 0"),
        (
            TorsoConfig,
            {"base_resolution": 64, "finest_resolution": 32},
            "torso.base_resolution must not exceed",
        ),
        (OccupancyConfig, {"n_steps": 0}, "occupancy.n_steps must be between 1 and 4096, not 0"),
        (OptimConfig, {"lr_table": float("nan")}, "optim.lr_table must be 0 or more, not nan"),
        (OptimConfig, {"lr_networks": -1.0}, "optim.lr_networks must be 0 or more, not -1"),
    ],
)
def test_sizes_and_rates_that_cannot_be_are_refused_by_name(kind, settings, named):
    with pytest.raises(ConfigError, match=named):
        kind(**settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig("data", "run", threads=-1),
        lambda: AttentionConfig(("data",), "run", threads=-1),
        lambda: FusionConfig(("data",), "run", use_attention=False, threads=-1),
    ],
)
def test_threads_below_nought_are_refused(make):
    with pytest.raises(ConfigError, match="--threads must be 0"):
        make()


GROUPS = (FieldConfig, PaperFieldConfig, IdentityOptions, TorsoConfig, OccupancyConfig, OptimConfig)


@pytest.mark.parametrize("kind", [*GROUPS, AttentionWeights, FusionWeights])
def test_the_help_says_what_every_option_of_a_group_is(kind):
    explained = re.findall(r"^ {8}(\w+): \w", kind.__doc__, re.MULTILINE)
    assert explained == [item.name for item in dataclasses.fields(kind)]
