"""How the sample person moves besides speaking: head and body sway, blinks."""

import numpy as np

from nerfad.sample.model import CAMERA_DISTANCE, CAMERA_HEIGHT, NECK_PIVOT, Pose

YAW, PITCH, ROLL = 0.26, 0.14, 0.08  # largest turns of the head in radians
BODY_SHIFT = np.array([0.9, 0.35, 0.8])  # cm
BODY_ROLL = 0.022


def _sway(rng: np.random.Generator, times: np.ndarray, slowest: float, fastest: float) -> np.ndarray:
    """A smooth track within -1..1: a few sinusoids of random frequency and phase."""
    frequencies = rng.uniform(slowest, fastest, 4)
    amplitudes = rng.uniform(0.6, 1.0, 4) / np.sqrt(frequencies / slowest)
    phases = rng.uniform(0, 2 * np.pi, 4)
    waves = amplitudes * np.sin(2 * np.pi * frequencies * times[:, None] + phases)
    return waves.sum(1) / amplitudes.sum()


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_y @ about_x @ about_z


def rigid(rotation: np.ndarray, pivot: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The motion [4,4] that turns about `pivot`, then shifts."""
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = pivot - rotation @ pivot + shift
    return out


def draw_poses(rng: np.random.Generator, times: np.ndarray) -> list[Pose]:
    """Poses at `times` in s. The head rides on the body and turns about the neck."""
    yaw, pitch, roll = (size * _sway(rng, times, 0.12, 0.45) for size in (YAW, PITCH, ROLL))
    shift = BODY_SHIFT * np.stack([_sway(rng, times, 0.12, 0.35) for _ in range(3)], -1)
    lean = BODY_ROLL * _sway(rng, times, 0.12, 0.35)
    poses = []
    for k in range(len(times)):
        body = rigid(_rotation(0, 0, lean[k]), np.array([0.0, -30.0, -2.0]), shift[k])
        head = body @ rigid(_rotation(yaw[k], pitch[k], roll[k]), NECK_PIVOT, np.zeros(3))
        poses.append(Pose(head, body))
    return poses


def draw_blinks(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """AU45 in 0..1 at `times`: lids fall in 90 ms, rise in 170 ms."""
    blink = np.zeros(len(times))
    start = float(rng.uniform(0.4, 1.5))
    while start < times[-1]:
        fall = np.clip((times - start) / 0.09, 0, 1)
        rise = np.clip((times - start - 0.14) / 0.17, 0, 1)
        closed = np.sin(0.5 * np.pi * fall) ** 2 * np.cos(0.5 * np.pi * rise) ** 2
        blink = np.maximum(blink, np.where(times > start, closed, 0))
        start += float(rng.uniform(1.4, 3.4))
    return blink


def body_similarity(pose: Pose, focal: float, height: int, points: np.ndarray) -> np.ndarray:
    """The 2-D similarity that best carries the torso's `points` [n,3] from their rest picture to this one.

    Returns (dx, dy, rotation, log scale) of p' = s R (p - c) + c + d about the middle c of the lower edge of
    a picture of `height` rows, in pixels (right, down) and radians."""

    def picture(world: np.ndarray) -> np.ndarray:
        """Pixels from the middle of the lower edge."""
        depth = CAMERA_DISTANCE - world[:, 2]
        from_middle = focal * np.stack([world[:, 0], CAMERA_HEIGHT - world[:, 1]], -1) / depth[:, None]
        return from_middle - np.array([0.0, height / 2])

    rest = picture(points)
    moved = picture(points @ pose.body[:3, :3].T + pose.body[:3, 3])
    centred, target = rest - rest.mean(0), moved - moved.mean(0)
    power = (centred**2).sum()
    a = (centred * target).sum() / power
    b = (centred[:, 0] * target[:, 1] - centred[:, 1] * target[:, 0]).sum() / power
    shift = moved.mean(0) - np.array([[a, -b], [b, a]]) @ rest.mean(0)
    return np.array([*shift, np.arctan2(b, a), np.log(np.hypot(a, b))])
