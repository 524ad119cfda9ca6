"""A few frames of the procedural head over black, and a small field with identity features to fit to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerfad.cameras import Camera
from nerfad.config import FieldConfig, OccupancyConfig
from nerfad.engine.trainer import visual_hull
from nerfad.models.identity_features import (
    IdentityConfig,
    IdentityEncoder,
    References,
    choose_references,
    offset_penalty,
)
from nerfad.models.identity_field import IdentityField, IdentityHeadRenderer
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity
from nerfad.models.renderer import SceneBox
from nerfad.sample.generate import named_units, speech_mask, write_script
from nerfad.sample.head import UNITS
from nerfad.sample.identity import draw_identity
from nerfad.sample.model import SampleModel

SMALL_IDENTITY = IdentityConfig(n_channels=16, slot_width=16)
SMALL_FIELD = FieldConfig(n_levels=8, log2_table_size=12, finest_resolution=128, width=32)
OCCUPANCY = OccupancyConfig(resolution=32, n_steps=64)


@dataclass
class ToyHead:
    """Frames of one person; the condition of a frame is its action units."""

    camera: Camera
    box: SceneBox
    c2w: Tensor  # [n, 4, 4] in box units
    images: Tensor  # [n, H, W, 3], the head over black
    masks: Tensor  # bool [n, H, W]
    units: Tensor  # [n, c]
    references: References


def make_toy_head(n_frames: int = 12, size: int = 64, seed: int = 3) -> ToyHead:
    """Draw frames spread over a clip; the references' Identity-faces lack what speech can change."""
    model = SampleModel(draw_identity(seed), size)
    script = write_script(12.0, seed)
    frames = np.linspace(0, len(script.times) - 1, n_frames).astype(int)
    drawn = [model.render(named_units(script.units[k]), script.poses[k]) for k in frames]
    masks = np.stack([d.labels == 1 for d in drawn])
    images = np.stack([d.image for d in drawn]) * masks[..., None]
    box = SceneBox()
    box.fit(model.aabb())
    c2w = box.to_box(np.stack([model.c2w(script.poses[k]) for k in frames]))
    chosen = choose_references(c2w).tolist()
    faces = [images[i] * ~speech_mask(model, named_units(script.units[k]), script.poses[k])[..., None]
             for i, k in zip(chosen, frames[chosen], strict=True)]  # fmt: skip
    pictures = torch.from_numpy(np.stack(faces)).float().permute(0, 3, 1, 2).contiguous()
    units = torch.from_numpy(script.units[frames])
    assert units.shape[1] == len(UNITS)
    return ToyHead(
        model.camera,
        box,
        c2w,
        torch.from_numpy(images).float(),
        torch.from_numpy(masks),
        units,
        References(model.camera, c2w[chosen], pictures),
    )


def make_renderer(
    toy: ToyHead,
    identity_config: IdentityConfig = SMALL_IDENTITY,
    field_config: FieldConfig = SMALL_FIELD,
    baked_resolution: int | None = None,
) -> IdentityHeadRenderer:
    """An untrained field with its visual hull; point form, or baked at a resolution."""
    torch.manual_seed(0)
    identity: PointIdentity | BakedIdentity = PointIdentity(IdentityEncoder(identity_config), toy.references)
    if baked_resolution is not None:
        identity = BakedIdentity(identity, baked_resolution, n_features=field_config.n_features)
    field = IdentityField(field_config, toy.units.shape[1], identity)
    renderer = IdentityHeadRenderer(field, OCCUPANCY)
    renderer.occupancy.restrict(lambda points: visual_hull(points, toy.masks, toy.camera, toy.c2w))
    return renderer


def fit(
    renderer: IdentityHeadRenderer, toy: ToyHead, n_steps: int, n_rays: int = 512, rebake_every: int = 8
) -> list[float]:
    """Train; returns the loss of every step. A baked form is renewed every `rebake_every` steps."""
    generator = torch.Generator().manual_seed(0)
    identity = renderer.field.identity
    inside = None
    if isinstance(identity, BakedIdentity):
        cells = renderer.occupancy

        def inside(points: Tensor) -> Tensor:
            margin = 1.0 / identity.resolution
            near = [points + margin * torch.tensor(step) for step in np.ndindex(3, 3, 3)]
            return torch.stack([cells.allowed[cells.cells_of(p - margin).long()] for p in near]).any(0)

    own = [p for name, p in renderer.named_parameters() if ".identity." not in f".{name}"]
    field_optimiser = torch.optim.Adam(own, lr=5e-3, eps=1e-15)
    identity_optimiser = torch.optim.Adam(identity.parameters(), lr=2e-3)
    losses = []
    for step in range(n_steps):
        frame = torch.randint(len(toy.images), (n_rays,), generator=generator)
        pixels = torch.stack(
            [torch.randint(s, (n_rays,), generator=generator) for s in (toy.camera.width, toy.camera.height)],
            1,
        )
        rays_o, rays_d = toy.camera.rays(toy.c2w[frame], pixels)
        rays = renderer(
            rays_o.contiguous(),
            rays_d.contiguous(),
            toy.units,
            frame.int(),
            torch.zeros(n_rays, 3),
            jitter=torch.rand(n_rays, generator=generator),
        )
        target = toy.images[frame, pixels[:, 1], pixels[:, 0]]
        loss = (rays.colors - target).square().mean()
        losses.append(float(loss.detach()))
        if renderer.field.offsets is not None:
            loss = loss + offset_penalty(renderer.field.offsets, rays.weights)
        loss.backward()
        field_optimiser.step()
        field_optimiser.zero_grad()
        last = step == n_steps - 1
        if isinstance(identity, PointIdentity):
            identity_optimiser.step()
            identity_optimiser.zero_grad()
        elif last or (step + 1) % rebake_every == 0:
            identity.pull_back()
            identity_optimiser.step()
            identity_optimiser.zero_grad()
            identity.bake(None if last else inside)
    return losses


@torch.no_grad()
def draw(renderer: IdentityHeadRenderer, toy: ToyHead, frame: int) -> Tensor:
    """A whole frame [H, W, 3]."""
    height, width = toy.camera.height, toy.camera.width
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns.flatten(), rows.flatten()], 1)
    rays_o, rays_d = toy.camera.rays(toy.c2w[frame], pixels)
    colors, _, _ = renderer.draw(
        rays_o.contiguous(), rays_d.contiguous(), toy.units[frame][None], torch.zeros(len(pixels), 3)
    )
    return colors.view(height, width, 3).clamp(0, 1)


def mean_psnr(renderer: IdentityHeadRenderer, toy: ToyHead, others: Tensor | None = None) -> float:
    """Over all frames, against the truth or other pictures [n, H, W, 3]."""
    truth = toy.images if others is None else others
    scores = [
        float(-10 * (draw(renderer, toy, k) - truth[k]).square().mean().log10()) for k in range(len(truth))
    ]
    return float(np.mean(scores))
