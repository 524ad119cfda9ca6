"""`nerfad doctor`: checks a data set folder of any layout before hours are spent on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.data.formats import find_layout
from nerfad.data.formats.action_unit_csv import read_table
from nerfad.data.formats.audio_features import KINDS
from nerfad.data.formats.layout import Layout
from nerfad.data.formats.transforms import Transforms, read_transforms
from nerfad.data.writer import read_manifest
from nerfad.errors import NerfadError
from nerfad.features.audio import MEL_RATE, load_wave
from nerfad.io.images import load_image

# Pictures opened whole; of all others only the first and last bytes are looked at.
_OPENED = 12
_LISTED = 5
_WANTED_S = 30.0
_LOOK_S = 0.2


@dataclass(frozen=True)
class Finding:
    """One thing found: "error" (training would fail or be wrong), "warning", or "note"."""

    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:>7}: {self.text}"


@dataclass
class Report:
    """What `doctor` found; printed, it is readable."""

    root: Path
    layout: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether training can start."""
        return not any(finding.level == "error" for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        counts = {
            level: sum(f.level == level for f in self.findings) for level in ("error", "warning", "note")
        }
        order = {"error": 0, "warning": 1, "note": 2}
        lines = [f"{self.root} ({self.layout})"]
        lines += [str(finding) for finding in sorted(self.findings, key=lambda f: order[f.level])]
        verdict = "ready to train" if self.ok else "not usable yet"
        lines.append(f"{verdict}: {counts['error']} errors, {counts['warning']} warnings")
        return "\n".join(lines)


def doctor(dataset_root: str | Path) -> Report:
    """Check poses, pictures, sound, features, action units and the split of a data set folder.

    Never raises for what is wrong with the folder: everything found is in the report, so that one run
    shows all that has to be mended.
    """
    root = Path(dataset_root)
    report = Report(root, "unknown layout")
    if not root.is_dir():
        report.findings.append(Finding("error", f"{root}: there is no such folder."))
        return report
    try:
        layout = find_layout(root)
        report.layout = layout.name
        transforms = read_transforms(root, layout.pixel_offset)
    except NerfadError as error:
        report.findings.append(Finding("error", str(error)))
        return report
    checks: tuple[Callable[[Path, Layout, Transforms], Iterator[Finding]], ...] = (
        _check_frames,
        _check_poses,
        _check_pictures,
        _check_background,
        _check_sound,
        _check_action_units,
        _check_manifest,
    )
    for check in checks:
        report.findings.extend(check(root, layout, transforms))
    try:
        report.findings.extend(_check_loaded(load_dataset(root)))
    except NerfadError as error:
        if not any(finding.text == str(error) for finding in report.findings):
            report.findings.append(Finding("error", str(error)))
    return report


def _listed(values: list[Any]) -> str:
    shown = ", ".join(str(value) for value in values[:_LISTED])
    return shown if len(values) <= _LISTED else f"{shown} and {len(values) - _LISTED} more"


def _check_frames(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    ids = transforms.frame_ids
    repeated = np.unique(ids[1:][np.diff(ids) == 0])
    if len(repeated):
        yield Finding("error", f"frames {_listed(repeated.tolist())} are listed more than once.")
    gaps = int((np.diff(ids) > 1).sum())
    yield Finding(
        "note",
        f"{len(ids)} frames ({len(ids) / 25:.0f} s at 25 frames a second), numbers {ids[0]} to {ids[-1]}"
        + (f", with {gaps} gaps" if gaps else "")
        + f"; {transforms.camera.width}x{transforms.camera.height}, focal length "
        f"{transforms.camera.fl_x:.0f}.",
    )
    if not (root / "transforms_val.json").is_file():
        yield Finding("note", "there is no transforms_val.json; the last fifth of the frames is held out.")
    if len(ids) < _WANTED_S * 25:
        yield Finding("warning", f"only {len(ids)} frames; a minute or more (1500 frames) is wanted.")


def _check_poses(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    c2w, ids, camera = transforms.c2w.astype(np.float64), transforms.frame_ids, transforms.camera
    bad = ids[~np.isfinite(c2w).all((1, 2))].tolist()
    if bad:
        yield Finding("error", f"the poses of frames {_listed(bad)} hold NaN or infinity.")
        return
    rotation = c2w[:, :3, :3]
    skew = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    bad = ids[(skew > 1e-2) | (np.linalg.det(rotation) < 0)].tolist()
    if bad:
        yield Finding("error", f"the pose matrices of frames {_listed(bad)} are no rotations.")
        return
    depth = (c2w[:, :3, 3] * c2w[:, :3, 2]).sum(1)
    bad = ids[depth <= 0].tolist()
    if bad:
        yield Finding(
            "error",
            f"in frames {_listed(bad)} the head is behind the camera: the poses are not in OpenGL axes.",
        )
        return
    where = camera.project(c2w[0], np.zeros((1, 3)))[0]
    if not (0 <= where[0] < camera.width and 0 <= where[1] < camera.height):
        yield Finding("warning", "the world's origin (the head) lies outside the picture of the first frame.")
    steps = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1)
    jumps = ids[1:][steps > np.maximum(20 * np.median(steps), 0.2)].tolist()
    if jumps and layout.name != "nerfad":
        yield Finding("warning", f"the pose jumps at frames {_listed(jumps)}: is the video cut there?")


def _check_pictures(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    patterns = {"pictures": layout.image_pattern, "region pictures": layout.label_pattern}
    if layout.torso_pattern:
        patterns["torso pictures"] = layout.torso_pattern
    size = (transforms.camera.height, transforms.camera.width)
    for what, pattern in patterns.items():
        paths = [root / pattern.format(frame_id) for frame_id in transforms.frame_ids]
        missing = [path.relative_to(root) for path in paths if not path.is_file()]
        if missing:
            yield Finding("error", f"{len(missing)} {what} are missing: {_listed(missing)}.")
        present = [path for path in paths if path.is_file()]
        broken = [path.relative_to(root) for path in present if not _looks_whole(path)]
        chosen = {int(k) for k in np.linspace(0, len(present) - 1, _OPENED)} if present else set()
        for path in (present[k] for k in sorted(chosen)):
            try:
                found = load_image(path).shape[:2]
            except NerfadError:
                broken = sorted({*broken, path.relative_to(root)})
                continue
            if found != size:
                yield Finding(
                    "error",
                    f"{path.relative_to(root)} is {found[1]}x{found[0]}, the camera is {size[1]}x{size[0]}.",
                )
                break
        if broken:
            yield Finding("error", f"{len(broken)} {what} are damaged: {_listed(broken)}.")


def _looks_whole(path: Path) -> bool:
    """Whether a JPEG or PNG ends as it should; a truncated copy does not."""
    with open(path, "rb") as stream:
        start = stream.read(4)
        stream.seek(-min(16, os.path.getsize(path)), os.SEEK_END)
        end = stream.read()
    if start[:2] == b"\xff\xd8":
        return b"\xff\xd9" in end
    if start == b"\x89PNG":
        return b"IEND" in end
    return False


def _check_background(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    path = root / layout.background_name
    try:
        found = load_image(path).shape[:2]
    except NerfadError as error:
        yield Finding("error", str(error))
        return
    size = (transforms.camera.height, transforms.camera.width)
    if found != size:
        yield Finding("warning", f"{path.name} is {found[1]}x{found[0]} and will be scaled to the pictures.")


def _check_sound(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    needed_s = (int(transforms.audio_ids.max()) + 1) / 25
    path = root / "aud.wav"
    if not path.is_file():
        yield Finding("warning", "there is no aud.wav: videos rendered from this data set will be silent.")
    else:
        try:
            length = len(load_wave(path)) / 16000
        except NerfadError as error:
            yield Finding("error", str(error))
        else:
            if length < needed_s - 0.5:
                yield Finding("warning", f"aud.wav lasts {length:.1f} s, the frames need {needed_s:.1f} s.")
    for array in sorted(root.glob("aud*.npy")):
        yield from _check_features(array, int(transforms.audio_ids.max()) + 1)


def _check_features(path: Path, n_needed: int) -> Iterator[Finding]:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        yield Finding("error", f"{path.name} is damaged; extract the features again.")
        return
    kind = KINDS.get(features.shape[1:])
    if kind is None:
        yield Finding("error", f"{path.name} has shape {features.shape}, which is no known kind of features.")
        return
    yield Finding("note", f"{path.name}: {kind}, {len(features)} rows.")
    n_frames = len(features) * 25 // MEL_RATE if kind == "mel" else len(features)
    if n_frames < n_needed - 12:
        yield Finding(
            "warning",
            f"{path.name} covers {n_frames} frames, but aud_id goes up to {n_needed - 1}: the last frames "
            "would all hear its end.",
        )
    if not np.isfinite(features[:: max(1, len(features) // 500)]).all():
        yield Finding("error", f"{path.name} holds NaN or infinity.")


def _check_action_units(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    path = next((root / name for name in ("au.csv", "au_proxy.csv") if (root / name).is_file()), None)
    if path is None:
        yield Finding("note", "there are no action units (au.csv): what needs them is switched off.")
        return
    try:
        names, values = read_table(path)
    except NerfadError as error:
        yield Finding("error", str(error))
        return
    rows = transforms.frame_ids[transforms.frame_ids < len(values)]
    still = [name for name, spread in zip(names, np.ptp(values[rows], axis=0), strict=True) if spread < 0.02]
    if still and len(rows):
        yield Finding("warning", f"{path.name}: {', '.join(still)} hardly change; leave them out.")
    yield Finding("note", f"{path.name}: {len(values)} rows, {len(names)} units.")


def _check_manifest(root: Path, layout: Layout, transforms: Transforms) -> Iterator[Finding]:
    manifest = read_manifest(root) or {}
    quality = manifest.get("quality", {})
    if "reprojection_px_at_512" in quality:
        yield Finding(
            "note",
            f"face found in {100 * quality['detection_rate']:.1f} % of frames; reprojection error "
            f"{quality['reprojection_px_at_512']['mean']:.2f} px at 512.",
        )
    for warning in quality.get("warnings", []):
        yield Finding("warning", f"{warning}.")


def _check_loaded(dataset: Dataset) -> Iterator[Finding]:
    """What only shows once everything is put together."""
    train, test = dataset.split(_LOOK_S, _LOOK_S)
    if len(train) == 0 or len(test) == 0:
        yield Finding("error", f"no frames are left to train on or to test on ({len(train)}, {len(test)}).")
    else:
        yield Finding("note", f"{len(train)} frames to train on, {len(test)} held out.")
    labels = dataset.labels(len(dataset) // 2)
    share = float((labels == 1).mean())
    if not 0.02 < share < 0.9:
        yield Finding(
            "error",
            f"the head covers {100 * share:.0f} % of the region picture of frame "
            f"{dataset.frame_ids[len(dataset) // 2]}: are its colours those of docs/data.md?",
        )
    inside = dataset.camera.project(dataset.c2w[0].astype(np.float64), _corners(dataset.aabb))
    reach = np.ptp(inside, axis=0) / (dataset.width, dataset.height)
    if reach.max() < 0.1:
        yield Finding("error", "the head's box covers less than a tenth of the picture: check the units.")


def _corners(aabb: np.ndarray) -> np.ndarray:
    low, high = aabb.reshape(2, 3).astype(np.float64)
    grid = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij"))
    return grid.reshape(3, -1).T
