"""What can be measured on a data set's frames: expression codes and blinks."""

from __future__ import annotations

import numpy as np

from nerfad.data.dataset import Dataset
from nerfad.errors import DatasetError
from nerfad.models.audio_net import AudioConfig
from nerfad.models.expression import ExpressionCodes, blink_code, eye_openness


def measurements(dataset: Dataset, codes: ExpressionCodes) -> np.ndarray | None:
    """What `ExpressionCodes.encode` takes, for every frame of ``dataset``; None for learnt codes."""
    if codes.kind == "landmarks":
        return _face_points(dataset)
    if codes.kind == "aus" and dataset.aus is not None:
        return dataset.aus[:, [list(dataset.au_names).index(name) for name in codes.names]]
    return None


def fit_codes(dataset: Dataset, train: np.ndarray, config: AudioConfig, codes: str) -> ExpressionCodes:
    """The codes that the frames `train` allow; `codes` as in `nerfad.engine.train_audio.fit_audio`."""
    if codes == "learnt":
        return ExpressionCodes.learnt(config.n_learnt)
    if dataset.landmarks is not None and dataset.au_source != "exact":
        return ExpressionCodes.fit_landmarks(dataset.landmarks[train], config.n_components)
    if dataset.classic_landmarks is not None and dataset.au_source != "openface":
        return ExpressionCodes.fit_landmarks(dataset.classic_landmarks[train], config.n_components)
    if dataset.aus is not None:
        # Lids have a code of their own, which sound does not drive; the lips' unit comes first, as code 0.
        names = sorted((n for n in dataset.au_names if n != "AU45"), key=lambda n: n != "AU25")
        columns = [list(dataset.au_names).index(name) for name in names]
        return ExpressionCodes.fit_aus(dataset.aus[train][:, columns], tuple(names))
    if codes == "measured":
        raise DatasetError(
            f"{dataset.root}: has neither landmarks nor action units to measure codes on; leave "
            "--codes measured out, or preprocess the video with `nerfad preprocess`."
        )
    return ExpressionCodes.learnt(config.n_learnt)


def _face_points(dataset: Dataset) -> np.ndarray | None:
    """The densest landmarks that the data set has."""
    return dataset.classic_landmarks if dataset.landmarks is None else dataset.landmarks


def blink_codes(dataset: Dataset, train: np.ndarray) -> np.ndarray:
    """0 open to 1 closed, float32 [n, 1]; NaN on frames outside `train`."""
    blink = np.full((len(dataset.frame_ids), 1), np.nan, np.float32)
    aus = dataset.aus if "AU45" in dataset.au_names else None
    points = _face_points(dataset)
    if points is not None and not (aus is not None and dataset.au_source == "exact"):
        blink[train] = blink_code(eye_openness(points), train)[train]
    elif aus is not None:
        closed = aus[train, list(dataset.au_names).index("AU45")]
        blink[train] = np.clip(closed, 0, 1)[:, None]
    else:
        blink[train] = 0
    return blink
