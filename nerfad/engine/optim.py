"""AdamW for tables and networks, and the learning rate's course over a run."""

from __future__ import annotations

import torch
from torch import Tensor

from nerfad.config import OptimConfig

WARM_UP_STEPS = 100
PAPER_FIELD = ("head.coarse.", "head.fine.")
"""Parameters of the paper's two networks have these in their names."""
FUSION = "fusion."
"""Parameters of a fusion that learns along begin so."""


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
    """AdamW whose state is a flat dict of tensors, so that it goes into a checkpoint as it is.

    Grid tables get `lr_table`, poses `lr_poses`, both without decay; the paper's field gets `lr_mlp`, a
    fusion that learns along `lr_fusion`, everything else `lr_networks`.
    """

    def __init__(self, parameters: dict[str, Tensor], config: OptimConfig) -> None:
        self.parameters = {key: value for key, value in parameters.items() if value.numel() > 0}
        kinds: dict[str, list[Tensor]] = {
            kind: [] for kind in ("table", "pose_delta", "mlp", "fusion", "other")
        }
        for key, value in self.parameters.items():
            name = "mlp" if any(part in key for part in PAPER_FIELD) else key.rsplit(".", 1)[-1]
            name = "fusion" if key.startswith(FUSION) else name
            kinds[name if name in kinds else "other"].append(value)
        groups = [
            {"params": kinds["table"], "lr": config.lr_table, "weight_decay": 0.0},
            {"params": kinds["pose_delta"], "lr": config.lr_poses, "weight_decay": 0.0},
            {"params": kinds["mlp"], "lr": config.lr_mlp, "weight_decay": 0.0},
            {"params": kinds["fusion"], "lr": config.lr_fusion, "weight_decay": config.weight_decay},
            {"params": kinds["other"], "lr": config.lr_networks, "weight_decay": config.weight_decay},
        ]
        groups = [group for group in groups if group["params"]]
        self._adam = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self._base_lrs = [float(group["lr"]) for group in self._adam.param_groups]

    def step(self, scale: float) -> None:
        """One step on the gradients that are there, which are then dropped."""
        for group, lr in zip(self._adam.param_groups, self._base_lrs, strict=True):
            group["lr"] = lr * scale
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, by parameter name."""
        return {
            f"{name}.{key}": value
            for key, parameter in self.parameters.items()
            for name, value in self._adam.state[parameter].items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        for name_and_key, value in state.items():
            name, key = name_and_key.split(".", 1)
            self._adam.state[self.parameters[key]][name] = value.to(self.parameters[key].device, copy=True)
