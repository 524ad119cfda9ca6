"""Adam for tables and networks, and the learning rate's course over a run."""

from __future__ import annotations

import torch
from torch import Tensor

from nerfad.config import OptimConfig
from nerfad.ops import sparse_adam_

WARM_UP_STEPS = 100


def lr_scale(step: int, share: float, config: OptimConfig) -> float:
    """Factor on all learning rates: a short rise, a plateau, then an exponential fall.

    Args:
        step: steps done.
        share: share of the run that is over, 0 to 1.
    """
    rise = min(1.0, (step + 1) / WARM_UP_STEPS)
    if share <= config.hold_share:
        return rise
    fall = (share - config.hold_share) / (1.0 - config.hold_share)
    return rise * config.final_lr ** min(fall, 1.0)


class Optimiser:
    """Adam whose state is a flat dict of tensors, so that it goes into a checkpoint as it is.

    Grid tables get `lr_table`, everything else `lr_networks`. Elements without a gradient are left alone.
    """

    def __init__(self, parameters: dict[str, Tensor], config: OptimConfig) -> None:
        self.parameters = {key: value for key, value in parameters.items() if value.numel() > 0}
        self.config = config
        self.n_steps = 0
        self.moments = {
            f"{moment}.{key}": torch.zeros_like(value)
            for key, value in self.parameters.items()
            for moment in ("m", "v")
        }

    def step(self, scale: float) -> None:
        """One step on the gradients that are there, which are then dropped."""
        self.n_steps += 1
        for key, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            is_table = key.endswith("table")
            lr = self.config.lr_table if is_table else self.config.lr_networks
            sparse_adam_(
                parameter.data,
                parameter.grad,
                self.moments[f"m.{key}"],
                self.moments[f"v.{key}"],
                self.n_steps,
                lr * scale,
                weight_decay=0.0 if is_table else self.config.weight_decay,
            )
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        return {**self.moments, "n_steps": torch.tensor(self.n_steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.n_steps = int(state["n_steps"])
        for key, value in self.moments.items():
            value.copy_(state[key])
