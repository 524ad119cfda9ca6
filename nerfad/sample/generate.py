"""`nerfad sample OUT`: writes a data set of the procedural head, and the truth about it.

The folder is an ordinary data set (see data/writer.py) with one more folder, `ground_truth/`:

- `poses.npy` float64 [n,4,4], camera to head (OpenGL axes, scene units);
- `units.npy` float32 [n,k] and `units.json`: action-unit intensities in 0..1;
- `lip_gap.npy` float32 [n]: mean distance of three pairs of inner-lip points over that of the outer eye
  corners, in three dimensions;
- `depth/%d.png` 16 bit: distance from the camera along the pixel's ray to the head; 0 where there is none,
  else near + (value - 1) / 65534 * (far - near), near and far in `truth.json`;
- `speech_mask/%d.png` for some frames (listed in `truth.json`): 255 where a pixel changes by more than
  4/255 when only the speech units move, everything else as in that frame;
- `phones.json`: name, start and end in seconds of every speech sound.
"""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from nerfad import __version__
from nerfad.data.writer import DatasetWriter, write_json
from nerfad.errors import NerfadError, OutputError
from nerfad.features.action_units import BLENDSHAPES
from nerfad.features.face_mesh import CLASSIC_68, LIPS_OUTER
from nerfad.io.atomic import atomic_write, output_error
from nerfad.progress import Progress, report
from nerfad.sample.head import SPEECH_UNITS, UNITS
from nerfad.sample.identity import draw_identity
from nerfad.sample.landmarks import N_POINTS
from nerfad.sample.model import CAMERA_DISTANCE, CM_PER_UNIT, Pose, Rendering, SampleModel
from nerfad.sample.motion import body_similarity, draw_blinks, draw_poses
from nerfad.sample.speech import Utterance, draw_utterance
from nerfad.sample.synth import synthesize

FPS = 25.0
MIN_SECONDS, MAX_SECONDS = 2.0, 3600.0
MIN_SIZE, MAX_SIZE = 32, 2048
NEAR, FAR = (CAMERA_DISTANCE - 22.0) / CM_PER_UNIT, (CAMERA_DISTANCE + 22.0) / CM_PER_UNIT
MASK_STEP = 10  # every so many frames get a speech mask
MASK_THRESHOLD = 4.0 / 255.0
_SHAPES_OF: dict[str, tuple[str, ...]] = {
    "AU10": ("mouthUpperUp",),
    "AU14": ("mouthDimple",),
    "AU18": ("mouthPucker",),
    "AU20": ("mouthStretch",),
    "AU24": ("mouthPress",),
    "AU26": ("jawOpen",),
    "AU45": ("eyeBlink",),
}
# what the mouth is put through to find every pixel that speech can change
MASK_POSES: tuple[dict[str, float], ...] = (
    {"AU25": 0.9, "AU26": 0.85},
    {"AU20": 0.8, "AU14": 0.5, "AU10": 0.4, "AU25": 0.3, "AU26": 0.15},
    {"AU18": 1.0, "AU25": 0.2, "AU26": 0.2},
    {"AU24": 1.0},
)


FaceTruth = tuple[np.ndarray, float]  # landmarks [478,3] in pixels, lip gap


@dataclass(frozen=True)
class Script:
    """All that happens in a clip; drawing it is all that is random."""

    times: np.ndarray
    poses: list[Pose]
    units: np.ndarray  # [n, len(UNITS)]
    speech: Utterance
    wave: np.ndarray


def named_units(intensities: np.ndarray) -> dict[str, float]:
    """A row of `Script.units` by the units' names."""
    return dict(zip(UNITS, intensities.tolist(), strict=True))


def write_script(seconds: float, seed: int) -> Script:
    """Draw speech, poses and blinks. Each has its own stream of random numbers."""
    streams = [np.random.default_rng([seed, k]) for k in range(4)]
    times = (np.arange(round(seconds * FPS)) + 0.5) / FPS
    speech = draw_utterance(streams[0], len(times) / FPS, draw_identity(seed).pitch_hz)
    units = speech.units_at(times)
    units["AU45"] = draw_blinks(streams[1], times)
    return Script(
        times,
        draw_poses(streams[2], times),
        np.stack([units[name] for name in UNITS], -1).astype(np.float32),
        speech,
        synthesize(speech, streams[3]),
    )


