"""Adam for tables of which a step touches only a part."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import sparse_adam as reference


def sparse_adam_(
    table: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
    weight_decay: float = 0.0,
    zero_grad: bool = False,
) -> None:
    r"""One Adam step, in place, on the elements with a non-zero gradient; all others keep value and moments.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g,\quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2,\quad
        p \leftarrow p (1 - lr \cdot decay)
        - lr \frac{m / (1 - \beta_1^{step})}{\sqrt{v / (1 - \beta_2^{step})} + \epsilon}

    Moments of untouched elements do not decay and the bias correction follows the common step, as in
    `torch.optim.SparseAdam`; a hash grid needs just that, and lines without a gradient cost one read.

    Args:
        table: float32, any shape, changed in place.
        grad: float32, same shape; set to zero in the same pass if `zero_grad`.
        m, v: float32, same shape, the first and second moments (zero before step 1), changed in place.
        step: number of this step, from 1.
        lr, betas, eps, weight_decay: as in AdamW (decoupled decay, on touched elements only).

    Not differentiable.

    Raises:
        RuntimeError: a shape, dtype or device is wrong; the message names the argument.

    Example:
        >>> import torch
        >>> from nerfad.ops import sparse_adam_
        >>> p, m, v = torch.ones(2), torch.zeros(2), torch.zeros(2)
        >>> sparse_adam_(p, torch.tensor([3.0, 0.0]), m, v, step=1, lr=0.5)
        >>> [round(x, 3) for x in p.tolist()]
        [0.5, 1.0]
    """
    if not _backend.is_native():
        reference.sparse_adam_(table, grad, m, v, step, lr, betas, eps, weight_decay, zero_grad)
        return
    with torch.no_grad():  # a leaf that requires a gradient may not be changed in place otherwise
        _native.ops().sparse_adam_(table, grad, m, v, step, lr, *betas, eps, weight_decay, zero_grad)


def _fake(table, grad, m, v, step, lr, beta1, beta2, eps, weight_decay, zero_grad):
    return None


if _native.available():
    torch.library.register_fake("nerfad::sparse_adam_", _fake)
