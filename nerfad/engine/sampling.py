"""Which rays a training step looks at, and what they should show.

Pictures lie in memory as bytes. A step takes a few frames and draws their pixels from three rectangles
(mouth, head, whole picture), so that where people look is seen most; everything is vectorised, because a
step has a few milliseconds in all.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerfad.config import OptimConfig
from nerfad.data.dataset import Dataset

HEAD, NECK, TORSO = 1, 2, 3
COLLAR_SHARE = 0.12
"""The head's rectangle goes on below the chin by this share of its height: collar and neck err most."""
MOUTH_VERTICES = (61, 291, 0, 17, 13, 14, 37, 267, 84, 314, 39, 269, 181, 405)


@dataclass
class RayBatch:
    """Pixels of a few frames and their truth."""

    frames: Tensor  # int64 [n_frames], rows of the store
    frame_index: Tensor  # int32 [n_rays], which of `frames` each ray belongs to
    pixels: Tensor  # int64 [n_rays, 2] (column, row)
    target: Tensor  # float32 [n_rays, 3]
    background: Tensor  # float32 [n_rays, 3]
    labels: Tensor  # uint8 [n_rays]
    triples: Tensor  # int64 [n_triples, 3], rays whose pixels lie on a line at equal distances


class FrameStore:
    """All training pictures in memory, and rectangles to draw pixels from.

    Args:
        dataset: at the size to train at.
        frames: positions in the data set, int64 [n].
        device: where the pictures lie, and the batches drawn from them.
    """

    def __init__(
        self, dataset: Dataset, frames: np.ndarray, n_threads: int = 2, device: str | torch.device = "cpu"
    ) -> None:
        n, height, width = len(frames), dataset.height, dataset.width
        self.height, self.width = height, width
        self.device = torch.device(device)
        self.images = torch.empty(n, height, width, 3, dtype=torch.uint8, device=device)
        self.labels = torch.empty(n, height, width, dtype=torch.uint8, device=device)

        def load(k: int) -> None:
            self.images[k] = torch.from_numpy(dataset.image(int(frames[k])))
            self.labels[k] = torch.from_numpy(dataset.labels(int(frames[k])))

        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(load, range(n)))
        self.plate = torch.from_numpy(dataset.background()).to(device)
        head = torch.stack([label_rectangle(labels == HEAD) for labels in self.labels]).cpu()
        head[:, 3] += ((head[:, 3] - head[:, 1]) * COLLAR_SHARE).long()
        mouth = torch.from_numpy(mouth_rectangles(dataset, frames, head.numpy()))
        whole = torch.tensor([0, 0, width, height], device="cpu").expand(n, 4)
        size = torch.tensor([width, height], device=device)
        self.rectangles = torch.stack([mouth, head, whole]).float().to(device)
        self.rectangles[..., :2].clamp_(min=0)
        self.rectangles[..., 2:] = torch.minimum(self.rectangles[..., 2:], size.float())

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, frames: Tensor, n_rays: int, config: OptimConfig, generator: torch.Generator) -> RayBatch:
        """`n_rays` pixels of `frames` int64 [k], spread evenly over them.

        Chance comes from `generator`, on its own device, so that a seed means the same everywhere.
        """
        frames = frames.to(self.device)
        per_frame = n_rays // len(frames)
        n_mouth = round(per_frame * config.mouth_share)
        n_whole = round(per_frame * config.torso_share)
        kinds = torch.full((per_frame,), 1, device=self.device)
        kinds[:n_mouth] = 0
        kinds[per_frame - n_whole :] = 2
        frame_index = torch.arange(len(frames), device=self.device).repeat_interleave(per_frame)
        rectangles = self.rectangles[kinds.repeat(len(frames)), frames[frame_index]]
        low, high = rectangles[:, :2], rectangles[:, 2:]
        at = uniform((len(frame_index), 2), generator, self.device)
        pixels = torch.minimum((low + at * (high - low)).long(), (high - 1).long())
        n_triples = round((per_frame - n_mouth - n_whole) * config.triple_share / 3)
        first = torch.arange(len(frames), device=self.device)[:, None] * per_frame + n_mouth
        triples = (first + torch.arange(3 * n_triples, device=self.device)).view(-1, 3)
        self._line_up(pixels, triples, generator)
        return self.take(frames, frame_index, pixels, triples)

    def _line_up(self, pixels: Tensor, triples: Tensor, generator: torch.Generator) -> None:
        """Put the outer rays of triples on either side of the middle one, along a row or a column."""
        n = len(triples)
        reach = max(1, self.height // 24)
        distance = integers(1, reach + 1, (n, 1), generator, self.device)
        along = torch.nn.functional.one_hot(integers(0, 2, (n,), generator, self.device), 2)
        size = torch.tensor([self.width, self.height], device=self.device)
        for column, sign in ((0, -1), (2, 1)):
            moved = pixels[triples[:, 1]] + sign * distance * along
            pixels[triples[:, column]] = torch.minimum(moved.clamp_min(0), size - 1)

    def take(self, frames: Tensor, frame_index: Tensor, pixels: Tensor, triples: Tensor) -> RayBatch:
        """The batch of given pixels. Behind label 0 lies the picture itself: there the plate would teach the
        head to paint whatever moves in the background.
        """
        in_frame = pixels[:, 1] * self.width + pixels[:, 0]
        flat = frames[frame_index] * (self.height * self.width) + in_frame
        target = self.images.view(-1, 3)[flat].float().div_(255.0)
        labels = self.labels.view(-1)[flat]
        plate = self.plate.view(-1, 3)[in_frame].float().div_(255.0)
        background = torch.where(labels[:, None] == 0, target, plate)
        index = frame_index.to(torch.int32)
        return RayBatch(frames, index, pixels, target, background, labels, triples)


def uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Numbers in [0, 1) on `device`, drawn on the generator's own."""
    return torch.rand(shape, generator=generator, device=generator.device).to(device)


def integers(
    low: int, high: int, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    """Integers in [low, high) on `device`, drawn on the generator's own."""
    return torch.randint(low, high, shape, generator=generator, device=generator.device).to(device)


def label_rectangle(mask: Tensor) -> Tensor:
    """The smallest rectangle (left, top, right, bottom; exclusive) about a mask, else the whole picture."""
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    if len(rows) == 0:
        return torch.tensor([0, 0, mask.shape[1], mask.shape[0]], device=mask.device)
    return torch.stack([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])


def mouth_rectangles(dataset: Dataset, frames: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Rectangles int64 [n, 4] about the mouth, from landmarks, else from lip_rect, else low in the head."""
    if dataset.landmarks is not None:
        points = dataset.landmarks[frames][:, MOUTH_VERTICES, :2]
        low, high = points.min(1), points.max(1)
    elif "lip_rect" in dataset.rects:
        left_top, size = np.split(dataset.rects["lip_rect"][frames], 2, axis=1)
        low, high = left_top, left_top + size
    else:
        size = head[:, 2:] - head[:, :2]
        low = head[:, :2] + size * np.array([0.25, 0.6])
        return np.rint(np.concatenate([low, low + size * np.array([0.5, 0.3])], 1)).astype(np.int64)
    margin = 0.25 * (high - low).max(1, keepdims=True) + 1
    return np.rint(np.concatenate([low - margin, high + margin + 1], 1)).astype(np.int64)
