"""What the sample data set says about itself is so."""

import json

import cv2
import numpy as np
import pytest

from nerfad.data.dataset import Dataset
from nerfad.data.ground_truth import exact_depth
from nerfad.sample.generate import named_units, speech_mask, write_script
from nerfad.sample.head import UNITS
from nerfad.sample.identity import draw_identity
from nerfad.sample.model import SampleModel
from tests.sample.conftest import CLIP_SECONDS

# tip and bridge of the nose, forehead: rigid and never hidden
RIGID = [1, 4, 5, 195, 6, 168, 9, 151]


@pytest.fixture(scope="module")
def model() -> SampleModel:
    return SampleModel(draw_identity(0), 64)


def _depth(clip: Dataset, frame: int) -> np.ndarray:
    depth = exact_depth(clip, frame)
    assert depth is not None
    return np.nan_to_num(depth)  # 0 where there is no head


def test_depth_and_poses_put_rigid_points_in_one_place(clip: Dataset) -> None:
    # A landmark's pixel, lifted by its depth and the frame's pose, must land on one point of the head.
    assert clip.landmarks is not None
    head_size = clip.aabb[4] - clip.aabb[1]
    lifted = []
    for frame in range(0, len(clip), 9):
        depth = _depth(clip, frame)
        pixels = clip.landmarks[frame, RIGID, :2] - 0.5
        at = cv2.remap(depth, pixels[None].astype(np.float32), None, cv2.INTER_LINEAR)[0]
        rays_o, rays_d = clip.camera.rays(clip.c2w[frame].astype(np.float64), pixels)
        lifted.append(rays_o + at[:, None] * rays_d)
    spread = np.std(lifted, axis=0)
    assert spread.max() <= 0.01 * head_size


def test_depth_covers_the_head_and_lies_in_its_box(clip: Dataset) -> None:
    depth, labels = _depth(clip, 3), clip.labels(3)
    assert ((depth > 0) == (labels == 1)).mean() >= 0.98
    rows, columns = np.nonzero(depth)
    pixels = np.stack([columns, rows], -1).astype(np.float64)
    rays_o, rays_d = clip.camera.rays(clip.c2w[3].astype(np.float64), pixels)
    points = rays_o + depth[rows, columns, None] * rays_d
    assert (points >= clip.aabb[:3]).all() and (points <= clip.aabb[3:]).all()


def test_lip_gap_is_that_of_the_landmarks(clip: Dataset) -> None:
    from nerfad.features.face_mesh import lip_gap

    assert clip.landmarks is not None
    gaps = np.load(clip.root / "ground_truth/lip_gap.npy")
    assert np.corrcoef(gaps, lip_gap(clip.landmarks))[0, 1] >= 0.99
    assert gaps.min() >= 0 and 0.1 <= gaps.max() <= 0.4


def test_units_agree_with_the_table_of_the_data_set(clip: Dataset) -> None:
    units = np.load(clip.root / "ground_truth/units.npy")
    names = json.loads((clip.root / "ground_truth/units.json").read_text())["names"]
    assert clip.aus is not None and names == list(UNITS) == clip.au_names
    assert np.abs(units - clip.aus).max() <= 1e-3
    assert units.min() >= 0 and units.max() <= 1


def test_the_lip_edges_part_by_what_au25_says(model: SampleModel) -> None:
    pose = write_script(2.0, 0).poses[0]
    gaps = [model.landmarks({"AU25": v, "AU26": 0.5}, pose)[1] for v in (0.0, 0.25, 0.5, 1.0)]
    assert gaps[0] == pytest.approx(0.0, abs=1e-6)
    assert gaps[2] / gaps[1] == pytest.approx(2.0, abs=0.25)
    assert np.all(np.diff(gaps) > 0)


