"""The conditional radiance field integrated along rays in one pass, without the samples behind the stop."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops._direct import direct, needs_gradient
from nerfad.ops.composite import composite
from nerfad.ops.conditioned_mlp import MLPSpec, Precision, is_bfloat16
from nerfad.ops.grid_spec import GridSpec
from nerfad.ops.radiance_field import grid_numbers, kernels_keep_features, mlp_numbers, radiance_field
from nerfad.ops.reference import render_samples as reference

__all__ = ["render_samples"]


def render_samples(
    positions: Tensor,
    table: Tensor,
    grid_spec: GridSpec,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    views: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    background: Tensor | None = None,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
    density_bias: float = 0.0,
    early_stop_eps: float = 1e-4,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Colours of rays from their samples, for training: `composite` of `radiance_field`.

    NeRF-AD's conditional field F(position, direction, condition) (eq. 7) and its integral (eq. 8):

    .. math::
        (\sigma_i, c_i) = F(x_i, v_r, c_{k(r)}),\quad C_r = \sum_i w_i c_i + (1 - \sum_i w_i)\, C_{background}

    with the weights of `composite`. On the CPU the rays go through the networks in rounds, and a ray leaves
    when it stops: the samples behind a stop, which have weight 0 and no gradient, are never evaluated, nor is
    anything in them read. CUDA evaluates them.

    Args:
        positions: [n, 3] float32 (float64 on the CPU) in [0, 1]; values outside are clamped.
        table, grid_spec, sigma_params, sigma_spec, color_params, color_spec: see `radiance_field`.
        views: [n_rays, n_view] what the colour network sees of each ray's direction.
        t_starts, t_ends: [n], the sample's interval along its ray, world units.
        packed_info: [n_rays, 2] int64, first sample and number of samples of each ray.
        background: [n_rays, 3] colour behind each ray, or None for black.
        cond: [n_cond, sigma_spec.d_cond] conditions; None exactly if d_cond is 0.
        cond_index: [n_rays] int32, the condition of each ray, in [0, n_cond) (not checked on CUDA); None: all
            use the first.
        density_bias: added to the logarithm of the density.
        early_stop_eps: samples behind a transmittance below this get weight 0.
        precision: of the networks' products, as in `radiance_field`.

    Returns:
        colors [n_rays, 3], opacities [n_rays], depths [n_rays] (sum of w * t_mid, world units, not
        normalised by the opacity), weights [n].

    Differentiable in positions (see `grid_encode`), table, sigma_params, color_params, views, background and
    cond. On the CPU everything is bit-identical for any number of threads.

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or an index is out of range; the message names the
            argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, MLPSpec, render_samples
        >>> grid = GridSpec(n_levels=2, base_resolution=4, finest_resolution=8)
        >>> sigma, color = MLPSpec(4, 1, 16, 1, 16), MLPSpec(15, 16, 16, 1, 3, "sigmoid")
        >>> colors, opacities, depths, weights = render_samples(
        ...     torch.rand(2, 3), torch.zeros(grid.n_entries, 2), grid, torch.zeros(sigma.n_params), sigma,
        ...     torch.zeros(color.n_params), color, torch.rand(1, 16), torch.tensor([0.0, 99.0]),
        ...     torch.tensor([99.0, 100.0]), torch.tensor([[0, 2]]), cond=torch.zeros(1, 1))
        >>> colors.tolist(), weights.tolist()  # zero networks: density 1 and grey; the first sample is opaque
        ([[0.5, 0.5, 0.5]], [1.0, 0.0])
    """
    bfloat16 = is_bfloat16("render_samples", precision)
    if grid_spec.n_dims != 3:
        raise RuntimeError(f"render_samples: grid_spec must have 3 dimensions, got {grid_spec.n_dims}")
    field = (positions, table, grid_spec, sigma_params, sigma_spec, color_params, color_spec, views)
    spans = (t_starts, t_ends, packed_info, background)
    if not _backend.is_native():
        return reference.render_samples(
            *field, *spans, cond, cond_index, density_bias, early_stop_eps, precision
        )
    if positions.is_cuda or _backend.is_emulating():
        ray_indices = reference.rays_of_samples(packed_info, positions.shape[0])
        sample_cond = None if cond_index is None else cond_index[ray_indices]
        sigmas, rgbs = radiance_field(*field, ray_indices, cond, sample_cond, density_bias, precision)
        return composite(sigmas, rgbs, *spans, early_stop_eps)
    differentiates = needs_gradient(positions, table, sigma_params, color_params, views, background, cond)
    keeps_features = differentiates and kernels_keep_features(grid_spec, bfloat16)
    return (_with_gradient if differentiates else _native.ops().render_samples_fwd)(
        *(positions, table, grid_numbers(grid_spec), sigma_params, mlp_numbers(sigma_spec), color_params),
        *(mlp_numbers(color_spec), views, *spans, cond, cond_index, density_bias, early_stop_eps, bfloat16),
        keeps_features,
    )[:4]


