"""Stage 5: the camera's pose relative to the head, and the box that the head fills.

The world is the head's own frame: origin between the cheekbones, x to the viewer's right, y up, z towards
the viewer; 25 cm of the canonical face are one unit, so that head and hair fit RAD-NeRF's box (x, y within
1, z within 0.5).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from nerfad.cameras import Camera
from nerfad.errors import VideoError
from nerfad.features.face_mesh import canonical_mesh, rigid_points
from nerfad.features.regions import HEAD, labels_of
from nerfad.io.images import load_image
from nerfad.models_store import find_model
from nerfad.preprocess import landmarks
from nerfad.preprocess.bundle_adjustment import adjust, initial_poses
from nerfad.preprocess.workspace import Workspace

STAGE = "poses"
CM_PER_UNIT = 25.0
# Not observable from a talking head's small turns; a usual portrait lens.
_FOCAL_AT_512 = 1200.0
_SHAPE_FRAMES = 250
# Poses refined together once the shape is known; bounds the memory of long clips.
_AT_ONCE = 1000
_HULL_FRAMES = 24
_HULL_CELLS = 37
# Head with hair: half extents in cm that are searched, and how far back and front it may reach.
_SEARCH_CM = np.array([[-18.0, -18.0, -10.0], [18.0, 18.0, 9.5]])
_MARGIN_CM = 1.0


def camera_of(size: int) -> Camera:
    """The camera of all data sets made here."""
    focal = _FOCAL_AT_512 * size / 512
    return Camera(focal, focal, size / 2, size / 2, height=size, width=size, pixel_offset=0.5)


def run(ws: Workspace) -> None:
    """Fit the person's face shape and all poses."""
    found = ws.load(landmarks.STAGE)
    canonical = canonical_mesh(find_model("face_landmarker", ws.models))
    rigid = rigid_points(canonical)
    points = found["landmarks"][:, rigid, :2].astype(np.float64)
    camera = camera_of(ws.size)
    centre = np.array([camera.cx, camera.cy])
    pixel = ws.size / 512
    ws.report(STAGE, 0, 3)
    rotations, translations = initial_poses(canonical[rigid], points, camera.fl_x, centre)
    chosen = np.unique(np.linspace(0, len(points) - 1, _SHAPE_FRAMES).round().astype(int))
    track = adjust(
        canonical[rigid],
        points[chosen],
        camera.fl_x,
        centre,
        rotations[chosen],
        translations[chosen],
        pixel=pixel,
    )
    ws.report(STAGE, 1, 3)
    tracks = [
        adjust(
            track.shape,
            points[rows],
            camera.fl_x,
            centre,
            rotations[rows],
            translations[rows],
            pixel=pixel,
            fix_shape=True,
        )
        for rows in (slice(k, k + _AT_ONCE) for k in range(0, len(points), _AT_ONCE))
    ]
    ws.report(STAGE, 2, 3)
    c2w = np.concatenate([camera_to_world(part.rotations, part.translations) for part in tracks])
    ws.save(
        STAGE,
        c2w=c2w,
        aabb=head_box(ws, camera, c2w, found["frame_ids"]),
        reprojection_px=np.concatenate([part.errors.mean(1) for part in tracks]),
        n_rigid=len(rigid),
    )
    ws.report(STAGE, 3, 3)


def camera_to_world(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """OpenGL camera-to-world matrices [n, 4, 4] in scene units from face-to-camera poses (OpenCV, cm)."""
    to_face = Rotation.from_rotvec(rotations).as_matrix().transpose(0, 2, 1)
    c2w = np.tile(np.eye(4), (len(rotations), 1, 1))
    c2w[:, :3, :3] = to_face * np.array([1.0, -1.0, -1.0])
    c2w[:, :3, 3] = -(to_face @ translations[..., None])[..., 0] / CM_PER_UNIT
    return c2w


def head_box(ws: Workspace, camera: Camera, c2w: np.ndarray, frame_ids: np.ndarray) -> np.ndarray:
    """Box [6] of the points that project into the head's mask in nearly all frames."""
    chosen = np.unique(np.linspace(0, len(frame_ids) - 1, _HULL_FRAMES).round().astype(int))
    low, high = _SEARCH_CM
    axes = [np.linspace(low[k], high[k], _HULL_CELLS) for k in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    inside = np.zeros(len(grid), np.int64)
    visible = np.zeros(len(grid), np.int64)
    for k in chosen:
        head = labels_of(load_image(ws.out / f"parsing/{frame_ids[k]}.png")) == HEAD
        pixels = np.floor(camera.project(c2w[k], grid / CM_PER_UNIT) + camera.pixel_offset).astype(int)
        in_picture = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(1)
        column, row = pixels[in_picture].T
        visible[in_picture] += 1
        inside[in_picture] += head[row, column]
    hull = grid[(visible > 0) & (inside >= 0.8 * np.maximum(visible, 1))]
    if len(hull) == 0:
        raise VideoError(
            f"{ws.video}: the head's region pictures and its poses disagree; look at {ws.out / 'parsing'}: "
            "is the person set apart from the background there?"
        )
    box = np.concatenate([hull.min(0) - _MARGIN_CM, hull.max(0) + _MARGIN_CM])
    return box / CM_PER_UNIT
