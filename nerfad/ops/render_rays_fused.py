"""Rays to pixels in one pass, for inference: march, encode, both networks and volume integration."""

import dataclasses

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.conditioned_mlp import MLPSpec, Precision, is_bfloat16
from nerfad.ops.grid_spec import GridSpec
from nerfad.ops.radiance_field import grid_numbers, mlp_numbers
from nerfad.ops.reference import render_rays_fused as reference

__all__ = ["render_rays_fused"]


def render_rays_fused(
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
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    cond: Tensor | None = None,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
    max_samples_per_ray: int = 1024,
    density_bias: float = 0.0,
    cone_angle: float = 0.0,
    image_width: int = 0,
    precision: Precision = "float32",
    cells: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Renders rays without ever writing a tensor per sample.

    The same as `march`, `sample_positions`, `grid_encode`, `conditioned_mlp` (density), `sh_encode`,
    `conditioned_mlp` (colour) and `composite` one after another, up to rounding. Samples of many rays share
    the tiles that the networks run on, a ray takes part until its transmittance falls below early_stop_eps,
    and the colour network's share of the view direction is computed once per ray.

    .. math::
        h_i = mlp_\sigma(grid(x_i), c),\quad
        \sigma_i = e^{clamp(h_{i,0} + density\_bias, -15, 15)},\quad
        rgb_i = mlp_c([h_{i,1:}, sh_4(d / |d|)])

    Args:
        rays_o, rays_d: [n_rays, 3] float32, world units.
        t_min, t_max: [n_rays] float32, from `ray_aabb`. A ray with t_min >= t_max shows the background.
        aabb: [6] float32, the box of the occupancy grid and of the field.
        density_bitfield: [resolution^3 / 8] uint8 in Morton order, from `pack_bitfield`.
        resolution: cells along each side: a power of two from 4 to 256.
        step_size: world units, > 0.
        table: [grid_spec.n_entries, n_features] float32, float16 or bfloat16.
        grid_spec: a grid of three dimensions.
        sigma_params, sigma_spec: density network on the grid's features and the condition; its first output
            is the logarithm of the density, the others are the geometry code.
        color_params, color_spec: colour network on the geometry code and 16 spherical harmonics of the unit
            direction, which it takes as inputs or as its condition (the parameters are the same); three
            outputs.
        cond: [1, sigma_spec.d_cond] the condition, or None if d_cond is 0.
        background: [n_rays, 3] colour behind each ray, or None for black.
        early_stop_eps: samples behind a transmittance below this are not evaluated.
        max_samples_per_ray: bound on the samples of a ray.
        density_bias: added to the logarithm of the density.
        cone_angle: growth of the steps with the distance, 0 for a fixed step.
        image_width: the rays are the pixels of rows of this width, one row after another; 0 if they are not.
            CUDA warps then take 8 x 4 pixels, whose rays march alike. Changes no result.
        precision: of the networks' products on the CPU, as in `conditioned_mlp`; the shares of the condition
            and of the view are float32 in both. CUDA kernels take "float32" only.
        cells: the coarse levels of table from `expand_cells`, read instead of them. Changes no result.

    Returns:
        colors [n_rays, 3], opacities [n_rays], depths [n_rays] (sum of w * t_mid, world units).

    Not differentiable: train with the ops it is made of.

    Raises:
        RuntimeError: a shape, dtype, device or setting is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, MLPSpec, render_rays_fused
        >>> grid = GridSpec(n_levels=2, base_resolution=4, finest_resolution=8)
        >>> sigma, color = MLPSpec(4, 0, 16, 1, 16), MLPSpec(31, 0, 16, 1, 3, "sigmoid")
        >>> full = torch.full((4**3 // 8,), 255, dtype=torch.uint8)
        >>> colors, opacities, depths = render_rays_fused(
        ...     torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0.0]),
        ...     torch.tensor([1.0]), torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), full, 4, 0.125,
        ...     torch.zeros(grid.n_entries, 2), grid, torch.zeros(sigma.n_params), sigma,
        ...     torch.zeros(color.n_params), color)  # zero networks: density 1, grey
        >>> round(opacities.item(), 4), round(colors[0, 0].item(), 4)
        (0.6321, 0.3161)
    """
    if not _backend.is_native():
        return reference.render_rays_fused(
            *(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size, table, grid_spec),
            *(sigma_params, sigma_spec, color_params, color_spec, cond, background),
            *(early_stop_eps, max_samples_per_ray, density_bias, cone_angle, precision, cells),
        )
    if grid_spec.n_dims != 3:
        raise RuntimeError(f"render_rays_fused: grid_spec must have 3 dimensions, got {grid_spec.n_dims}")
    bfloat16 = is_bfloat16("render_rays_fused", precision)
    with torch.no_grad():
        return _native.ops().render_rays_fused(
            *(rays_o, rays_d, t_min, t_max, aabb, density_bitfield, resolution, step_size),
            *(table, grid_numbers(grid_spec), sigma_params, mlp_numbers(sigma_spec)),
            *(color_params, mlp_numbers(view_as_input(color_spec)), cond, background),
            *(early_stop_eps, max_samples_per_ray, density_bias, cone_angle, image_width, bfloat16, cells),
        )


def view_as_input(spec: MLPSpec) -> MLPSpec:
    """The same parameters with the view among the inputs, where a network takes it as its condition."""
    return dataclasses.replace(spec, d_in=spec.d_in + spec.d_cond, d_cond=0)


def _fake(rays_o, *args):
    n_rays = rays_o.shape[0]
    return rays_o.new_empty((n_rays, 3)), rays_o.new_empty((n_rays,)), rays_o.new_empty((n_rays,))


if _native.available():
    torch.library.register_fake("nerfad::render_rays_fused", _fake)
