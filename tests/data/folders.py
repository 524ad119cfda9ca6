"""Small folders as the preparation scripts of other projects leave them, built from the description of
their formats (docs/data.md)."""

import json
from pathlib import Path

import cv2
import numpy as np

N_FRAMES = 20
HEIGHT, WIDTH = 40, 48
FOCAL = 110.0


def tracker_pose(k: int) -> np.ndarray:
    """A camera 0.7 units in front of the face, turned a little, OpenGL axes."""
    angle = 0.02 * k
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array([0.3 * angle, angle, 0.1 * angle]))[0]
    pose[:3, 3] = pose[:3, :3] @ np.array([0.01, -0.02, 0.7])
    return pose


def write_transforms(root: Path, rects: bool = False, size: bool = False) -> None:
    frames = []
    for k in range(N_FRAMES):
        frame = {"img_id": k, "aud_id": k, "transform_matrix": tracker_pose(k).tolist()}
        if rects:
            # Column, row, width, height.
            frame |= {"face_rect": [10 + k, 4, 20, 24], "lip_rect": [16 + k, 20, 8, 5]}
        frames.append(frame)
    head = {"focal_len": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    head |= {"h": HEIGHT, "w": WIDTH} if size else {}
    for name, part in (("train", frames[:16]), ("val", frames[16:])):
        (root / f"transforms_{name}.json").write_text(json.dumps(head | {"frames": part}))


def write_pictures(root: Path, folders: dict[str, str]) -> np.ndarray:
    """The same picture in every folder ({name: suffix}), with regions in parsing; returns it (RGB)."""
    rng = np.random.default_rng(0)
    picture = cv2.resize(rng.integers(0, 255, (5, 6, 3), np.uint8), (WIDTH, HEIGHT))
    regions = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    # Blue, green, red as OpenCV writes them: head, neck, torso.
    regions[5:20, 10:40] = (255, 0, 0)
    regions[20:26, 18:30] = (0, 255, 0)
    regions[26:, 5:45] = (0, 0, 255)
    for folder in [*folders, "parsing", "ori_imgs"]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    body = (regions[..., 0] == 0).astype(np.uint8) * 255
    for k in range(N_FRAMES):
        cv2.imwrite(str(root / f"parsing/{k}.png"), regions)
        np.savetxt(root / f"ori_imgs/{k}.lms", lips_and_face(), fmt="%.3f")
        for folder, suffix in {**folders, "ori_imgs": "jpg"}.items():
            bgr = picture[..., ::-1]
            image = np.dstack([bgr, body]) if suffix == "png" else bgr
            cv2.imwrite(str(root / f"{folder}/{k}.{suffix}"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    cv2.imwrite(str(root / "bc.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    return picture


def lips_and_face() -> np.ndarray:
    points = np.zeros((68, 2))
    points[:48] = np.stack([np.linspace(12, 34, 48), np.linspace(6, 28, 48)], 1)
    points[48:] = np.stack([np.linspace(20, 27, 20), np.linspace(19, 23, 20)], 1)
    return points


class Bomb:
    """A pickle that would leave a trace if anything opened it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return (Path.touch, (self.trace,))


def adnerf(root: Path) -> Path:
    import pickle

    write_pictures(root, {"com_imgs": "jpg", "head_imgs": "jpg"})
    write_transforms(root, rects=True)
    np.save(root / "aud.npy", np.ones((N_FRAMES + 3, 16, 29), np.float32))
    (root / "track_params.pt").write_bytes(pickle.dumps(Bomb(root / "exploded")))
    return root


def dfrf(root: Path) -> Path:
    adnerf(root)
    write_pictures(root, {"com_imgs": "jpg", "head_imgs": "jpg", "torso_imgs": "jpg"})
    return root


def radnerf(root: Path, features: tuple[str, tuple[int, ...]] = ("aud_eo.npy", (16, 44))) -> Path:
    write_pictures(root, {"gt_imgs": "jpg", "torso_imgs": "png"})
    write_transforms(root)
    name, shape = features
    np.save(root / name, np.ones((N_FRAMES, *shape), np.float32))
    return root


def ernerf(root: Path, n_rows: int = N_FRAMES) -> Path:
    radnerf(root, ("aud_ds.npy", (16, 29)))
    # OpenFace's FeatureExtraction: leading blanks in the names, AUs far to the right.
    names = ["frame", " face_id", " timestamp", " confidence", " success", " AU01_r", " AU45_r", " AU45_c"]
    rows = [[k + 1, 0, k / 25, 0.98, 1, 0.5, 0.1 * k, 1] for k in range(n_rows)]
    lines = [",".join(names), *(", ".join(map(str, row)) for row in rows)]
    (root / "au.csv").write_text("\n".join(lines) + "\n")
    return root
