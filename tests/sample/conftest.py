"""One small sample data set for all tests of this folder."""

from pathlib import Path

import pytest

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.sample.generate import generate

CLIP_SECONDS = 8.0


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few seconds of person 0 at 64 x 64."""
    root: Path = tmp_path_factory.mktemp("sample") / "clip"
    generate(root, seconds=CLIP_SECONDS, size=64, seed=0)
    return load_dataset(root)
