"""Settings: refused with one sentence, and the same after a trip through JSON."""

import json

import pytest

from nerfad.config import ConfigError, FieldConfig, OptimConfig, TrainConfig, from_dict, to_dict


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
