"""`nerfad explain`: what every part of NeRF-AD makes of one frame, in one picture.

A run of any of the three stages can be shown; what its stage does not have is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine import checkpoint
from nerfad.engine.attention_data import as_input, codes_of
from nerfad.engine.comparison import captioned
from nerfad.engine.evaluation_sources import AvatarSource
from nerfad.engine.fusion_data import Masker, check_units
from nerfad.engine.pretrain_attention import KIND as ATTENTION
from nerfad.engine.pretrain_attention import load_attention
from nerfad.engine.pretrain_fusion import KIND as FUSION
from nerfad.engine.pretrain_fusion import Fusion, load_fusion
from nerfad.engine.references import identity_face
from nerfad.errors import CheckpointError, DatasetError
from nerfad.io.images import save_image
from nerfad.models.au_attention import AttentionOutput, AUAttention, audio_face
from nerfad.progress import Progress, report

LEVELS = (0.0, 0.5, 1.0)
"""Values of each action unit in the strip."""
TILE, SMALL = 288, 96
"""Rows of a tile of the upper part, and of the strip."""
PER_ROW = 4
GAP = np.uint8(24)

Tiles = list[tuple[str, np.ndarray]]
"""Captions and pictures, uint8 RGB."""


@dataclass(frozen=True)
class Chain:
    """The stages that a run has.

    Attributes:
        masker: G_M with its action units; its generator is None in the ablation without attention.
        fusion: E_a, audio net and D.
        source: the avatar, ready to render frames of `dataset`.
    """

    dataset: Dataset
    masker: Masker
    fusion: Fusion | None = None
    source: AvatarSource | None = None


def explain(
    run: str | Path,
    frame: int,
    out: str | Path,
    *,
    dataset: str | Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[str]:
    """Write the picture to `out`; returns the tiles' captions.

    Args:
        run: a run of `nerfad train --fusion`, `nerfad pretrain-fusion` or `nerfad pretrain-attention`.
        frame: number of the frame, as in the names of the data set's pictures.
        out: a PNG or JPEG.
        dataset: the data set's folder; by default the (first) one that the run was trained on.
        device: where the frame is rendered.

    Raises:
        CheckpointError: the run has no pre-trained stage.
        DatasetError: there is no such frame, or no face or action units in it.
    """
    report(progress, 0.0, "opening the run")
    chain = open_chain(Path(run), dataset, device)
    data = chain.dataset
    position = position_of(data, frame)
    report(progress, 0.4, "drawing the tiles")
    tiles = stage_tiles(chain, position)
    rows = [grid([captioned(fitted(image, TILE), name) for name, image in tiles], PER_ROW)]
    if chain.masker.generator is not None:
        report(progress, 0.8, "moving the action units")
        rows += response_strips(data, chain.masker, position)
    save_image(out, stacked(rows))
    report(progress, 1.0, "explained")
    return [name for name, _ in tiles]


def open_chain(run: Path, dataset: str | Path | None = None, device: str = "cpu") -> Chain:
    """Whatever stages the run has, and its data set.

    Raises:
        CheckpointError: there is no checkpoint, or one without pre-training.
        DatasetError: the data set is gone or lacks the run's action units.
    """
    meta = checkpoint.load_meta(run)
    kind = meta.get("kind")
    if kind == ATTENTION:
        data = _open_dataset(dataset, meta["datasets"][0]["root"])
        generator, known = load_attention(run)
        masker = Masker(tuple(known["units"]), generator, int(known["size"]))
        check_units(data, masker.units, run)
        return Chain(data, masker)
    if kind == FUSION:
        fusion = load_fusion(run)
        data = _open_dataset(dataset, meta["datasets"][0]["root"])
        fusion.person(data)
        return Chain(data, fusion.masker, fusion)
    if meta["config"].get("fusion") is None:
        raise CheckpointError(
            f"{run}: is a checkpoint from before pre-training, with no mask to explain; run `nerfad "
            "pretrain-attention` and `nerfad pretrain-fusion`, then `nerfad train DATASET --fusion RUN`."
        )
    fusion = load_fusion(meta["config"]["fusion"])
    source = AvatarSource.open(run, dataset, device=device)
    fusion.person(source.dataset)
    return Chain(source.dataset, fusion.masker, fusion, source)


def position_of(dataset: Dataset, frame: int) -> int:
    """Position of the frame with this number; raises DatasetError where there is none."""
    found = np.nonzero(dataset.frame_ids == frame)[0]
    if len(found) == 0:
        first, last = int(dataset.frame_ids[0]), int(dataset.frame_ids[-1])
        raise DatasetError(
            f"{dataset.root}: has no frame {frame}; choose one of its {len(dataset)} frames between {first} "
            f"and {last}."
        )
    return int(found[0])


def stage_tiles(chain: Chain, position: int) -> Tiles:
    """Crop, mask, faces, and the frame as rendered and as it is."""
    data, masker = chain.dataset, chain.masker
    size = masker.size or int((chain.fusion.meta if chain.fusion else {})["size"])
    crops = FaceCrops(data, size)
    crop = as_input(torch.from_numpy(crops.crop(position)[None]))
    tiles: Tiles = [("I_crop", as_picture(crop))]
    if masker.generator is not None:
        made = _generated(masker.generator, crop, own_code(data, masker.units, position))
        tiles += [
            ("A: white where speech moves nothing", as_picture(2 * made.mask - 1)),
            ("Audio-face (1 - A) I_crop", as_picture(audio_face(made.mask, crop))),
            ("Identity-face over the frame", as_bytes(identity_face(data, position, masker))),
            ("I_G by the frame's own units", as_picture(made.image)),
        ]
    if chain.fusion is not None:
        fused = chain.fusion.decode_dataset(data, np.array([position]))
        tiles.append(("fused Audio-face, from sound", as_picture(fused)))
    if chain.source is not None:
        tiles.append(("rendered", next(iter(chain.source.frames(np.array([position])))).image))
    return [*tiles, (f"real frame {data.frame_ids[position]}", data.image(position))]


def response_strips(dataset: Dataset, masker: Masker, position: int) -> list[np.ndarray]:
    """A row of masks and a row of generated crops: each unit at 0, 0.5 and 1, the others as in the frame."""
    assert masker.generator is not None
    crops = FaceCrops(dataset, masker.size)
    crop = as_input(torch.from_numpy(crops.crop(position)[None]))
    codes = own_code(dataset, masker.units, position).repeat(len(masker.units) * len(LEVELS), 1)
    captions = []
    for k, name in enumerate(masker.units):
        for j, level in enumerate(LEVELS):
            codes[k * len(LEVELS) + j, k] = level
            captions.append(f"{name} {level:g}")
    made = _generated(masker.generator, crop.expand(len(codes), -1, -1, -1), codes)
    strips = []
    for name, pictures in (("A", 2 * made.mask - 1), ("I_G", made.image)):
        cells = [
            captioned(fitted(as_picture(picture[None]), SMALL), f"{name} {caption}")
            for caption, picture in zip(captions, pictures, strict=True)
        ]
        strips.append(grid(cells, len(cells)))
    return strips


@torch.no_grad()
def _generated(generator: AUAttention, crops: Tensor, codes: Tensor) -> AttentionOutput:
    made: AttentionOutput = generator(crops, codes)
    return made


def own_code(dataset: Dataset, units: tuple[str, ...], position: int) -> Tensor:
    """The frame's action units [1, k]; raises DatasetError where they were not read."""
    code = codes_of(dataset, units)[position : position + 1]
    if not np.isfinite(code).all():
        raise DatasetError(
            f"{dataset.root}: frame {dataset.frame_ids[position]} has no action units; use another frame."
        )
    return torch.from_numpy(code)


