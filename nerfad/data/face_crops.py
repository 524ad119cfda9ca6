"""The face of every frame, turned upright by its eyes: what networks that look at faces are fed with.

`face_imgs/` of our own data sets is not used for this: those squares follow the outline of the face, whose
lower edge is the chin, so that the whole crop rises and falls with the mouth; they are not turned; and other
projects' folders do not have them. Here only the eyes set place and angle, and one scale holds for the whole
clip, so that what moves inside a crop is the face and not the crop.
"""

from __future__ import annotations

import cv2
import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError

CROP_SIZE = 112
EYE_ROW = 0.36
"""Where the middle of the eyes lies, as a share of the crop's height."""
EYE_DISTANCE = 0.3
"""Distance of the eyes as a share of the crop's side: leaves room below an open jaw."""

# Outer and inner corner of the eye on the left of the picture, then of the other.
_EYES = {478: ((33, 133), (362, 263)), 68: ((36, 39), (42, 45))}
# Mouth corners, angles of the jaw (left and right of the picture each), base of the nose, chin.
_MOUTH = {478: (61, 291, 172, 397, 2, 152), 68: (48, 54, 4, 12, 33, 8)}
# Of a rectangle round the classic 68 points: the brows lie above the eyes, the jaw is 2.35 eyes wide.
_RECT_WIDTHS_PER_EYES = 2.35
_RECT_EYES_BELOW_TOP = 0.45
# Mouth and jaw (left, top, right, bottom) in an upright crop, where no landmarks say more.
_USUAL_MOUTH_BOX = (0.27, 0.63, 0.73, 0.98)
_CHIN_MARGIN = 0.03


