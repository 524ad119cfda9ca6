"""One optimiser step of an avatar, and what keeps its occupancy grid up to date."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfad.cameras import Camera
from nerfad.config import TrainConfig
from nerfad.engine.conditions import Conditions
from nerfad.engine.lattices import Lattices
from nerfad.engine.optim import Optimiser, lr_scale
from nerfad.engine.sampling import HEAD, NECK, TORSO, FrameStore, RayBatch, uniform
from nerfad.models.avatar import AvatarModel, LayeredRays, moved_cameras
from nerfad.models.paper_field import PaperRenderer

FEW_RAYS = ((256, 4), (600, 2))
"""(until step, divisor): before the grid is pruned a ray costs several times what it costs later."""
MARK_EVERY = 4
EARLY_STEPS, EARLY_UPDATE_EVERY, UPDATE_EVERY = 1024, 64, 256
FIRST_UPDATE_STEP = 192
PRUNE_FROM_STEP = 512
POSE_NOISE = 0.3


@dataclass(frozen=True)
class Scene:
    """What is known of the training frames beside their pictures; rows as in the frame store."""

    camera: Camera
    c2w: Tensor  # [n, 4, 4] in box units
    body: Tensor  # [n, 4] in picture heights


class Trainer:
    """Holds everything that a step changes.

    Args:
        model: the avatar, with its box and poses fitted. Model, scene, store and conditions lie on one
            device; chance is drawn on the CPU, so that a seed means the same everywhere.
        seed: of the rays, frames and noise.
        shared: optimiser and lattices that other trainers step as well; None: this one's own.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: AvatarModel,
        scene: Scene,
        store: FrameStore,
        conditions: Conditions,
        seed: int,
        shared: tuple[Optimiser, Lattices] | None = None,
    ) -> None:
        self.config, self.model, self.scene = config, model, scene
        self.store, self.conditions = store, conditions
        self.optimiser, self.lattices = shared or (
            Optimiser({**dict(model.named_parameters()), **conditions.parameters()}, config.optim),
            Lattices([model.head], config.identity.rebake_every),
        )
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.n_steps = 0
        self.last_n_rays = 0
        self._queue = torch.empty(0, dtype=torch.int64, device="cpu")

    def step(self, share: float) -> dict[str, float]:
        """One step; returns its figures.

        Args:
            share: share of the run that is over, which sets the learning rate.
        """
        optim = self.config.optim
        frames = self._next_frames(min(optim.n_frames, len(self.store)))
        divisor = next((d for until, d in FEW_RAYS if self.n_steps < until), 1)
        n_rays = max(len(frames), optim.n_rays // divisor)
        batch = self.store.draw(frames, n_rays, optim, self.generator)
        cond = self.conditions.draw(frames, optim, self.generator)
        frames = batch.frames
        cond = torch.cat([cond, self.model.appearance[frames]], 1)
        c2w = self.scene.c2w[frames]
        if len(self.model.pose_delta):
            c2w = moved_cameras(c2w, self.model.pose_delta[frames])
        rays = self.model(
            self.scene.camera,
            c2w,
            self.scene.body[frames],
            batch.pixels,
            batch.frame_index,
            cond,
            batch.background,
            jitter=uniform((len(batch.pixels),), self.generator, self.store.device),
            pose_noise=POSE_NOISE,
        )
        loss, figures = self._loss(rays, batch)
        loss.backward()
        self.lattices.before_step()
        self.optimiser.step(lr_scale(self.n_steps, share, optim))
        if not isinstance(self.model.head, PaperRenderer):
            self.model.head.field.constrain()
        self.lattices.after_step()
        self.n_steps += 1
        self.last_n_rays = len(batch.pixels)
        self._keep_occupancy(rays)
        return figures

    def _loss(self, rays: LayeredRays, batch: RayBatch) -> tuple[Tensor, dict[str, float]]:
        """Squared error of the colours (eq. 9), and layers that keep to their labels.

        The paper's coarse network is trained by eq. 9 as well; offsets of identity features are held small.
        """
        error = (rays.colors - batch.target).square().mean(1)
        labels = batch.labels
        on_head = labels == HEAD
        # The neck may be drawn by either layer: what moves with the head is found by the colours.
        layers = ((labels != NECK) * (rays.head.opacities - on_head.float()).square()).mean()
        if rays.torso_opacities is not None and rays.torso_shift is not None:
            on_torso = (labels == NECK) | (labels == TORSO)
            layers = layers + (~on_head * (rays.torso_opacities - on_torso.float()).square()).mean()
            layers = layers + rays.torso_shift.square().mean()
        optim = self.config.optim
        # Linear, because a square would leave dark strokes such as brows painted by what shines through.
        transparency = (on_head * (1 - rays.head.opacities)).mean()
        roughness = surface_roughness(rays, labels, batch.triples)
        loss = error.mean() + optim.alpha_weight * layers + optim.smooth_weight * roughness
        loss = loss + optim.opaque_weight * transparency
        if rays.head.coarse_colors is not None:
            loss = loss + (rays.head.coarse_colors - batch.target).square().mean()
        if rays.head.offset_penalty is not None:
            loss = loss + rays.head.offset_penalty
        fusion_loss = self.conditions.loss()
        if fusion_loss is not None:
            loss = loss + fusion_loss
        head_mse = (error * on_head).sum() / on_head.sum().clamp_min(1)
        terms = {
            "mse": error.mean(),
            "head_mse": head_mse,
            "layers": layers,
            "transparency": transparency,
            "roughness": roughness,
        }
        measured = torch.stack(list(terms.values())).detach().tolist()
        figures = dict(zip(terms, measured, strict=True))
        figures["samples_per_ray"] = len(rays.head.weights) / len(error)
        return loss, figures

    def _next_frames(self, n: int) -> Tensor:
        """Every frame once before any comes again."""
        if len(self._queue) < n:
            fresh = torch.randperm(len(self.store), generator=self.generator, device="cpu")
            self._queue = torch.cat([self._queue, fresh])
        frames, self._queue = self._queue[:n], self._queue[n:]
        return frames

    @torch.no_grad()
    def _keep_occupancy(self, rays: LayeredRays) -> None:
        head = self.model.head
        if isinstance(head, PaperRenderer):
            return
        grid, step, settings = head.occupancy, self.n_steps, self.config.occupancy
        if step % MARK_EVERY == 0:
            visible = rays.head.weights > settings.visible_weight
            grid.mark_seen(rays.head.positions[visible], step)
        early = step < EARLY_STEPS
        if step < FIRST_UPDATE_STEP or step % (EARLY_UPDATE_EVERY if early else UPDATE_EVERY) != 0:
            return
        if early or step % (2 * UPDATE_EVERY) == 0:
            cond = self.conditions.spread(settings.n_conditions, self.generator)
            cond = torch.nn.functional.pad(cond, (0, self.model.n_appearance))
            decay = 0.0 if step == FIRST_UPDATE_STEP else (0.5 if early else 0.9)
            grid.update(lambda positions: head.field.densities(positions, cond), decay)
        threshold = min(settings.threshold, 0.1 + (step - FIRST_UPDATE_STEP) / 200)
        seen_since = step - max(200, min(2000, step // 3)) if step >= PRUNE_FROM_STEP else None
        grid.rebuild(threshold, seen_since)

    def state(self) -> dict[str, Tensor]:
        """Everything beside the model that resuming needs."""
        return {
            **{f"optim.{key}": value for key, value in self.optimiser.state().items()},
            **{f"loop.{key}": value for key, value in self.lattices.state().items()},
            **{f"loop.{key}": value for key, value in self.own_state().items()},
        }

    def own_state(self) -> dict[str, Tensor]:
        """The part of it that is never shared."""
        return {
            "generator": self.generator.get_state(),
            "torch_generator": torch.get_rng_state(),
            "queue": self._queue.clone(),
        }

    def load_state(self, n_steps: int, optim: dict[str, Tensor], loop: dict[str, Tensor]) -> None:
        self.optimiser.load_state(optim)
        self.lattices.load_state(n_steps, loop)
        self.load_own_state(n_steps, loop)

    def load_own_state(self, n_steps: int, loop: dict[str, Tensor]) -> None:
        """The inverse of `own_state`, after `n_steps` steps."""
        self.n_steps = n_steps
        self.generator.set_state(loop["generator"])
        torch.set_rng_state(loop["torch_generator"])
        self._queue = loop["queue"]


def surface_roughness(rays: LayeredRays, labels: Tensor, triples: Tensor) -> Tensor:
    """Mean |d0 - 2 d1 + d2| of the head's depth over triples of rays on the head, in box units.

    Skin without texture looks the same at many depths; this picks the smooth one among them.
    """
    if len(triples) == 0:
        return rays.head.depths.new_zeros(())
    opacities = rays.head.opacities
    depth = (rays.head.depths / opacities.clamp_min(1e-3))[triples]
    bend = (depth[:, 0] - 2 * depth[:, 1] + depth[:, 2]).abs()
    # Only where the head is opaque: a depth that fades away would be smooth, too.
    solid = ((labels == HEAD) & (opacities.detach() > 0.9))[triples].all(1)
    return (bend * solid).mean()


def visual_hull(
    positions: Tensor, masks: Tensor, camera: Camera, c2w: Tensor, agreement: float = 0.75
) -> Tensor:
    """Whether points [k, 3] (box units) lie in the head's mask in most frames, bool [k].

    Args:
        masks: bool [n, H, W], the head's pixels.
        c2w: [n, 4, 4] in box units.
    """
    hits = torch.zeros(len(positions), device=positions.device)
    for mask, pose in zip(masks, c2w, strict=True):
        depth = -((positions - pose[:3, 3]) @ pose[:3, 2])
        pixels = (camera.project(pose, positions) + 0.5).floor().long()
        columns = pixels[:, 0].clamp(0, camera.width - 1)
        rows = pixels[:, 1].clamp(0, camera.height - 1)
        inside = (columns == pixels[:, 0]) & (rows == pixels[:, 1]) & (depth > 1e-6)
        hits += inside & mask[rows, columns]
    return hits >= agreement * len(masks)