def speech_mask(model: SampleModel, units: dict[str, float], pose: Pose) -> np.ndarray:
    """Pixels [h,w] that change by more than 4/255 when only the speech units move."""
    still = units | dict.fromkeys(SPEECH_UNITS, 0.0)
    reference = model.render(still, pose).image
    changed = np.zeros(reference.shape[:2], bool)
    for moved in MASK_POSES:
        difference = np.abs(model.render(still | moved, pose).image - reference).max(-1)
        changed |= difference > MASK_THRESHOLD
    return changed


def generate(
    out: str | Path,
    *,
    seconds: float = 20.0,
    size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write a sample data set.

    Args:
        out: the folder; made if missing. A folder that holds something else is refused.
        seconds: length of the clip, at 25 frames a second.
        size: rows and columns of the pictures.
        seed: who it is and what happens. The same seed gives the same bytes.
        progress: called with the fraction done and a text.

    Raises:
        NerfadError: an argument is out of range.
        OutputError: the folder cannot be written, or is something else.
    """
    _check(seconds, size, seed)
    root = Path(out)
    _check_folder(root)
    writer = DatasetWriter(root)
    try:
        (root / "ground_truth").mkdir(exist_ok=True)
        (root / "manifest.json").unlink(missing_ok=True)  # unfinished until it is written again
    except OSError as error:
        raise output_error(root, error) from error
    script = write_script(seconds, seed)
    writer.write_audio(script.wave)
    model = SampleModel(draw_identity(seed), size)
    writer.write_background(_to_bytes(model.background))
    n = len(script.times)
    landmarks, gaps = np.zeros((n, N_POINTS, 3), np.float32), np.zeros(n, np.float32)
    for frame, (points, gap) in enumerate(_run_frames(root, script, seed, size)):
        landmarks[frame], gaps[frame] = points, gap
        report(progress, 0.98 * (frame + 1) / n, f"frame {frame + 1} of {n}")
    _write_truth(root, script, model, gaps)
    _finish(writer, script, model, seed, landmarks)
    report(progress, 1.0, f"{n} frames")


def _check(seconds: float, size: int, seed: int) -> None:
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise NerfadError(f"seconds must be between {MIN_SECONDS:g} and {MAX_SECONDS:g}, got {seconds:g}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise NerfadError(f"size must be between {MIN_SIZE} and {MAX_SIZE} pixels, got {size}.")
    if seed < 0:
        raise NerfadError(f"seed must not be negative, got {seed}.")


def _check_folder(root: Path) -> None:
    """Refuse to write over what is not a sample data set."""
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root} is a file; name a folder for the sample data set.")
    if not root.is_dir() or not any(root.iterdir()):
        return
    manifest = root / "manifest.json"
    ours = (root / "ground_truth").is_dir()
    if manifest.is_file():
        try:
            ours = json.loads(manifest.read_text()).get("source") == "nerfad sample"
        except (ValueError, AttributeError):
            ours = False
    if not ours:
        raise OutputError(
            f"{root} holds something else already; name an empty folder for the sample data set."
        )


def _run_frames(root: Path, script: Script, seed: int, size: int) -> Iterator[FaceTruth]:
    """Draw and write all frames on all cores; yields each one's landmarks and lip gap in order."""
    frames = range(len(script.times))
    setup = (root, script.poses, script.units, seed, size)
    n_workers = min(len(os.sched_getaffinity(0)), 16)
    if n_workers == 1 or len(frames) * size**2 < 100 * 64**2:
        worker = _Worker(*setup)
        yield from map(worker.draw, frames)
        return
    # spawned, not forked: the caller may have torch's threads running
    with ProcessPoolExecutor(n_workers, get_context("spawn"), _start_worker, setup) as pool:
        yield from _in_order(pool, frames)


def _in_order(pool: ProcessPoolExecutor, frames: Iterable[int]) -> Iterator[FaceTruth]:
    try:
        yield from pool.map(_draw_in_worker, frames, chunksize=4)
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise


class _Worker:
    """Draws and writes single frames."""

    def __init__(self, root: Path, poses: list[Pose], units: np.ndarray, seed: int, size: int) -> None:
        self.root, self.poses, self.units = root, poses, units
        self.model = SampleModel(draw_identity(seed), size)
        self.writer = DatasetWriter(root)

    def draw(self, frame: int) -> FaceTruth:
        """Write everything about one frame; returns its landmarks [478,3] and lip gap."""
        units = named_units(self.units[frame])
        pose = self.poses[frame]
        picture = self.model.render(units, pose)
        image = _to_bytes(picture.image)
        landmarks, gap = self.model.landmarks(units, pose)
        self.writer.write_frame(
            frame,
            image=image,
            gt_image=image,
            labels=picture.labels,
            torso=_to_bytes(picture.torso),
            landmarks_68=landmarks[CLASSIC_68, :2],
        )
        truth = self.root / "ground_truth"
        _save_png(truth / f"depth/{frame}.png", depth_to_png(picture))
        if frame % MASK_STEP == 0:
            mask = speech_mask(self.model, units, pose)
            _save_png(truth / f"speech_mask/{frame}.png", 255 * mask.astype(np.uint8))
        return landmarks, gap


_worker: _Worker | None = None


def _start_worker(*setup: object) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)
    _worker = _Worker(*setup)  # type: ignore[arg-type]


