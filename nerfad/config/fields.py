"""Sizes of what is drawn: the field in its two forms, identity features, torso, occupancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nerfad.config.values import require, require_one_of, require_within

FieldKind = Literal["hashgrid", "mlp"]
Precision = Literal["float32", "bfloat16"]
IdentityForm = Literal["baked", "point"]
GRID = {"n_levels": (1, 32), "base_resolution": (1, 4096), "log2_table_size": (8, 24)}
"""Limits of the settings of a hash grid; `nerfad.ops.GridSpec` says what they are."""
WIDTHS, DEPTHS = (16, 128), (1, 16)
"""Limits of a fused network's layers."""


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
        kind: hashgrid, or mlp for the paper's own field, whose sizes are those of paper-field; of the sizes
            below none counts then.
        precision: of the networks' products; bfloat16 is faster where the processor multiplies it. The
            hash grid's CUDA kernels multiply in half precision either way.
        n_levels: grids of the encoding, from coarse to fine.
        n_features: learnt numbers at each vertex of each level: 1, 2, 4 or 8.
        base_resolution: cells along each side of the box at the coarsest level.
        finest_resolution: cells along each side at the finest level; more show finer detail in larger
            pictures.
        log2_table_size: binary logarithm of the entries of each level's table. 14 makes 2 MiB of all tables,
            which a CPU's cache holds; more take longer.
        width: neurons of a hidden layer of both networks.
        n_hidden_density: hidden layers of the network that gives the density.
        n_hidden_color: hidden layers of the one that gives the colour.
        n_geometry: numbers that the first hands to the second.
        density_bias: added to the logarithm of the density (per side of the box); below 0 the box starts
            nearly transparent.
        speech_gate: with a fusion that has an attention, the field hears speech only where that attention
            says that speech moves something; everything else is then the same whatever is said. The gate
            takes the place of one of n_levels, at least 2 then.
    """

    kind: FieldKind = "hashgrid"
    precision: Precision = "float32"
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
    speech_gate: bool = True

    def __post_init__(self) -> None:
        require_one_of("field.kind", self.kind, get_args(FieldKind))
        require_one_of("field.precision", self.precision, get_args(Precision))
        _require_grid("field", self)
        require_within("field", self, width=WIDTHS, n_hidden_density=DEPTHS, n_hidden_color=DEPTHS)
        require_within("field", self, n_geometry=(1, 128), density_bias=(-15, 15))


@dataclass(frozen=True)
class PaperFieldConfig:
    """Sizes of the paper's field (`--field.kind mlp`); the defaults are the paper's.

    Args:
        position_octaves: octaves of the positional encoding of a point.
        direction_octaves: and of the direction that it is seen from.
        width: neurons of a hidden layer.
        n_hidden: hidden layers before the density.
        skip: hidden layers after which the inputs enter again.
        color_width: neurons of a hidden layer of the colour's branch.
        n_hidden_color: hidden layers of that branch.
        n_coarse: samples along a ray for the coarse network, one in each of as many equal parts.
        n_fine: samples that the fine network adds where the coarse one found matter.
        density_bias: added to the logarithm of the density, per side of the box.
    """

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
        enabled: whether the field sees them; by default exactly with `--fusion` or `--base`.
        form: baked on a lattice, or point by point (about 30 times slower to draw).
        n_references: frames whose Identity-faces they are read from; the paper has 4.
        size: rows of those pictures, at most.
        channels: of their feature maps; the paper has 128.
        slot_width: width of a slot of the attention; the paper has 128.
        lattice_resolution: cells along each side of the lattice of the baked form.
        rebake_every: training steps from one baking to the next.
        audio_in_offset: DFRF's form, whose offsets hear the sound; with the point form only.
    """

    enabled: bool | None = None
    form: IdentityForm = "baked"
    n_references: int = 4
    size: int = 128
    channels: int = 32
    slot_width: int = 32
    lattice_resolution: int = 32
    rebake_every: int = 32
    audio_in_offset: bool = False

    def __post_init__(self) -> None:
        require_one_of("identity.form", self.form, get_args(IdentityForm))
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
    """The picture of neck and torso, drawn under the head and moved by a learnt 2-D deformation.

    Args:
        enabled: whether it is learnt; without it the head stands before the background.
        n_levels: grids of its encoding, from coarse to fine.
        n_features: learnt numbers at each vertex of each level: 1, 2, 4 or 8.
        base_resolution: cells across the picture at the coarsest level.
        finest_resolution: cells across it at the finest level.
        log2_table_size: binary logarithm of the entries of each level's table.
        width: neurons of a hidden layer of its two networks.
        n_hidden: hidden layers of the network that gives colour and opacity.
        deformation_octaves: octaves of the positions that the deformation's network sees; fewer make it
            smoother.
        max_deformation: the furthest that it moves a point, in heights of the picture.
    """

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
    """Which part of the box is looked at; for the hash-grid field.

    Args:
        resolution: cells along each side of the box, a power of two.
        n_steps: steps in which a ray would cross one side of the box.
        max_samples_per_ray: the most samples of one ray.
        n_conditions: moments of speech and blinks whose densities decide together whether a cell is empty.
        threshold: density, per side of the box, below which it is.
        visible_weight: share of a ray's colour from which a sample counts as seen; cells where nothing has
            been seen for long are left out, too.
    """

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
