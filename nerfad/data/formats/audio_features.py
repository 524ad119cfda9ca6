"""Audio features in .npy files: their kind is told from their shape, never from their name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfad.errors import DatasetError
from nerfad.features.audio import N_MELS, load_wave, log_mel

# Shape after the first axis, which counts windows (25 a second) or, for mel, rows (100 a second).
KINDS: dict[tuple[int, ...], str] = {
    (16, 29): "deepspeech",
    (16, 44): "wav2vec",
    (2, 1024): "hubert",
    (N_MELS,): "mel",
}


def kind_of(features: np.ndarray, path: Path) -> str:
    """The kind of a feature array."""
    kind = KINDS.get(features.shape[1:])
    if kind is None:
        known = ", ".join(f"(N, {', '.join(map(str, shape))}) {name}" for shape, name in KINDS.items())
        raise DatasetError(
            f"{path}: shape {features.shape} belongs to no known kind of audio features ({known}); extract "
            "them again or remove the file."
        )
    return kind


def read_audio_features(root: Path) -> tuple[str, np.ndarray]:
    """(kind, features) of a folder: its first aud*.npy by name, else log-mel of its sound."""
    for path in sorted(root.glob("aud*.npy")):
        try:
            features = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise DatasetError(f"{path}: this file is damaged; extract the features again.") from error
        return kind_of(features, path), features.astype(np.float32, copy=False)
    if (root / "aud.wav").is_file():
        return "mel", log_mel(load_wave(root / "aud.wav"))
    raise DatasetError(f"{root}: has neither audio features (aud*.npy) nor sound (aud.wav); add aud.wav.")
