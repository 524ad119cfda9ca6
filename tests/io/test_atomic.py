"""Results are complete or absent, and a full disk ends in one sentence."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nerfad.errors import InputFileError, OutputError
from nerfad.io.atomic import atomic_path, atomic_write, check_file_target, check_folder_target
from nerfad.io.images import load_image, save_image
from nerfad.io.video import write_video


@contextlib.contextmanager
def disk_that_fills_at(n_bytes: int) -> Iterator[None]:
    """Make every write beyond `n_bytes` of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_write_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.bin"
    with atomic_write(target, sync=True) as file:
        file.write(b"123")
        assert not target.exists()
    assert target.read_bytes() == b"123"
    assert [p.name for p in target.parent.iterdir()] == ["a.bin"]


def test_targets_are_judged_before_anything_is_made(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("in the way")
    check_file_target(file)
    check_file_target(tmp_path / "new/deep/b.txt")
    check_folder_target(tmp_path)
    check_folder_target(tmp_path / "new/deep")
    with pytest.raises(OutputError, match="it is a folder; choose a file name"):
        check_file_target(tmp_path)
    for check in (check_file_target, check_folder_target):
        with pytest.raises(OutputError, match=r"a\.txt/b: a part of its path is a file"):
            check(file / "b")
        with pytest.raises(OutputError, match="the name is too long"):
            check(tmp_path / ("x" * 300) / "b")
    with pytest.raises(OutputError, match=r"a\.txt: a part of its path is a file"):
        check_folder_target(file)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_may_not_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OutputError, match="permission is denied; choose a folder that you may write to"):
        check_file_target(tmp_path / "b.txt")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("earlier")
    with pytest.raises(error), atomic_write(target, "w") as file:
        file.write("half")
        raise error
    assert target.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_one_sentence_and_harms_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"earlier")
    with (
        disk_that_fills_at(4096),
        pytest.raises(OutputError, match=r"cannot write .*a\.bin: .*choose another folder") as caught,
        atomic_write(target) as file,
    ):
        file.write(bytes(100_000))
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_enospc_names_the_disk(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="the disk is full; free some space"),
        atomic_path(tmp_path / "a.bin"),
        open("/dev/full", "wb") as file,
    ):
        file.write(b"1")
        file.flush()


def test_a_disk_that_fills_while_a_video_is_saved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(40)]
    write_video(tmp_path / "a.mp4", frames[:3], 25)
    before = (tmp_path / "a.mp4").read_bytes()
    with disk_that_fills_at(50_000), pytest.raises(OutputError, match=r"cannot write .*a\.mp4"):
        write_video(tmp_path / "a.mp4", frames, 25)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_target_below_a_file_and_a_folder_as_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a file, not a folder"), atomic_write(tmp_path / "file" / "a"):
        pass
    with pytest.raises(OutputError, match="it is a folder"), atomic_write(tmp_path / "folder"):
        pass


@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_come_back(tmp_path: Path, suffix: str, channels: int | None) -> None:
    shape = (16, 24) if channels is None else (16, 24, channels)
    if suffix == ".jpg" and channels == 4:
        pytest.skip("JPEG has no alpha")
    image = np.linspace(0, 255, int(np.prod(shape))).reshape(shape).astype(np.uint8)
    save_image(tmp_path / f"a{suffix}", image)
    read = load_image(tmp_path / f"a{suffix}", channels=None)
    np.testing.assert_allclose(read.astype(int), image.astype(int), atol=0 if suffix == ".png" else 12)
    assert load_image(tmp_path / f"a{suffix}").shape == (16, 24, 3)
    assert load_image(tmp_path / f"a{suffix}", channels=4).shape == (16, 24, 4)
    assert load_image(tmp_path / f"a{suffix}", channels=1).shape == (16, 24)


def test_colours_are_rgb_and_jpeg_keeps_full_chroma(tmp_path: Path) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, ::2, 0] = 255  # single red columns survive only without chroma subsampling
    save_image(tmp_path / "a.jpg", image)
    assert np.abs(load_image(tmp_path / "a.jpg").astype(int) - image).max() < 40


def test_missing_and_broken_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, message in [
        ("none.png", "is missing"),
        ("broken.jpg", "is not a complete"),
        ("empty.png", "is not a complete"),
    ]:
        with pytest.raises(InputFileError, match=f"{name} {message}"):
            load_image(tmp_path / name)
    with pytest.raises(OutputError, match=r"\.jpg or \.png"):
        save_image(tmp_path / "a.gif", np.zeros((4, 4, 3), np.uint8))
