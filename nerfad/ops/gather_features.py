"""Bilinear gather: what feature maps show at points projected into them."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import gather_features as reference


def gather_features(maps: Tensor, pixels: Tensor) -> Tensor:
    r"""Features of points projected into several views (section 2.2 of the paper, after DFRF).

    .. math::
        y_{v,i} = (1-b)\,\big[(1-a)\, m_{v,r,c} + a\, m_{v,r,c+1}\big]
                + b\,\big[(1-a)\, m_{v,r+1,c} + a\, m_{v,r+1,c+1}\big],
        \quad c + a = x_{v,i},\; r + b = y_{v,i}

    The same as `torch.nn.functional.grid_sample(mode="bilinear", padding_mode="border",
    align_corners=True)` of positions scaled to [-1, 1], on maps whose channels come last: a point then reads
    four runs of memory instead of four times n_channels single values. A convolution's output in
    `torch.channels_last` format becomes such a map by `permute(0, 2, 3, 1)`, without a copy.

    Args:
        maps: [n_views, height, width, n_channels] float32 (float64 on the CPU).
        pixels: [n_views, n_points, 2] (column, row), counted like `Camera.project`'s: integers are centres
            of pixels. Positions outside the map read its border; NaN counts as 0.

    Returns:
        [n_views, n_points, n_channels].

    Differentiable in maps and pixels; a coordinate outside the map has gradient 0. On the CPU the gradient of
    the maps is summed in the order of the points, whatever the number of threads.

    Raises:
        RuntimeError: a shape, dtype or device is wrong, or the maps have no pixels; the message names the
            argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import gather_features
        >>> maps = torch.tensor([[[[0.0], [1.0]], [[2.0], [3.0]]]])
        >>> gather_features(maps, torch.tensor([[[0.5, 0.0], [1.0, 0.5], [9.0, 9.0]]])).flatten().tolist()
        [0.5, 2.0, 3.0]
    """
    if not _backend.is_native():
        return reference.gather_features(maps, pixels)
    return _native.ops().gather_features_fwd(maps, pixels)


def _fake_fwd(maps, pixels):
    return maps.new_empty((maps.shape[0], pixels.shape[1], maps.shape[3]))


def _fake_bwd(maps, pixels, grad_features, needs_maps, needs_pixels):
    n_views, *rest = maps.shape
    return (
        maps.new_empty((n_views if needs_maps else 0, *rest)),
        maps.new_empty((n_views if needs_pixels else 0, pixels.shape[1], 2)),
    )


def _setup_context(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad_features):
    needs_maps, needs_pixels = ctx.needs_input_grad
    grad_maps, grad_pixels = _native.ops().gather_features_bwd(
        *ctx.saved_tensors, grad_features.contiguous(), needs_maps, needs_pixels
    )
    return grad_maps if needs_maps else None, grad_pixels if needs_pixels else None


if _native.available():
    torch.library.register_fake("nerfad::gather_features_fwd", _fake_fwd)
    torch.library.register_fake("nerfad::gather_features_bwd", _fake_bwd)
    torch.library.register_autograd("nerfad::gather_features_fwd", _backward, setup_context=_setup_context)
