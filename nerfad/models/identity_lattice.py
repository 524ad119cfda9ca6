"""The two forms in which a field reads identity features: point by point, or from a baked lattice.

Both are *sources*: `reader()` gives a function from points (and the condition, for the ablation) to features
and offsets. The point form runs the whole encoder for every point. f_id does not change over a video, so the
baked form evaluates its learned projection on a lattice over the box, once, and interpolates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from nerfad.config import ConfigError
from nerfad.models.identity_features import IdentityEncoder, References
from nerfad.models.renderer import HeadRays
from nerfad.ops import GridSpec, grid_encode

Reader = Callable[[Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor | None]]
"""(points [n, 3], condition [n_cond, c], condition_index [n]) to (features [n, m], offsets [k, n, 2])."""

BAKE_CHUNK = 8192
"""Points at a time: bounds the memory of the encoder's intermediate values."""


class PointIdentity(nn.Module):
    """f_id evaluated at every point.

    Args:
        encoder: shared between identities when a base model is trained.
        references: of the identity at hand; stored with the parameters.
        projected: whether the features are the learned projection (hash-grid field) or all of f_id (paper's
            field).
    """

    c2w: Tensor
    images: Tensor

    def __init__(self, encoder: IdentityEncoder, references: References, projected: bool = True) -> None:
        super().__init__()
        self.encoder, self.camera, self.projected = encoder, references.camera, projected
        self.register_buffer("c2w", references.c2w.clone())
        self.register_buffer("images", references.images.clone())
        self._held_maps: Tensor | None = None

    @property
    def n_outputs(self) -> int:
        config = self.encoder.config
        return config.n_projected if self.projected else config.n_features

    @property
    def hears(self) -> bool:
        """Whether the features change with the condition."""
        return self.encoder.config.audio_in_offset

    @property
    def references(self) -> References:
        return References(self.camera, self.c2w, self.images)

    def reader(self) -> Reader:
        """Computes the feature maps; the function may then be called many times."""
        references = self.references
        maps = self._held_maps if self._held_maps is not None else self.encoder.feature_net(references)

        def read(
            points: Tensor, cond: Tensor | None = None, cond_index: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            if not self.encoder.config.audio_in_offset:
                cond = cond_index = None
            features, offsets = self.encoder(references, maps, points, cond, cond_index)
            return self.encoder.projection(features) if self.projected else features, offsets

        return read

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within the block the feature maps are computed once and have no gradient: for drawing."""
        with torch.no_grad():
            self._held_maps = self.encoder.feature_net(self.references)
        try:
            yield
        finally:
            self._held_maps = None


def lattice_vertices(resolution: int, index: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Positions [m, 3] in the unit box of vertices int64 [m] of a lattice, x changing fastest."""
    side = resolution + 1
    axes = [index % side, index // side % side, index // side**2]
    return torch.stack(axes, 1).to(dtype) / resolution


class BakedIdentity(nn.Module):
    """The projection of f_id on a lattice of (resolution + 1)^3 vertices over the box, interpolated linearly.

    Training through the lattice: fields write into `table.grad` over some steps; `pull_back` carries that
    gradient on to the encoder, which has stood still meanwhile, so that it is exact; after the optimiser's
    step `bake` renews the table.

    Args:
        points: the point form, which is the definition.
        resolution: cells along each side.
        n_features: of a level: those of the grid that the lattice is read with, or 8, which is the fastest
            alone.
        bake: fill the lattice at once; else it holds zeros until `bake` is called or it is loaded.
    """

    hears = False
    table: Tensor

    def __init__(
        self, points: PointIdentity, resolution: int = 64, bake: bool = True, n_features: int = 8
    ) -> None:
        super().__init__()
        if points.encoder.config.audio_in_offset:
            raise ConfigError(
                "identity features whose offsets hear the sound change with every frame and cannot be baked; "
                "use the point form or switch identity.audio_in_offset off."
            )
        if not points.projected:
            raise ConfigError("only the learned projection of the identity features is baked.")
        if not 1 <= resolution <= 256:
            raise ConfigError(f"the identity lattice's resolution must be in 1..256, not {resolution}.")
        self.points = points
        n_features = min(points.n_outputs, n_features)
        # Levels of one and the same resolution, side by side: one read gives all features.
        self.spec = GridSpec(
            n_levels=points.n_outputs // n_features,
            n_features=n_features,
            base_resolution=resolution,
            finest_resolution=resolution,
            kind="dense",
        )
        self.register_buffer("table", torch.zeros(self.spec.n_entries, n_features))
        self.table.requires_grad_()
        if bake:
            self.bake()

    @property
    def n_outputs(self) -> int:
        return self.points.n_outputs

    @property
    def resolution(self) -> int:
        return self.spec.resolutions[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> BakedIdentity:
        super()._apply(fn, recurse)
        # A buffer that is moved would else be a function of its old self, and collect no gradient.
        self.table = self.table.detach().requires_grad_()
        return self

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state.get(f"{prefix}table")
        if saved is not None and saved.shape != self.table.shape and saved.numel() == self.table.numel():
            # Of a lattice with more features a level, whatever grid it was read with: the same numbers.
            n_features, n_rows = self.spec.n_features, self.spec.level_sizes[0]
            levels = saved.view(-1, n_rows, saved.shape[1] // n_features, n_features)
            state = {**state, f"{prefix}table": levels.transpose(1, 2).reshape(self.table.shape)}
        super()._load_from_state_dict(state, prefix, *args)

    def reader(self) -> Reader:
        return self._read

    def _read(
        self, points: Tensor, cond: Tensor | None = None, cond_index: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return grid_encode(points, self.table, self.spec), None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For symmetry with the point form: a lattice is held already."""
        yield

    @torch.no_grad()
    def bake(self, inside: Callable[[Tensor], Tensor] | None = None) -> None:
        """Renew the lattice.

        Args:
            inside: positions [m, 3] to bool [m], where the features will be read; other vertices keep their
                values. A point reads all eight vertices about it, so leave a margin of a cell. None: all.
        """
        index = torch.arange((self.resolution + 1) ** 3, device=self.table.device)
        if inside is not None:
            index = index[inside(self._vertices(index))]
        levels = self._levels(self.table)
        with self.points.held():
            read = self.points.reader()
            for chunk in index.split(BAKE_CHUNK):
                values = read(self._vertices(chunk), None, None)[0]
                levels[:, chunk] = values.view(len(chunk), len(levels), -1).transpose(0, 1)

    def pull_back(self) -> None:
        """Add the table's gradient to that of the encoder's parameters, and clear it."""
        if self.table.grad is None:
            return
        grads = self._levels(self.table.grad)
        index = torch.nonzero(grads.abs().sum((0, 2))).flatten()
        maps = self.points.encoder.feature_net(self.points.references)
        # The maps are shared by all chunks: their gradient is collected and sent on once.
        leaf = maps.detach().requires_grad_()
        self.points._held_maps = leaf
        try:
            read = self.points.reader()
            for chunk in index.split(BAKE_CHUNK):
                values = read(self._vertices(chunk), None, None)[0]
                values.backward(grads[:, chunk].transpose(0, 1).reshape(values.shape))
        finally:
            self.points._held_maps = None
        if leaf.grad is not None:
            maps.backward(leaf.grad)
        self.table.grad = None

    def _vertices(self, index: Tensor) -> Tensor:
        return lattice_vertices(self.resolution, index, self.table.dtype)

    def _levels(self, table: Tensor) -> Tensor:
        """View [n_levels, (resolution + 1)^3, n_features] of a table; its levels are padded to eights."""
        n_vertices = (self.resolution + 1) ** 3
        return table.view(self.spec.n_levels, -1, self.spec.n_features)[:, :n_vertices]


@torch.no_grad()
def draw_in_chunks(
    renderer: Callable[..., HeadRays],
    identity: PointIdentity | BakedIdentity | None,
    rays_o: Tensor,
    rays_d: Tensor,
    cond: Tensor,
    background: Tensor,
    rays_per_chunk: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Colours, opacities and depths of many rays under one condition, the feature maps computed once."""
    with contextlib.nullcontext() if identity is None else identity.held():
        chunks = zip(*(t.split(rays_per_chunk) for t in (rays_o, rays_d, background)), strict=True)
        parts = [renderer(o, d, cond, None, behind) for o, d, behind in chunks]
    columns = zip(*((part.colors, part.opacities, part.depths) for part in parts), strict=True)
    colors, opacities, depths = (torch.cat(column) for column in columns)
    return colors, opacities, depths
