"""Fixtures and marker rules shared by all tests."""

import os
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {}
    if not torch.cuda.is_available():
        missing["cuda"] = "no CUDA device"
    if not os.environ.get("NERFAD_MEDIA"):
        missing["media"] = "set NERFAD_MEDIA to a folder of clips"
    if not _models_folder():
        missing["models"] = "run `nerfad models fetch`"
        missing.setdefault("media", missing["models"])
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):  # keywords would also match a folder of that name
                item.add_marker(pytest.mark.skip(reason=reason))


def _models_folder() -> Path | None:
    for folder in (os.environ.get("NERFAD_MODELS"), Path.home() / ".cache" / "nerfad" / "models"):
        if folder and (Path(folder) / "face_landmarker.task").is_file():
            return Path(folder)
    return None


@pytest.fixture
def media() -> Path:
    """The folder of real clips, for tests marked `media`."""
    return Path(os.environ["NERFAD_MEDIA"])


@pytest.fixture
def models() -> Path:
    """The folder of landmark and segmentation models, for tests marked `models`."""
    folder = _models_folder()
    assert folder is not None
    return folder


@pytest.fixture
def every_isa():
    """The instruction sets of this machine; restores the one that the test has changed."""
    from nerfad import _native

    before = _native.isa()
    yield _native.ISAS[: _native.ISAS.index(_native.detected_isa()) + 1]
    _native.set_isa(before)


def _backends() -> list:
    return [
        pytest.param("native", id="native"),
        pytest.param("emulated", id="emulated"),
        pytest.param("cuda", id="cuda", marks=pytest.mark.cuda),
    ]


@pytest.fixture(params=_backends())
def kernel_device(request: pytest.FixtureRequest):
    """Runs a test on the CPU kernels, on the CUDA sources over the emulator, and on a CUDA device.

    Gives the torch device to put the tensors on. The last is skipped where there is no device.
    """
    from nerfad import _native, ops

    if request.param == "emulated":
        if not _native.LIBRARY.with_name("libnerfad_emu.so").is_file():
            pytest.skip("the emulated kernels are not built (needs the CUDA headers)")
        with ops.emulated_cuda():
            yield torch.device("cpu")
    else:
        yield torch.device("cuda" if request.param == "cuda" else "cpu")