class FaceCrops:
    """Upright square crops of a data set's frames, and the way back.

    Points in crops and in frames are pixels from the top left *corner*, as everywhere in the package.

    Args:
        dataset: any layout. The eyes come from its landmarks (478 or the classic 68), else, without turning,
            from `face_rect`.
        size: side of the crops in pixels.

    Attributes:
        to_frame_matrix: float64 [n, 2, 3], affine map from points in the crop to points in the frame; NaN
            for frames in which no face was found.

    Raises:
        DatasetError: the data set has nothing that says where faces are.
    """

    def __init__(self, dataset: Dataset, size: int = CROP_SIZE) -> None:
        self.dataset = dataset
        self.size = size
        self.landmarks = dataset.classic_landmarks if dataset.landmarks is None else dataset.landmarks
        if self.landmarks is not None:
            eyes = _eyes_of_landmarks(self.landmarks[..., :2].astype(np.float64))
        elif "face_rect" in dataset.rects:
            eyes = _eyes_of_rects(dataset.rects["face_rect"])
        else:
            raise DatasetError(
                f"{dataset.root}: says nowhere where the face is (no landmarks.npy, .lms or face_rect); "
                "preprocess the video with `nerfad preprocess`."
            )
        self.to_frame_matrix = _crop_to_frame(eyes, size)

    def __len__(self) -> int:
        return len(self.dataset)

    def has_face(self, i: int) -> bool:
        """Whether a face was found in frame i."""
        return bool(np.isfinite(self.to_frame_matrix[i]).all())

    def crop(self, i: int) -> np.ndarray:
        """Frame i's face, uint8 RGB [size, size, 3]."""
        return self.crop_of(i, self.dataset.image(i))

    def crop_of(self, i: int, picture: np.ndarray) -> np.ndarray:
        """The same part of any other picture [H, W, ...] of frame i (a mask, a rendering), of its type.

        Beyond the picture its border goes on.
        """
        return sample_square(picture, self._matrix(i), self.size)

    def to_frame(self, i: int, crop: np.ndarray, onto: np.ndarray) -> np.ndarray:
        """`onto` [H, W, ...] of frame i with `crop` [size, size, ...] pasted at its place; a new array of
        `onto`'s type. Pixels whose centres lie outside the crop stay.
        """
        height, width = onto.shape[:2]
        matrix = _pixel_centres(self._matrix(i))
        pasted = cv2.warpAffine(crop, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        inverse = cv2.invertAffineTransform(matrix)
        rows, columns = np.mgrid[:height, :width]
        x = inverse[0, 0] * columns + inverse[0, 1] * rows + inverse[0, 2]
        y = inverse[1, 0] * columns + inverse[1, 1] * rows + inverse[1, 2]
        inside = (np.minimum(x, y) >= -0.5) & (np.maximum(x, y) < self.size - 0.5)
        inside = inside.reshape(inside.shape + (1,) * (onto.ndim - 2))
        return np.where(inside, pasted.reshape(onto.shape), onto).astype(onto.dtype)

    def points_in_crop(self, i: int, points: np.ndarray) -> np.ndarray:
        """Points [k, 2] of frame i in pixels of its crop, float64 [k, 2]."""
        inverse = cv2.invertAffineTransform(self._matrix(i))
        return np.asarray(points, np.float64)[:, :2] @ inverse[:, :2].T + inverse[:, 2]

    def mouth_box(self, i: int) -> np.ndarray:
        """Mouth and jaw in frame i's crop (left, top, right, bottom) in pixels, float64 [4].

        From the base of the nose to below the chin, sideways half way from the mouth's corners to the angles
        of the jaw; where there are no landmarks, the usual place.
        """
        if self.landmarks is None:
            return self.size * np.array(_USUAL_MOUTH_BOX)
        sites = list(_MOUTH[self.landmarks.shape[1]])
        left, right, jaw_left, jaw_right, nose, chin = self.points_in_crop(i, self.landmarks[i, sites])
        return np.array(
            [
                min(left[0], (left[0] + jaw_left[0]) / 2),
                nose[1],
                max(right[0], (right[0] + jaw_right[0]) / 2),
                chin[1] + _CHIN_MARGIN * self.size,
            ]
        ).clip(0, self.size)

    def mouth_mask(self, i: int) -> np.ndarray:
        """The pixels of `mouth_box`, bool [size, size]."""
        left, top, right, bottom = self.mouth_box(i)
        centres = np.arange(self.size) + 0.5
        across, down = (centres >= left) & (centres <= right), (centres >= top) & (centres <= bottom)
        return down[:, None] & across[None]

    def _matrix(self, i: int) -> np.ndarray:
        if not self.has_face(i):
            raise DatasetError(
                f"{self.dataset.root}: no face was found in frame {self.dataset.frame_ids[i]}; use another "
                "frame, or preprocess the video again."
            )
        return self.to_frame_matrix[i]


def sample_square(picture: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """[size, size, ...] of a picture [H, W, ...] through an affine map [2, 3] from points of the result to
    points of the picture; beyond the picture its border goes on.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale > 1.0:
        # Without this, shrinking by bilinear samples would alias.
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 * scale)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, _pixel_centres(matrix), (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )


def _pixel_centres(matrix: np.ndarray) -> np.ndarray:
    """The same map between indices of pixels, whose centres lie at +0.5."""
    shifted = np.array(matrix, np.float64)
    shifted[:, 2] += shifted[:, :2].sum(1) * 0.5 - 0.5
    return shifted


def _eyes_of_landmarks(points: np.ndarray) -> np.ndarray:
    """Centres of the two eyes, left of the picture first, float64 [n, 2, 2]."""
    return np.stack([points[:, list(corners)].mean(1) for corners in _EYES[points.shape[1]]], 1)


def _eyes_of_rects(rects: np.ndarray) -> np.ndarray:
    """The same, guessed from rectangles (x, y, w, h) round the classic 68 points; the head is not turned."""
    x, y, w, _ = np.asarray(rects, np.float64).T
    half = w / _RECT_WIDTHS_PER_EYES / 2
    middle, row = x + w / 2, y + 2 * half * _RECT_EYES_BELOW_TOP
    eyes = np.stack([middle - half, row, middle + half, row], 1).reshape(-1, 2, 2)
    eyes[w <= 0] = np.nan
    return eyes


def _crop_to_frame(eyes: np.ndarray, size: int) -> np.ndarray:
    """Maps float64 [n, 2, 3] that carry the eyes' usual places in the crop to where they are in the frame.

    The scale is the clip's median: a blink or a jittering corner must not make the face breathe.
    """
    across = eyes[:, 1] - eyes[:, 0]
    distance = np.linalg.norm(across, axis=1)
    if not np.isfinite(distance).any():
        return np.full((len(eyes), 2, 3), np.nan)
    scale = float(np.nanmedian(distance)) / (EYE_DISTANCE * size)
    cos, sin = (across / np.maximum(distance, 1e-9)[:, None]).T * scale
    linear = np.stack([cos, -sin, sin, cos], 1).reshape(-1, 2, 2)
    anchor = size * np.array([0.5, EYE_ROW])
    offset = eyes.mean(1) - linear @ anchor
    return np.concatenate([linear, offset[:, :, None]], 2)
