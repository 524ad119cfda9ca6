"""The settings of training runs: frozen, validated, stored in every checkpoint."""

from nerfad.config.fields import (
    FieldConfig,
    IdentityOptions,
    OccupancyConfig,
    PaperFieldConfig,
    TorsoConfig,
)
from nerfad.config.pretraining import (
    REFERENCES,
    TARGET_MASKS,
    AttentionConfig,
    AttentionWeights,
    FusionConfig,
    FusionWeights,
    fusion_config_of,
)
from nerfad.config.training import CODES, PRESETS, OptimConfig, TrainConfig, train_config_of
from nerfad.config.values import ConfigError, from_dict, require_clock, resumed, to_dict

__all__ = [
    "CODES",
    "PRESETS",
    "REFERENCES",
    "TARGET_MASKS",
    "AttentionConfig",
    "AttentionWeights",
    "ConfigError",
    "FieldConfig",
    "FusionConfig",
    "FusionWeights",
    "IdentityOptions",
    "OccupancyConfig",
    "OptimConfig",
    "PaperFieldConfig",
    "TorsoConfig",
    "TrainConfig",
    "from_dict",
    "fusion_config_of",
    "require_clock",
    "resumed",
    "to_dict",
    "train_config_of",
]
