"""Sizes of what is drawn: the field in its two forms, identity features, torso, occupancy."""

from __future__ import annotations

from dataclasses import dataclass

from nerfad.config.values import require, require_within

FIELDS = ("hashgrid", "mlp")
PRECISIONS = ("float32", "bfloat16")
FORMS = ("baked", "point")
GRID = {"n_levels": (1, 32), "base_resolution": (1, 4096), "log2_table_size": (8, 24)}
"""Limits of the settings of a hash grid; `nerfad.ops.GridSpec` says what they are."""
WIDTHS, DEPTHS = (16, 128), (1, 16)
"""Limits of a fused network's layers."""


def _require_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    require(value in choices, f"{name} must be {' or '.join(choices)}, not {value!r}.")


def _require_grid(group: str, config: FieldConfig | TorsoConfig) -> None:
    require_within(group, config, **GRID)
    require(config.n_features in (1, 2, 4, 8), f"{group}.n_features must be 1, 2, 4 or 8.")
    require(
        config.base_resolution <= config.finest_resolution,
        f"{group}.base_resolution must not exceed {group}.finest_resolution.",
    )


@dataclass(frozen=True)
class FieldConfig:
    """The conditional radiance field: a hash grid and two small conditioned networks.

    Args:
        kind: "hashgrid", or "mlp" for the paper's own field, whose sizes are in `PaperFieldConfig`; of the
            sizes below none counts then.
        precision: of the networks' products on the CPU, "float32" or "bfloat16" (faster where the processor
            multiplies bfloat16). CUDA kernels multiply in half precision either way.
    """

    kind: str = "hashgrid"
    precision: str = "float32"
    n_levels: int = 16
    n_features: int = 2
    base_resolution: int = 16
    finest_resolution: int = 512
    log2_table_size: int = 14
    width: int = 64
    n_hidden_density: int = 1
    n_hidden_color: int = 2
    n_geometry: int = 15
    density_bias: float = -1.0

    def __post_init__(self) -> None:
        _require_one_of("field.kind", self.kind, FIELDS)
        _require_one_of("field.precision", self.precision, PRECISIONS)
        require(
            self.kind == "hashgrid" or self.precision == "float32",
            "field.precision bfloat16 is for the hash-grid field; leave it out with --field.kind mlp.",
        )
        _require_grid("field", self)
        require_within("field", self, width=WIDTHS, n_hidden_density=DEPTHS, n_hidden_color=DEPTHS)
        require_within("field", self, n_geometry=(1, 128), density_bias=(-15, 15))


@dataclass(frozen=True)
class PaperFieldConfig:
    """Sizes of the paper's field (`--field.kind mlp`); the defaults are the paper's."""

    position_octaves: int = 10
    direction_octaves: int = 4
    width: int = 256
    n_hidden: int = 8
    skip: int = 5
    color_width: int = 128
    n_hidden_color: int = 3
    n_coarse: int = 64
    n_fine: int = 128
    density_bias: float = -1.0

    def __post_init__(self) -> None:
        require(
            1 <= self.skip < self.n_hidden,
            "paper_field.skip must be at least 1 and less than paper_field.n_hidden.",
        )
        require(self.n_hidden_color >= 1, "paper_field.n_hidden_color must be at least 1.")
        require(
            self.n_coarse >= 2 and self.n_fine >= 1,
            "paper_field.n_coarse must be at least 2 and paper_field.n_fine at least 1.",
        )


@dataclass(frozen=True)
class IdentityOptions:
    """The identity features f_id of a run; docs/identity.md says what they are.

    Args:
        enabled: whether the field sees them; None: exactly with `--fusion` or `--base`.
        form: "baked" on a lattice, or "point" by point (about 30 times slower to draw).
        n_references: frames whose Identity-faces they are read from; the paper has 4.
        size: rows of those pictures, at most.
        channels: of their feature maps; the paper has 128.
        slot_width: width of a slot of the attention; the paper has 128.
        lattice_resolution: cells along each side of the lattice of the baked form.
        rebake_every: training steps from one baking to the next.
        audio_in_offset: DFRF's form, whose offsets hear the sound; with the point form only.
    """

    enabled: bool | None = None
    form: str = "baked"
    n_references: int = 4
    size: int = 128
    channels: int = 32
    slot_width: int = 32
    lattice_resolution: int = 32
    rebake_every: int = 32
    audio_in_offset: bool = False

    def __post_init__(self) -> None:
        _require_one_of("identity.form", self.form, FORMS)
        require(self.n_references >= 1, "identity.n_references must be at least 1.")
        require(self.size >= 16, "identity.size must be at least 16.")
        require(16 <= self.channels <= 128, "identity.channels must be between 16 and 128.")
        require(self.slot_width >= 1, "identity.slot_width must be at least 1.")
        require(1 <= self.lattice_resolution <= 256, "identity.lattice_resolution must be between 1 and 256.")
        require(self.rebake_every >= 1, "identity.rebake_every must be at least 1.")
        require(
            not self.audio_in_offset or self.form == "point",
            "identity.audio_in_offset changes the features with every frame, which cannot be baked; add "
            "--identity.form point.",
        )


@dataclass(frozen=True)
class TorsoConfig:
    """The picture of neck and torso, drawn under the head and moved by a learnt 2-D deformation."""

    enabled: bool = True
    n_levels: int = 12
    n_features: int = 2
    base_resolution: int = 8
    finest_resolution: int = 1024
    log2_table_size: int = 16
    width: int = 32
    n_hidden: int = 1
    deformation_octaves: int = 4
    max_deformation: float = 0.1

    def __post_init__(self) -> None:
        _require_grid("torso", self)
        require_within("torso", self, width=WIDTHS, n_hidden=DEPTHS)
        require_within("torso", self, deformation_octaves=(0, 24), max_deformation=(0, 1))


@dataclass(frozen=True)
class OccupancyConfig:
    """Which part of the box is looked at."""

    resolution: int = 128
    n_steps: int = 128
    max_samples_per_ray: int = 128
    n_conditions: int = 4
    threshold: float = 6.0
    visible_weight: float = 0.03

    def __post_init__(self) -> None:
        require(
            self.resolution in (16, 32, 64, 128, 256),
            "occupancy.resolution must be a power of two from 16 to 256.",
        )
        require_within("occupancy", self, n_steps=(1, 4096), max_samples_per_ray=(1, 4096))
        require_within("occupancy", self, n_conditions=(1, 64), threshold=(0, 1e6), visible_weight=(0, 1))
