"""Shape and poses come back from projections of a known face."""

import numpy as np
from scipy.spatial.transform import Rotation

from nerfad.preprocess.bundle_adjustment import adjust, initial_poses
from nerfad.preprocess.poses import camera_of, camera_to_world

FOCAL, CENTRE = 1200.0, np.array([256.0, 256.0])


def scene(n_frames: int = 40, n_points: int = 60):
    """A canonical face, this person's own shape, and poses of a talking head."""
    rng = np.random.default_rng(0)
    canonical = rng.uniform([-7, -2, 2], [7, 8, 7], (n_points, 3))
    person = canonical + rng.normal(0, 0.25, canonical.shape)
    facing = Rotation.from_euler("x", 180, degrees=True)
    sway = Rotation.from_euler("yxz", rng.normal(0, 8, (n_frames, 3)), degrees=True)
    rotations = (facing * sway).as_rotvec()
    translations = rng.normal([0, 0, 75], [2, 2, 2], (n_frames, 3))
    camera = person @ Rotation.from_rotvec(rotations).as_matrix().transpose(0, 2, 1) + translations[:, None]
    points = FOCAL * camera[..., :2] / camera[..., 2:] + CENTRE
    return canonical, person, rotations, translations, points


def test_clean_points_are_explained_exactly():
    canonical, _, _, _, points = scene()
    start = initial_poses(canonical, points, FOCAL, CENTRE)
    before = adjust(canonical, points, FOCAL, CENTRE, *start, fix_shape=True)
    track = adjust(canonical, points, FOCAL, CENTRE, *start)
    assert before.errors.mean() > 1.0
    assert track.errors.mean() < 0.1


def test_noise_and_outliers_are_averaged_out():
    canonical, person, rotations, _, points = scene()
    rng = np.random.default_rng(1)
    noisy = points + rng.normal(0, 0.5, points.shape)
    noisy[:, :3] += 15.0 * (rng.random((len(points), 3, 1)) < 0.3)
    track = adjust(canonical, noisy, FOCAL, CENTRE, *initial_poses(canonical, noisy, FOCAL, CENTRE))
    true_turn = Rotation.from_rotvec(rotations)
    found_turn = Rotation.from_rotvec(track.rotations)
    # Turns between frames do not depend on how the shape is oriented in its own frame.
    error = (true_turn[:-1].inv() * true_turn[1:]) * (found_turn[:-1].inv() * found_turn[1:]).inv()
    assert np.degrees(error.magnitude()).mean() < 0.8
    assert np.median(track.errors) < 0.8
    moved = np.linalg.norm(person - person.mean(0) - (track.shape - track.shape.mean(0)), axis=1)
    assert np.median(moved[3:]) < np.median(np.linalg.norm(person - canonical, axis=1))


def test_poses_become_open_gl_cameras_that_project_like_the_tracker():
    canonical, person, rotations, translations, points = scene()
    del canonical
    c2w = camera_to_world(rotations, translations)
    camera = camera_of(512)
    for k in (0, 7):
        np.testing.assert_allclose(camera.project(c2w[k], person / 25.0) + 0.5, points[k], atol=1e-6)
        assert np.linalg.det(c2w[k, :3, :3]) > 0.999
    assert 2.5 < c2w[:, 2, 3].mean() < 3.5
