"""The shape of a multi-resolution grid: levels, resolutions, where each level's entries lie in the table."""

import functools
import math
from dataclasses import dataclass

KINDS = ("hash", "tiled", "dense")
INTERPOLATIONS = ("linear", "smoothstep")


@dataclass(frozen=True)
class GridSpec:
    """A multi-resolution grid as in instant-ngp (Mueller et al. 2022).

    Level l has `res_l = floor(base_resolution * b^l + 1e-6)` cells per axis, with b such that the last level
    has `finest_resolution`, and `res_l + 1` vertices per axis. A level is stored densely where `(res_l +
    1)^n_dims` vertices fit into `2^log2_table_size` entries (entry counts are rounded up to a multiple of 8):
    vertex (x, y, z) is entry `x + (res_l + 1) * (y + (res_l + 1) * z)`. Where they do not fit, the level has
    `2^log2_table_size` entries and, by `kind`,

    * "hash": the entry is `(x ^ y * 2654435761 ^ z * 805459861) mod 2^log2_table_size` in 32-bit arithmetic;
    * "tiled": the entry is the dense index modulo `2^log2_table_size`;
    * "dense": every level is dense, whatever its size.

    `dense_levels` are the resolutions of further levels behind these, dense whatever their size: what was
    computed on a lattice is then read together with what was learnt.

    `interpolation` is "linear" or "smoothstep" (weights 3 f^2 - 2 f^3 of the position f within the cell).

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> from nerfad.ops import GridSpec
        >>> spec = GridSpec(n_levels=3, base_resolution=4, finest_resolution=16, log2_table_size=10)
        >>> spec.resolutions, spec.n_entries  # 5^3 and 9^3 vertices are dense, 17^3 are hashed
        ((4, 8, 16), 1888)
        >>> GridSpec(n_levels=1, base_resolution=4, finest_resolution=4, dense_levels=(32, 32)).resolutions
        (4, 32, 32)
    """

    n_dims: int = 3
    n_levels: int = 16
    n_features: int = 2
    base_resolution: int = 16
    finest_resolution: int = 2048
    log2_table_size: int = 16
    kind: str = "hash"
    interpolation: str = "linear"
    dense_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dense_levels", tuple(self.dense_levels))  # JSON knows no tuples

        def require(ok: bool, what: str, got: object) -> None:
            if not ok:
                raise ValueError(f"GridSpec: {what}, got {got!r}")

        require(self.n_dims in (2, 3), "n_dims must be 2 or 3", self.n_dims)
        require(
            1 <= self.n_levels <= 32 - len(self.dense_levels),
            f"n_levels must be in 1..{32 - len(self.dense_levels)}",
            self.n_levels,
        )
        require(self.n_features in (1, 2, 4, 8), "n_features must be 1, 2, 4 or 8", self.n_features)
        require(self.base_resolution >= 1, "base_resolution must be at least 1", self.base_resolution)
        require(
            self.base_resolution <= self.finest_resolution <= 2**20,
            f"finest_resolution must be in {self.base_resolution} (base_resolution)..2^20",
            self.finest_resolution,
        )
        require(
            all(1 <= r <= 2**20 for r in self.dense_levels),
            "dense_levels must be in 1..2^20",
            self.dense_levels,
        )
        require(3 <= self.log2_table_size <= 24, "log2_table_size must be in 3..24", self.log2_table_size)
        require(self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}", self.kind)
        require(
            self.interpolation in INTERPOLATIONS,
            f"interpolation must be one of {', '.join(INTERPOLATIONS)}",
            self.interpolation,
        )
        require(self.n_entries < 2**28, "the table must have fewer than 2^28 entries", self.n_entries)

    @functools.cached_property
    def resolutions(self) -> tuple[int, ...]:
        """Cells per axis of each level."""
        ratio, steps = self.finest_resolution / self.base_resolution, max(self.n_levels - 1, 1)
        growth = math.exp(math.log(ratio) / steps)
        learnt = (math.floor(self.base_resolution * growth**level + 1e-6) for level in range(self.n_levels))
        return (*learnt, *self.dense_levels)

    @property
    def native_resolutions(self) -> list[int]:
        """The same as the native ops take it: those of `dense_levels` are negative."""
        n = self.n_levels
        return [*self.resolutions[:n], *(-r for r in self.resolutions[n:])]

    @functools.cached_property
    def level_is_dense(self) -> tuple[bool, ...]:
        capacity = 1 << self.log2_table_size
        return tuple(
            self.kind == "dense" or level >= self.n_levels or (r + 1) ** self.n_dims <= capacity
            for level, r in enumerate(self.resolutions)
        )

    @functools.cached_property
    def level_sizes(self) -> tuple[int, ...]:
        """Entries of each level."""
        return tuple(
            ((r + 1) ** self.n_dims + 7) // 8 * 8 if dense else 1 << self.log2_table_size
            for r, dense in zip(self.resolutions, self.level_is_dense, strict=True)
        )

    @functools.cached_property
    def offsets(self) -> tuple[int, ...]:
        """First entry of each level in the table, and behind them the number of all entries."""
        offsets = [0]
        for size in self.level_sizes:
            offsets.append(offsets[-1] + size)
        return tuple(offsets)

    @property
    def n_entries(self) -> int:
        return self.offsets[-1]

    @property
    def n_outputs(self) -> int:
        """Features per position, level by level."""
        return len(self.resolutions) * self.n_features
