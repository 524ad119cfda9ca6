"""Rendering at a fixed pose: samples and their grid features are made once, then only networks run."""

import dataclasses

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.conditioned_mlp import MLPSpec, Precision, is_bfloat16
from nerfad.ops.grid_encode import grid_encode
from nerfad.ops.grid_spec import GridSpec
from nerfad.ops.march import march
from nerfad.ops.reference import render_cached as reference
from nerfad.ops.render_rays_fused import mlp_numbers, view_as_input
from nerfad.ops.sample_positions import sample_positions

__all__ = ["RenderCache", "render_cache", "render_cached", "render_cached_within"]


@dataclasses.dataclass(frozen=True)
class RenderCache:
    """What does not change while rays, occupancy grid and table stay as they are. Made by `render_cache`."""

    rays_d: Tensor  # [n_rays, 3]
    packed_info: Tensor  # [n_rays, 2] int64, first sample and number of samples of each ray
    t_starts: Tensor  # [n_samples] world units
    t_ends: Tensor  # [n_samples]
    features: Tensor  # [n_samples, n_features] float32, float16 or bfloat16
    image_width: int  # see render_rays_fused

    @property
    def n_bytes(self) -> int:
        """Memory that the cache takes."""
        tensors = (self.rays_d, self.packed_info, self.t_starts, self.t_ends, self.features)
        return sum(t.numel() * t.element_size() for t in tensors)

    def select(self, rays: Tensor) -> "RenderCache":
        """The cache of some rays (a bool mask or indices), in their order; samples are shared, not copied."""
        return dataclasses.replace(
            self, rays_d=self.rays_d[rays], packed_info=self.packed_info[rays], image_width=0
        )


def render_cache(
    rays_o: Tensor,
    rays_d: Tensor,
    t_min: Tensor,
    t_max: Tensor,
    aabb: Tensor,
    density_bitfield: Tensor,
    resolution: int,
    step_size: float,
    table: Tensor,
    grid_spec: GridSpec,
    max_samples_per_ray: int = 1024,
    cone_angle: float = 0.0,
    dtype: torch.dtype = torch.float32,
    image_width: int = 0,
) -> RenderCache:
    """Marches and encodes the rays of `render_rays_fused`, for any number of `render_cached`.

    All samples in occupied cells are kept, also those behind the surface: where a ray becomes opaque depends
    on the condition. n_samples * (n_features * itemsize + 8) bytes.

    Args:
        rays_o to cone_angle, image_width: see `render_rays_fused`.
        dtype: of the features, float32, float16 or, on the CPU, bfloat16: half the memory, and the very
            pixels of a float32 cache under precision "bfloat16". The CUDA kernels take the first two to half
            precision.

    Example: see `render_cached`.
    """
    with torch.no_grad():
        samples = march(
            *(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, cone_angle),
            max_samples_per_ray=max_samples_per_ray,
        )
        packed = (samples.t_starts, samples.t_ends, samples.packed_info)
        positions = sample_positions(rays_o, rays_d, *packed, aabb)
        features = grid_encode(positions, table, grid_spec).to(dtype)
    return RenderCache(
        rays_d.detach(), samples.packed_info, samples.t_starts, samples.t_ends, features, image_width
    )


