"""What AU-Attention is trained with: equations 1 to 3, and the two terms that keep its mask in shape.

Symbols: ``n`` pictures of side ``s``, ``k`` action units.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def code_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """One half of eq. 1: ||f - f'||_2^2 of codes [n, k], summed over units and averaged over pictures.

    With the code that C finds in I_G and the target code it teaches the generator; with the code that it
    finds in I_crop and the true label it teaches C.

    >>> float(code_loss(torch.tensor([[0.5, 1.0]]), torch.tensor([[0.0, 0.0]])))
    1.25
    """
    return (found - wanted).square().sum(1).mean()


def cycle_loss(restored: Tensor, crop: Tensor) -> Tensor:
    """Eq. 2: ||A_G I_G + (1 - A_G) I_GW - I_crop||_1, per value of the picture.

    Args:
        restored: the generator's image of I_G and the crop's own code.
        crop: I_crop, of the same shape.

    >>> float(cycle_loss(torch.tensor([1.0, -1.0]), torch.tensor([0.0, -1.0])))
    0.5
    """
    return (restored - crop).abs().mean()


def critic_loss(of_generated: Tensor, of_real: Tensor) -> Tensor:
    """The critic's part of eq. 3 without the penalty: E[W_D(I_G)] - E[W_D(I_crop)].

    >>> float(critic_loss(torch.tensor([1.0, 3.0]), torch.tensor([5.0])))
    -3.0
    """
    return of_generated.mean() - of_real.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, generated: Tensor, share: Tensor
) -> Tensor:
    """The penalty of eq. 3: E[(||grad W_D(I)||_2 - 1)^2].

    The paper calls I "random noise". WGAN-GP, which it cites, defines it on straight lines between real and
    generated pictures, and so it is here: I = share * real + (1 - share) * generated.

    Args:
        critic: W_D; its outputs are summed for each picture.
        real, generated: pictures [n, 3, s, s].
        share: [n, 1, 1, 1] in [0, 1].

    >>> real, fake = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    >>> slope_two = lambda x: 2 * x.flatten(1)[:, :1]
    >>> float(gradient_penalty(slope_two, real, fake, torch.full((2, 1, 1, 1), 0.5)))
    1.0
    """
    between = (share * real + (1 - share) * generated).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).float().sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def mask_variation(mask: Tensor) -> Tensor:
    """Total variation of masks [n, 1, s, s]: mean |difference| of neighbours, down and across.

    >>> float(mask_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])))
    1.0
    """
    down = (mask[..., 1:, :] - mask[..., :-1, :]).abs().mean()
    across = (mask[..., :, 1:] - mask[..., :, :-1]).abs().mean()
    return down + across
