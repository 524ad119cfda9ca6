"""Plain-torch sparse Adam step: the definition that the kernels are tested against."""

import torch
from torch import Tensor


@torch.no_grad()
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
    """See `nerfad.ops.sparse_adam_`."""
    beta1, beta2 = betas
    touched = grad != 0
    g = grad[touched]
    p = table[touched]
    m_new = beta1 * m[touched] + (1 - beta1) * g
    v_new = beta2 * v[touched] + (1 - beta2) * g * g
    m_hat = m_new / (1 - beta1**step)
    v_hat = v_new / (1 - beta2**step)
    table[touched] = p * (1 - lr * weight_decay) - lr * m_hat / (v_hat.sqrt() + eps)
    m[touched] = m_new
    v[touched] = v_new
    if zero_grad:
        grad.zero_()
