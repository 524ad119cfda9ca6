"""The sample data set: loads, repeats, tells the truth, refuses nonsense."""

import hashlib
from pathlib import Path

import pytest

from nerfad.data.dataset import load_dataset
from nerfad.errors import DatasetError, NerfadError, OutputError
from nerfad.sample.generate import generate

SECONDS, SIZE = 2.0, 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample") / "person"
    generate(root, seconds=SECONDS, size=SIZE, seed=0)
    return root


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def test_is_an_ordinary_data_set(folder: Path) -> None:
    data = load_dataset(folder)
    assert (len(data), data.height, data.width, data.fps) == (50, SIZE, SIZE, 25.0)
    assert (data.reader, data.au_source, data.audio_kind) == ("sample", "exact", "mel")
    assert {"AU10", "AU14", "AU20", "AU25", "AU26", "AU45"} <= set(data.au_names)
    assert set(data.labels(0).ravel()) == {0, 1, 2, 3}
    assert data.torso(0).shape == (SIZE, SIZE, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0.5}, "seconds must be between"),
        ({"seconds": float("nan")}, "seconds must be between"),
        ({"size": 8}, "size must be between"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_bad_arguments_are_refused(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(NerfadError, match=message):
        generate(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds something else"):
        generate(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="name a folder"):
        generate(tmp_path / "file")
    with pytest.raises(OutputError, match="file, not a folder"):
        generate(tmp_path / "file" / "out")


def test_stopped_halfway_then_made_again_it_has_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "half"

    def stop(done: float, text: str) -> None:
        if done > 0.1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(root, seconds=SECONDS, size=SIZE, seed=0, progress=stop)
    assert not (root / "manifest.json").exists()
    with pytest.raises(DatasetError):
        load_dataset(root)
    generate(root, seconds=SECONDS, size=SIZE, seed=0)
    assert _digest(root) == _digest(folder)