def _draw_in_worker(frame: int) -> FaceTruth:
    assert _worker is not None
    return _worker.draw(frame)


def depth_to_png(picture: Rendering) -> np.ndarray:
    """Depth as uint16 [h,w]: 0 nothing, 1..65535 from NEAR to FAR."""
    level = 1 + np.rint((picture.depth - NEAR) / (FAR - NEAR) * 65534)
    return np.where(picture.depth > 0, np.clip(level, 1, 65535), 0).astype(np.uint16)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def _save_png(path: Path, values: np.ndarray) -> None:
    ok, data = cv2.imencode(".png", values)
    assert ok
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _write_truth(root: Path, script: Script, model: SampleModel, gaps: np.ndarray) -> None:
    truth = root / "ground_truth"
    c2w = np.stack([model.c2w(pose) for pose in script.poses])
    for name, values in (("poses", c2w), ("units", script.units), ("lip_gap", gaps)):
        with atomic_write(truth / f"{name}.npy") as file:
            np.save(file, values)
    write_json(truth / "units.json", {"names": list(UNITS), "speech": list(SPEECH_UNITS)})
    write_json(truth / "phones.json", [[p, round(a, 4), round(b, 4)] for p, a, b in script.speech.phones])
    write_json(
        truth / "truth.json",
        {
            "depth_near": NEAR,
            "depth_far": FAR,
            "speech_mask_frames": list(range(0, len(script.times), MASK_STEP)),
            "cm_per_scene_unit": CM_PER_UNIT,
            "identity": asdict(model.who),
        },
    )


def _finish(
    writer: DatasetWriter, script: Script, model: SampleModel, seed: int, landmarks: np.ndarray
) -> None:
    n = len(script.times)
    frames = np.arange(n)
    body_points = model.torso_points()
    similarity = partial(body_similarity, focal=model.camera.fl_x, height=model.size, points=body_points)
    body = np.stack([similarity(pose) for pose in script.poses]).astype(np.float32)
    writer.write_array("body", body)
    writer.write_array("landmarks", landmarks)
    writer.write_array("blendshapes", _blendshapes(script.units))
    writer.write_aus(frames, [_openface(name) for name in UNITS], script.units, FPS)
    writer.finish(
        camera=model.camera,
        c2w=np.stack([model.c2w(pose) for pose in script.poses]),
        frame_ids=frames,
        segments=np.zeros(n, np.int64),
        aabb=model.aabb(),
        fps=FPS,
        reader="sample",
        au_source="exact",
        rects={"face_rect": _rects(landmarks, 0.05), "lip_rect": _rects(landmarks[:, LIPS_OUTER], 0.15)},
        source="nerfad sample",
        seed=seed,
        synthetic=True,
        version=__version__,
    )


def _openface(unit: str) -> str:
    """AU5 -> AU05."""
    return f"AU{int(unit[2:]):02d}"


def _blendshapes(units: np.ndarray) -> np.ndarray:
    """Scores [n,52] in the landmarker's order: each shape takes the intensity of the unit it shows."""
    out = np.zeros((len(units), len(BLENDSHAPES)), np.float32)
    for name, intensity in zip(UNITS, units.T, strict=True):
        for k, shape in enumerate(BLENDSHAPES):
            if shape.startswith(_SHAPES_OF.get(name, ())):
                out[:, k] = intensity
    return out


def _rects(points: np.ndarray, margin: float) -> np.ndarray:
    """Boxes (x, y, width, height) around points [n,k,>=2], wider by `margin` of their size on each side."""
    low, high = points[..., :2].min(1), points[..., :2].max(1)
    room = margin * (high - low)
    return np.rint(np.concatenate([low - room, high - low + 2 * room], 1))