def _fake_fwd(positions, *args):
    packed_info = args[9]
    n, n_rays = positions.shape[0], packed_info.shape[0]
    d_in, (bfloat16, keeps_features) = args[3][0], args[-2:]
    dtype = torch.bfloat16 if bfloat16 else positions.dtype
    return (
        *(positions.new_empty((n_rays, 3)), positions.new_empty((n_rays,)), positions.new_empty((n_rays,))),
        *(positions.new_empty((n,)), positions.new_empty((n,)), positions.new_empty((n, 3))),
        positions.new_empty((n,), dtype=torch.int32),
        positions.new_empty((n if keeps_features else 0, d_in), dtype=dtype),
    )


def _setup_context(ctx, inputs, output):
    positions, table, ctx.grid, sigma_params, ctx.sigma, color_params, ctx.color, views, *rest = inputs
    *spans, cond, cond_index, ctx.density_bias, ctx.early_stop_eps, ctx.bfloat16, _ = rest
    evaluated = output[4:]
    ctx.mark_non_differentiable(*evaluated)
    ctx.set_materialize_grads(False)  # zeros for all of them
    ctx.save_for_backward(
        positions, table, sigma_params, color_params, views, *spans, cond, cond_index, *evaluated
    )


def _backward(ctx, *grads):
    """The parts' own backward passes; the field's leaves out the samples that were never evaluated."""
    positions, table, sigma_params, color_params, views, *rest = ctx.saved_tensors
    *spans, cond, cond_index, sigmas, rgbs, ray_indices, features = rest
    ops = _native.ops()
    n, n_rays = positions.shape[0], views.shape[0]
    shapes = ((n_rays, 3), (n_rays,), (n_rays,), (n,))
    of_outputs = (
        positions.new_zeros(shape) if grad is None else grad.contiguous()
        for grad, shape in zip(grads[:4], shapes, strict=True)
    )
    grad_sigmas, grad_rgbs, grad_background = ops.composite_bwd(
        sigmas, rgbs, *spans, ctx.early_stop_eps, *of_outputs
    )
    needs_positions, needs_table = ctx.needs_input_grad[:2]
    sample_cond = None if cond_index is None else cond_index[ray_indices]
    grad_positions, grad_table, grad_sigma, grad_color, grad_views, grad_cond = ops.radiance_field_bwd(
        *(grad_sigmas, grad_rgbs, positions, table, ctx.grid, sigma_params, ctx.sigma, color_params),
        *(ctx.color, views, ray_indices, cond, sample_cond, ctx.density_bias, ctx.bfloat16),
        *(features, needs_positions, needs_table),
    )
    return (
        *(grad_positions if needs_positions else None, grad_table.to(table.dtype) if needs_table else None),
        *(None, grad_sigma, None, grad_color, None, grad_views, None, None, None),
        *(None if spans[3] is None else grad_background, None if cond is None else grad_cond),
        *(None, None, None, None, None),
    )


_with_gradient = direct("render_samples_fwd", _setup_context, _backward)


if _native.available():
    torch.library.register_fake("nerfad::render_samples_fwd", _fake_fwd)
    torch.library.register_autograd("nerfad::render_samples_fwd", _backward, setup_context=_setup_context)
