"""One step of AU-Attention: a few steps of critic and classifier, then one of the generators."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from nerfad.config import AttentionConfig
from nerfad.engine.attention_data import AttentionBatch, AttentionData
from nerfad.models import attention_losses as losses
from nerfad.models.au_attention import AUAttention, Critic
from nerfad.progress import Progress, report

BETAS = (0.5, 0.999)
_FINAL_RATE = 0.02
_FALL = 1.5
"""The learning rate falls over the last 1 / 1.5 of the run."""


class AttentionTrainer:
    """Holds everything that a step changes.

    Args:
        config: settings; the seed draws the initial weights and everything afterwards.
        data: the training frames.
        progress: is told of the warm-up, which is part of the first step.
    """

    def __init__(
        self, config: AttentionConfig, data: AttentionData, progress: Progress | None = None
    ) -> None:
        self.config, self.data = config, data
        self._progress = progress
        n_units = len(data.units)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            generator = AUAttention(n_units, config.width, config.n_blocks)
            critic = Critic(n_units, config.size, config.critic_width, config.shared_critic)
        self.generator = generator.to(config.device)
        self.critic = critic.to(config.device)
        for parameter in (*self.generator.parameters(), *self.critic.parameters()):
            if parameter.dim() == 4:
                # On CPUs a third faster.
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._optimisers = {
            "generator": torch.optim.Adam(self.generator.parameters(), config.learning_rate, BETAS),
            "critic": torch.optim.Adam(self.critic.parameters(), config.learning_rate, BETAS),
        }
        self._random = torch.Generator().manual_seed(config.seed)
        self.n_steps = 0

    def step(self, share: float) -> dict[str, float]:
        """One step of the generators after `critic_steps` of the critic; returns its figures.

        Args:
            share: share of the run that is over, which sets the learning rate.
        """
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = self.config.learning_rate * rate_scale(share)
        figures: dict[str, float] = {}
        if self.n_steps == 0:
            for k in range(self.config.warm_up_steps):
                done = k / self.config.warm_up_steps
                report(self._progress, 0.0, f"teaching the classifier of action units ({done:.0%})")
                self._step_of("critic", self._warm_up_loss(self._batch()))
        for _ in range(self.config.critic_steps):
            figures = self._step_of("critic", self._critic_loss(self._batch()))
        figures |= self._step_of("generator", self._generator_loss(self._batch()))
        self.n_steps += 1
        return figures

    def _warm_up_loss(self, batch: AttentionBatch) -> dict[str, Tensor]:
        """The half of eq. 1 that teaches C: what C says before it can read anything leads the mask astray."""
        with self._precision():
            _, codes = self.critic(self._blurred(batch.crops))
        return {"code_of_crop": losses.code_loss(codes.float(), batch.codes)}

    def _critic_loss(self, batch: AttentionBatch) -> dict[str, Tensor]:
        """Eq. 3, and the half of eq. 1 that teaches C."""
        weights = self.config.weights
        with torch.no_grad(), self._precision():
            generated = self.generator(batch.crops, batch.targets).image.float()
        real, fake = self._blurred(batch.crops), self._blurred(generated)
        with self._precision():
            realness, codes = self.critic(real)
            judged = self.critic.realness(fake)
            share = self._uniform(len(real), 1, 1, 1)
            penalty = losses.gradient_penalty(self.critic.realness, batch.crops, generated, share)
        return {
            "critic": weights.adversarial * losses.critic_loss(judged.float(), realness.float()),
            "penalty": weights.adversarial * weights.gradient_penalty * penalty,
            "code_of_crop": weights.code * losses.code_loss(codes.float(), batch.codes),
        }

    def _generator_loss(self, batch: AttentionBatch) -> dict[str, Tensor]:
        """The generators' side of eq. 3, their half of eq. 1, eq. 2, and the mask's two terms."""
        weights = self.config.weights
        with self._precision():
            made = self.generator(batch.crops, batch.targets)
            realness, codes = self.critic(self._blurred(made.image))
            back = self.generator(made.image, batch.codes)
        masks = torch.cat([made.mask, back.mask]).float()
        return {
            "realness": -weights.adversarial * realness.float().mean(),
            "code_of_image": weights.code * losses.code_loss(codes.float(), batch.targets),
            "cycle": weights.cycle * losses.cycle_loss(back.image.float(), batch.crops),
            "mask_mean": weights.mask_mean * masks.mean(),
            "mask_variation": weights.mask_variation * losses.mask_variation(masks),
        }

    def _step_of(self, name: str, terms: dict[str, Tensor]) -> dict[str, float]:
        optimiser = self._optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        # The generators' backward pass runs through the critic, whose gradients nobody reads.
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        torch.stack(list(terms.values())).sum().backward(inputs=parameters)
        optimiser.step()
        return {key: float(value.detach()) for key, value in terms.items()}

    def _batch(self) -> AttentionBatch:
        batch = self.data.batch(self.config, self._random)
        device = self.config.device
        crops = batch.crops.to(device).contiguous(memory_format=torch.channels_last)
        return AttentionBatch(crops, batch.codes.to(device), batch.targets.to(device))

    def _blurred(self, pictures: Tensor) -> Tensor:
        """Pictures with noise, shifted by a few pixels: a classifier that sees single pixels could be fooled
        by single pixels.
        """
        reach, size = self.config.shift_px, self.config.size
        if reach > 0:
            padded = nn.functional.pad(pictures, (reach,) * 4, mode="replicate")
            down, across = torch.randint(2 * reach + 1, (2,), generator=self._random).tolist()
            pictures = padded[:, :, down : down + size, across : across + size]
        noise = torch.randn(pictures.shape, generator=self._random).to(pictures)
        return pictures + self.config.picture_noise * noise

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._random).to(self.config.device)

    def _precision(self) -> contextlib.AbstractContextManager:
        kind = torch.device(self.config.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.config.bfloat16)

    def state(self) -> dict[str, Tensor]:
        """Everything that resuming needs."""
        tensors = {"loop.random": self._random.get_state()}
        for name, module in (("generator", self.generator), ("critic", self.critic)):
            tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
            for k, entry in self._optimisers[name].state_dict()["state"].items():
                tensors |= {f"adam.{name}.{k}.{key}": value for key, value in entry.items()}
        return tensors

    def load_state(self, n_steps: int, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.n_steps = n_steps
        self._random.set_state(tensors["loop.random"])
        for name, module in (("generator", self.generator), ("critic", self.critic)):
            module.load_state_dict(_under(tensors, f"{name}."))
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"adam.{name}.").items():
                k, what = key.split(".")
                entries.setdefault(int(k), {})[what] = value
            whole = self._optimisers[name].state_dict()
            self._optimisers[name].load_state_dict({**whole, "state": entries})


def rate_scale(share: float) -> float:
    """The learning rate at a share of the run, over its first value.

    >>> rate_scale(0.0), rate_scale(1.0)
    (1.0, 0.02)
    """
    return min(1.0, _FALL * (1 - min(share, 1.0)) + _FINAL_RATE)


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