def render_cached(
    cache: RenderCache,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    cond: Tensor | None = None,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
    density_bias: float = 0.0,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Renders a cache under a condition: `render_rays_fused` without marching and encoding.

    .. math::
        h_i = mlp_\sigma(features_i, c),\quad
        \sigma_i = e^{clamp(h_{i,0} + density\_bias, -15, 15)},\quad
        rgb_i = mlp_c([h_{i,1:}, sh_4(d / |d|)])

    Args:
        cache: from `render_cache`, or a selection of its rays.
        sigma_params to density_bias: see `render_rays_fused`; background is [n_rays, 3] of the cache's rays.
        precision: of the networks' products on the CPU, as in `render_rays_fused`.

    Returns:
        colors [n_rays, 3], opacities [n_rays], depths [n_rays], equal to `render_rays_fused`'s up to the
        rounding of positions and, in a cache of 16 bits, of features.

    Not differentiable.

    Raises:
        RuntimeError: a shape, dtype, device or setting is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, MLPSpec, render_cache, render_cached
        >>> grid = GridSpec(n_levels=2, base_resolution=4, finest_resolution=8)
        >>> sigma, color = MLPSpec(4, 1, 16, 1, 16), MLPSpec(31, 0, 16, 1, 3, "sigmoid")
        >>> full = torch.full((4**3 // 8,), 255, dtype=torch.uint8)
        >>> cache = render_cache(
        ...     torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.0]),
        ...     torch.tensor([1.0]), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), full, 4, 0.125,
        ...     torch.zeros(grid.n_entries, 2), grid)
        >>> networks = (torch.zeros(sigma.n_params), sigma, torch.zeros(color.n_params), color)
        >>> [round(render_cached(cache, *networks, torch.tensor([[c]]))[1].item(), 4) for c in (0.0, 1.0)]
        [0.6321, 0.6321]
    """
    if not _backend.is_native():
        return reference.render_cached(
            *(cache, sigma_params, sigma_spec, color_params, color_spec),
            *(cond, background, early_stop_eps, density_bias, precision),
        )
    bfloat16 = is_bfloat16("render_cached", precision)
    with torch.no_grad():
        return _native.ops().render_cached(
            *(cache.features, cache.t_starts, cache.t_ends, cache.packed_info, cache.rays_d),
            *(sigma_params, mlp_numbers(sigma_spec), color_params, mlp_numbers(view_as_input(color_spec))),
            *(cond, background, early_stop_eps, density_bias, cache.image_width, bfloat16),
        )


def render_cached_within(
    mask: Tensor,
    previous: tuple[Tensor, Tensor, Tensor],
    cache: RenderCache,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    cond: Tensor | None = None,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
    density_bias: float = 0.0,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor, Tensor]:
    """Renders a cache under a new condition where a mask says so; other pixels stay as they were.

    An approximation, as good as the mask: the error is what the condition changes outside of it. Where speech
    moves the lower face only, its mask leaves out most of a frame.

    Args:
        mask: [n_rays] bool, the pixels to render.
        previous: colors, opacities and depths of the last frame at this pose.
        cache and those behind it: see `render_cached`.

    Returns:
        colors, opacities, depths: new tensors, equal to `render_cached`'s within the mask.

    Not differentiable. Selecting the rays waits for a CUDA device.

    Raises:
        RuntimeError: see `render_cached`; mask is not [n_rays] bool.

    Example:
        >>> mask, previous = ..., render_cached(cache, *networks, silence)  # doctest: +SKIP
        >>> frame = render_cached_within(mask, previous, cache, *networks, speech)  # doctest: +SKIP
    """
    if mask.dtype != torch.bool or mask.shape != cache.rays_d.shape[:1]:
        raise RuntimeError(
            f"render_cached_within: mask must be bool of shape [{cache.rays_d.shape[0]}], "
            f"got {str(mask.dtype).removeprefix('torch.')} {list(mask.shape)}"
        )
    rays = mask.nonzero()[:, 0]
    rendered = render_cached(
        *(cache.select(rays), sigma_params, sigma_spec, color_params, color_spec, cond),
        *(None if background is None else background[rays], early_stop_eps, density_bias, precision),
    )
    colors, opacities, depths = (
        old.index_copy(0, rays, new) for old, new in zip(previous, rendered, strict=True)
    )
    return colors, opacities, depths


def _fake(features, t_starts, t_ends, packed_info, rays_d, *others):
    n_rays = rays_d.shape[0]
    return rays_d.new_empty((n_rays, 3)), rays_d.new_empty((n_rays,)), rays_d.new_empty((n_rays,))


if _native.available():
    torch.library.register_fake("nerfad::render_cached", _fake)
