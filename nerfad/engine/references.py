"""The reference frames of a run: Identity-faces with their poses, for the identity features.

I_id-face = A · I_crop pasted back over the frame at the crop's place (section 2.1). The mask is carried over
the frame instead of the masked crop: the same picture, without sampling it twice. Where speech moves the
face, the picture is grey, the middle of its range.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch

from nerfad.config import IdentityOptions
from nerfad.data.dataset import Dataset
from nerfad.data.face_crops import FaceCrops
from nerfad.engine.attention_data import as_input, codes_of
from nerfad.engine.fusion_data import Masker
from nerfad.errors import DatasetError
from nerfad.models.au_attention import masks_at
from nerfad.models.identity_features import References, choose_references
from nerfad.models.renderer import SceneBox

GREY = 0.5


def choose_frames(dataset: Dataset, frames: np.ndarray, masker: Masker | None, n: int) -> np.ndarray:
    """`n` of the positions `frames` whose views are spread widest; those without a face are passed over.

    Raises:
        DatasetError: fewer are left.
    """
    usable = frames
    if masker is not None and masker.generator is not None:
        crops, codes = FaceCrops(dataset, masker.size), codes_of(dataset, masker.units)
        seen = [crops.has_face(i) and bool(np.isfinite(codes[i]).all()) for i in frames]
        usable = frames[np.array(seen, bool)]
    if len(usable) < n:
        raise DatasetError(
            f"{dataset.root}: {n} reference frames with a face are needed, {len(usable)} training frames "
            "have one; lower --identity.n-references, or preprocess the video again."
        )
    return usable[choose_references(torch.from_numpy(dataset.c2w[usable]).float(), n).numpy()]


def identity_face(dataset: Dataset, frame: int, masker: Masker | None) -> np.ndarray:
    """I_id-face of a frame, float32 [H, W, 3] in [0, 1]; without a mask generator, the whole frame."""
    picture = dataset.image(frame).astype(np.float32) / 255
    if masker is None or masker.generator is None:
        return picture
    crops = FaceCrops(dataset, masker.size)
    crop = as_input(torch.from_numpy(crops.crop(frame)[None]))
    own = torch.from_numpy(codes_of(dataset, masker.units)[frame : frame + 1])
    with torch.no_grad():
        mask = masks_at(masker.generator, crop, own, masker.size)[0, 0].numpy()
    # Beyond the crop nothing is hidden.
    whole = crops.to_frame(frame, mask, np.ones(picture.shape[:2], np.float32))[..., None]
    return whole * picture + (1 - whole) * np.float32(GREY)


def make_references(
    dataset: Dataset, frames: np.ndarray, masker: Masker | None, options: IdentityOptions, box: SceneBox
) -> References:
    """The references at positions `frames`, their pictures of at most `options.size` rows."""
    camera = dataset.camera
    pictures = [identity_face(dataset, int(i), masker) for i in frames]
    if camera.height > options.size:
        camera = camera.resized(options.size, round(camera.width * options.size / camera.height))
        size = (camera.width, camera.height)
        pictures = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in pictures]
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return References(camera, box.to_box(dataset.c2w[frames]), images)