def as_picture(planes: Tensor) -> np.ndarray:
    """[1, 1 or 3, h, w] in [-1, 1] as uint8 RGB [h, w, 3]."""
    values = ((planes[0].float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return values.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def as_bytes(image: np.ndarray) -> np.ndarray:
    """[h, w, 3] in [0, 1] as uint8."""
    return np.rint(255 * image).astype(np.uint8)


def fitted(image: np.ndarray, rows: int) -> np.ndarray:
    """The picture at `rows` rows, its shape kept."""
    columns = round(image.shape[1] * rows / image.shape[0])
    method = cv2.INTER_AREA if rows < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (columns, rows), interpolation=method))


def grid(cells: Sequence[np.ndarray], per_row: int) -> np.ndarray:
    """Cells of one height in rows of `per_row`."""
    return stacked([np.concatenate(cells[k : k + per_row], 1) for k in range(0, len(cells), per_row)])


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other, the narrower ones with a dark rest."""
    width = max(row.shape[1] for row in rows)
    rests = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
    padded = [np.pad(row, rest, constant_values=GAP) for row, rest in zip(rows, rests, strict=True)]
    return np.concatenate(padded)


def _open_dataset(asked: str | Path | None, known: str) -> Dataset:
    root = Path(known if asked is None else asked)
    if not root.is_dir():
        raise DatasetError(f"the data set {root} of the run is gone; say where it is with --dataset.")
    return load_dataset(root)
