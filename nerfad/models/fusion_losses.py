"""Losses of the fusion of Audio-face and sound (NeRF-AD, section 2.2, eqs. 4-6).

Symbols: ``n`` frames, ``k`` = n_AU action units, ``x`` labels (present or not), ``x^`` probabilities that the
classifier reads off the decoded picture, ``r`` occurrence rates in the training set.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DICE_EPSILON = 1.0
"""Eq. 5's epsilon, which the paper does not give: 1 keeps the gradient of an absent unit finite."""


def unit_weights(rates: Tensor) -> Tensor:
    """w_i = (1/r_i) n_AU / sum_j (1/r_j) (below eq. 4), float32 [k]; they sum to the number of units.

    A unit that never occurs (r_i = 0) would take all the weight and has nothing to teach: its weight is 0,
    and sum and n_AU run over the others.

    Args:
        rates: occurrence rates [k] in [0, 1].

    Example:
        >>> unit_weights(torch.tensor([0.5, 0.25, 0.0]))
        tensor([0.6667, 1.3333, 0.0000])
    """
    occurs = rates > 0
    inverse = torch.where(occurs, 1 / rates.clamp_min(1e-12), torch.zeros_like(rates))
    return inverse * occurs.sum() / inverse.sum().clamp_min(1e-12)


def weighted_bce(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """L_bce = -1/n_AU sum_i w_i [x_i log x^_i + (1 - x_i) log(1 - x^_i)] (eq. 4), mean over frames.

    Args:
        logits: of x^, [n, k], so that a certain error costs much but not infinity.
        labels: x [n, k], 0 or 1.
        weights: w [k].

    Example:
        >>> weighted_bce(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(2))
        tensor(0.6931)
    """
    each = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (weights * each).mean()


def weighted_dice(
    probabilities: Tensor, labels: Tensor, weights: Tensor, epsilon: float = DICE_EPSILON
) -> Tensor:
    """L_dice = 1/n_AU sum_i w_i [1 - (2 x_i x^_i + e) / (x_i^2 + x^_i^2 + e)] (eq. 5), mean over frames.

    The sum runs over the n_AU units; in print it starts at 0.

    Args:
        probabilities: x^ [n, k] in [0, 1].
        labels: x [n, k], 0 or 1.
        weights: w [k].

    Example:
        >>> weighted_dice(torch.tensor([[0.0]]), torch.tensor([[1.0]]), torch.ones(1))
        tensor(0.5000)
    """
    overlap = 2 * labels * probabilities + epsilon
    return (weights * (1 - overlap / (labels**2 + probabilities**2 + epsilon))).mean()


def au_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """L_AU = L_bce + L_dice (below eq. 5) of the classifier's logits [n, k]."""
    return weighted_bce(logits, labels, weights) + weighted_dice(torch.sigmoid(logits), labels, weights)


def reconstruction_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """L_rec = ||I_fus-af - I^_fus-af||_1 (eq. 6), as the mean over frames, channels and pixels.

    Example:
        >>> reconstruction_loss(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
        tensor(0.5000)
    """
    return (decoded - target).abs().mean()