def test_speech_mask_is_inside_the_face_and_holds_the_mouth(clip: Dataset, model: SampleModel) -> None:
    assert clip.landmarks is not None
    frame = 40
    mask = cv2.imread(str(clip.root / f"ground_truth/speech_mask/{frame}.png"), cv2.IMREAD_GRAYSCALE) > 0
    face = clip.labels(frame) == 1
    # the chin covers and uncovers a rim of the neck
    assert (mask & ~cv2.dilate(face.astype(np.uint8), np.ones((9, 9))).astype(bool)).sum() == 0
    column, row = clip.landmarks[frame, 13, :2].astype(int)
    assert mask[row, column] and mask[row + 2, column]
    eyes = clip.landmarks[frame, [33, 159, 145, 263, 386, 374], :2].astype(int)
    assert not mask[eyes[:, 1], eyes[:, 0]].any()
    assert 0.02 <= mask.mean() <= 0.25
    script = write_script(CLIP_SECONDS, 0)
    again = speech_mask(model, named_units(script.units[frame]), script.poses[frame])
    assert (again == mask).all()


def test_blinks_move_no_pixel_of_the_mouth(model: SampleModel) -> None:
    pose = write_script(2.0, 0).poses[0]
    opened, closed = (model.render({"AU45": v}, pose).image for v in (0.0, 1.0))
    changed = np.abs(opened - closed).max(-1) > 1 / 255
    rows = np.nonzero(changed)[0]
    points, _ = model.landmarks({}, pose)
    assert changed.sum() >= 10
    assert rows.max() < points[1, 1]


def test_the_body_layer_is_what_shows_below_the_head(clip: Dataset) -> None:
    torso, labels, image = clip.torso(5), clip.labels(5), clip.image(5)
    alone = (labels >= 2) & (cv2.erode((labels >= 2).astype(np.uint8), np.ones((3, 3))) > 0)
    assert (torso[alone][:, 3] == 255).mean() >= 0.99
    assert np.abs(torso[alone][:, :3].astype(int) - image[alone]).mean() <= 2.0


def test_body_motion_carries_the_torso(clip: Dataset) -> None:
    # p' = s R (p - c) + c + d about the middle c of the lower edge takes the rest picture to every frame's.
    assert clip.body is not None
    size, model = 64, SampleModel(draw_identity(0), 64)
    pivot = np.array([size / 2, size])
    points = model.torso_points()
    rest = model.project(points)[0]
    errors, still = [], []
    for (dx, dy, turn, log_scale), pose in zip(
        clip.body.astype(float), write_script(CLIP_SECONDS, 0).poses, strict=True
    ):
        cosine, sine = np.exp(log_scale) * np.array([np.cos(turn), np.sin(turn)])
        carried = (rest - pivot) @ np.array([[cosine, sine], [-sine, cosine]]) + pivot + (dx, dy)
        moved = model.project(points @ pose.body[:3, :3].T + pose.body[:3, 3])[0]
        errors.append(np.abs(carried - moved).mean())
        still.append(np.abs(rest - moved).mean())
    assert np.mean(still) >= 0.2
    assert np.mean(errors) <= 0.1 * np.mean(still)


@pytest.mark.parametrize("seed", [0, 1])
def test_every_part_has_its_colour(seed: int) -> None:
    who = draw_identity(seed)
    model, pose = SampleModel(who, 96), write_script(2.0, 0).poses[0]
    image = model.render({"AU25": 0.8, "AU26": 0.8}, pose).image
    points = model.landmarks({"AU25": 0.8, "AU26": 0.8}, pose)[0][:, :2]

    def color(place: np.ndarray) -> np.ndarray:
        column, row = place.astype(int)
        return image[row, column]

    skin, lip = color(points[151]), color(0.5 * (points[14] + points[17]))
    mouth = color(0.4 * points[13] + 0.6 * points[14])
    pupil, white = color(points[468]), color(0.35 * points[468] + 0.65 * points[33])
    assert np.abs(skin - who.skin).max() <= 0.2
    assert lip[0] / lip[1] >= 1.15 * skin[0] / skin[1]
    assert mouth.mean() <= 0.6 * skin.mean()
    assert pupil.mean() + 0.1 <= white.mean()
    assert np.abs(image[2, 2] - model.background[2, 2]).max() <= 0.01


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_identities_differ(model: SampleModel, seed: int) -> None:
    pose = write_script(2.0, 0).poses[0]
    other = SampleModel(draw_identity(seed), 64)
    face = model.render({}, pose).labels == 1
    difference = np.abs(model.render({}, pose).image - other.render({}, pose).image)
    assert difference[face].mean() >= 0.05
    assert model.landmarks({}, pose)[0].tolist() != other.landmarks({}, pose)[0].tolist()
