"""The conditional radiance field in one pass: grid encoding, density network and colour network, fused."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops._direct import direct, needs_gradient
from nerfad.ops.conditioned_mlp import MLPSpec, Precision, is_bfloat16
from nerfad.ops.grid_spec import KINDS, GridSpec
from nerfad.ops.reference import radiance_field as reference
from nerfad.ops.reference.radiance_field import LOG_DENSITY_LIMIT

__all__ = ["radiance_field"]


def radiance_field(
    positions: Tensor,
    table: Tensor,
    grid_spec: GridSpec,
    sigma_params: Tensor,
    sigma_spec: MLPSpec,
    color_params: Tensor,
    color_spec: MLPSpec,
    views: Tensor,
    ray_indices: Tensor | None = None,
    cond: Tensor | None = None,
    cond_index: Tensor | None = None,
    density_bias: float = 0.0,
    precision: Precision = "float32",
) -> tuple[Tensor, Tensor]:
    r"""Densities and colours of samples, without a tensor of their features or hidden layers.

    NeRF-AD's conditional field F(position, direction, condition) (eq. 7) in its fast form. The same as
    `grid_encode`, `conditioned_mlp` (density) and `conditioned_mlp` (colour) one after another, up to
    rounding:

    .. math::
        h_i = mlp_\sigma(grid(x_i), c_{k(i)}),\quad
        \sigma_i = e^{clamp(h_{i,0} + density\_bias, -15, 15)},\quad
        rgb_i = mlp_c(h_{i,1:}, v_{r(i)})

    The forward pass keeps the encoded features for the backward pass where the CPU computes both, rounded if
    the networks round them; the rest is recomputed. The backward pass leaves out samples whose gradients are
    all zero, as those behind an early stop are: their contributions are exactly zero.

    Args:
        positions: [n, 3] float32 (float64 on the CPU) in [0, 1]; values outside are clamped.
        table: [grid_spec.n_entries, n_features] float32, float16 or bfloat16 (float64 with float64
            positions).
        grid_spec: a grid of three dimensions.
        sigma_params, sigma_spec: density network on the grid's features and the condition; its first output
            is the logarithm of the density, the others are the geometry code.
        color_params, color_spec: colour network on the geometry code and the view, which it takes as inputs
            or as its condition (the parameters are the same); three outputs.
        views: [n_rays, n_view] what the colour network sees of each ray's direction, usually 16 spherical
            harmonics (`sh_encode`).
        ray_indices: [n] int32, the ray of each sample, in [0, n_rays) (not checked on CUDA); None: all use
            the first.
        cond: [n_cond, sigma_spec.d_cond] conditions; None exactly if d_cond is 0.
        cond_index: [n] int32, the condition of each sample, in [0, n_cond) (not checked on CUDA); None: all
            use the first.
        density_bias: added to the logarithm of the density.
        precision: of the networks' products, as in `conditioned_mlp`. "bfloat16" is faster where the
            processor multiplies it. CUDA kernels take "float32" only (and multiply in half precision).

    Returns:
        sigmas [n] in 1 / (unit of the box), rgbs [n, 3].

    Differentiable in positions (see `grid_encode`), table, sigma_params, color_params, views and cond. Sums
    are in a fixed order: on the CPU the gradients are bit-identical for any number of threads.

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or an index is out of range; the message names the
            argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import GridSpec, MLPSpec, radiance_field
        >>> grid = GridSpec(n_levels=2, base_resolution=4, finest_resolution=8)
        >>> sigma, color = MLPSpec(4, 1, 16, 1, 16), MLPSpec(15, 16, 16, 1, 3, "sigmoid")
        >>> sigmas, rgbs = radiance_field(
        ...     torch.rand(2, 3), torch.zeros(grid.n_entries, 2), grid, torch.zeros(sigma.n_params), sigma,
        ...     torch.zeros(color.n_params), color, torch.rand(1, 16), cond=torch.zeros(1, 1))
        >>> sigmas.tolist(), rgbs[0].tolist()  # zero networks: density 1, grey
        ([1.0, 1.0], [0.5, 0.5, 0.5])
    """
    bfloat16 = is_bfloat16("radiance_field", precision)
    if grid_spec.n_dims != 3:
        raise RuntimeError(f"radiance_field: grid_spec must have 3 dimensions, got {grid_spec.n_dims}")
    if not _backend.is_native():
        return reference.radiance_field(
            *(positions, table, grid_spec, sigma_params, sigma_spec, color_params, color_spec),
            *(views, ray_indices, cond, cond_index, density_bias, precision),
        )
    differentiates = needs_gradient(positions, table, sigma_params, color_params, views, cond)
    keeps_features = (
        differentiates
        and not (positions.is_cuda or _backend.is_emulating())
        and kernels_keep_features(grid_spec, bfloat16)
    )
    return (_with_gradient if differentiates else _native.ops().radiance_field_fwd)(
        *(positions, table, grid_numbers(grid_spec), sigma_params, mlp_numbers(sigma_spec)),
        *(color_params, mlp_numbers(color_spec), views, ray_indices, cond, cond_index),
        *(density_bias, bfloat16, keeps_features),
    )[:2]


def kernels_keep_features(spec: GridSpec, bfloat16: bool) -> bool:
    """Whether the CPU kernels can read kept features: in whole vectors."""
    return spec.n_outputs % (32 if bfloat16 else 16) == 0


def grid_numbers(spec: GridSpec) -> list[int]:
    """A grid as the native field ops take it."""
    smoothstep = int(spec.interpolation == "smoothstep")
    return [*spec.native_resolutions, spec.log2_table_size, KINDS.index(spec.kind), smoothstep]


def mlp_numbers(spec: MLPSpec) -> list[int]:
    """A network as the native field ops take it."""
    sigmoid = int(spec.output_activation == "sigmoid")
    return [spec.d_in, spec.d_cond, spec.d_hidden, spec.n_hidden, spec.d_out, sigmoid]


def _fake_fwd(positions, *args):
    n, d_in, (bfloat16, keeps_features) = positions.shape[0], args[3][0], args[-2:]
    dtype = torch.bfloat16 if bfloat16 else positions.dtype
    features = positions.new_empty((n if keeps_features else 0, d_in), dtype=dtype)
    return positions.new_empty((n,)), positions.new_empty((n, 3)), features


def _fake_bwd(
    grad_sigmas, grad_rgbs, positions, table, grid, sigma_params, sigma, color_params, color, *rest
):
    views, _, cond, *_, needs_positions, needs_table = rest
    n_entries, n_features = table.shape
    return (
        positions.new_empty((positions.shape[0] if needs_positions else 0, 3)),
        positions.new_empty((n_entries if needs_table else 0, n_features)),
        torch.empty_like(sigma_params),
        torch.empty_like(color_params),
        torch.empty_like(views),
        positions.new_empty((0 if cond is None else cond.shape[0], sigma[1])),
    )


def _setup_context(ctx, inputs, output):
    positions, table, ctx.grid, sigma_params, ctx.sigma, color_params, ctx.color, *rest = inputs
    views, ray_indices, cond, cond_index, ctx.density_bias, ctx.bfloat16, _ = rest
    features = output[2]
    ctx.mark_non_differentiable(features)
    ctx.set_materialize_grads(False)  # zeros for the features
    ctx.save_for_backward(
        *(positions, table, sigma_params, color_params, views, ray_indices, cond, cond_index, features)
    )


def _backward(ctx, grad_sigmas, grad_rgbs, _):
    positions, table, sigma_params, color_params, views, *rest = ctx.saved_tensors
    ray_indices, cond, cond_index, features = rest
    n = positions.shape[0]
    grad_sigmas = positions.new_zeros((n,)) if grad_sigmas is None else grad_sigmas
    grad_rgbs = positions.new_zeros((n, 3)) if grad_rgbs is None else grad_rgbs
    needs_positions, needs_table = ctx.needs_input_grad[:2]
    on_cuda = positions.is_cuda or _backend.is_emulating()
    backward = _backward_by_parts if on_cuda else _native.ops().radiance_field_bwd
    grad_positions, grad_table, grad_sigma, grad_color, grad_views, grad_cond = backward(
        *(grad_sigmas.contiguous(), grad_rgbs.contiguous(), positions, table, ctx.grid),
        *(sigma_params, ctx.sigma, color_params, ctx.color, views, ray_indices, cond, cond_index),
        *(ctx.density_bias, ctx.bfloat16, features, needs_positions, needs_table),
    )
    return (
        *(grad_positions if needs_positions else None, grad_table.to(table.dtype) if needs_table else None),
        *(None, grad_sigma, None, grad_color, None, grad_views, None),
        *(None if cond is None else grad_cond, None, None, None, None),
    )


_with_gradient = direct("radiance_field_fwd", _setup_context, _backward)


def _backward_by_parts(
    grad_sigmas,
    grad_rgbs,
    positions,
    table,
    grid,
    sigma_params,
    sigma,
    color_params,
    color,
    views,
    ray_indices,
    cond,
    cond_index,
    density_bias,
    bfloat16,
    _,
    needs_positions,
    needs_table,
):
    """The backward pass on CUDA: the parts' own kernels one after another, which write their tensors."""
    ops = _native.ops()
    *resolutions, log2_table_size, kind, smoothstep = grid
    geometry = (resolutions, log2_table_size, kind, bool(smoothstep))
    sigma_net = (*sigma[1:5], False, False)
    color_net = (views.shape[1], *color[2:5], bool(color[5]), False)
    features = ops.grid_encode_fwd(positions, table, *geometry)
    h = ops.conditioned_mlp_fwd(features, sigma_params, cond, cond_index, *sigma_net)
    code, log_density = h[:, 1:].contiguous(), h[:, 0] + density_bias
    grad_code, grad_color, grad_views = ops.conditioned_mlp_bwd(
        grad_rgbs, code, color_params, views, ray_indices, *color_net, True
    )
    inside = log_density.abs() <= LOG_DENSITY_LIMIT
    grad_log_density = torch.where(inside, grad_sigmas * log_density.exp(), 0.0)
    grad_h = torch.cat([grad_log_density[:, None], grad_code], 1)
    grad_features, grad_sigma, grad_cond = ops.conditioned_mlp_bwd(
        grad_h, features, sigma_params, cond, cond_index, *sigma_net, True
    )
    grad_positions, grad_table = ops.grid_encode_bwd(
        *(positions, table, *geometry, grad_features, needs_positions, needs_table),
        torch.are_deterministic_algorithms_enabled(),
    )
    return grad_positions, grad_table, grad_sigma, grad_color, grad_views, grad_cond


if _native.available():
    torch.library.register_fake("nerfad::radiance_field_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::radiance_field_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::radiance_field_fwd", _backward, setup_context=_setup_context)
