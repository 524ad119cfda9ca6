"""Folders of AD-NeRF, DFRF, RAD-NeRF and ER-NeRF load unchanged, with the conventions of each."""

import json

import numpy as np
import pytest

from nerfad.data.dataset import load_dataset
from nerfad.errors import DatasetError
from tests.data import folders
from tests.data.folders import FOCAL, HEIGHT, N_FRAMES, WIDTH, tracker_pose

ALL = {"adnerf": folders.adnerf, "dfrf": folders.dfrf, "radnerf": folders.radnerf, "ernerf": folders.ernerf}


@pytest.mark.parametrize("name", ALL)
def test_every_layout_is_recognised_and_read(tmp_path, name):
    dataset = load_dataset(ALL[name](tmp_path))
    assert dataset.layout == name
    assert (len(dataset), dataset.height, dataset.width, dataset.fps) == (N_FRAMES, HEIGHT, WIDTH, 25.0)
    assert dataset.image(11).shape == (HEIGHT, WIDTH, 3)
    labels = dataset.labels(0)
    assert [labels[2, 2], labels[10, 20], labels[22, 20], labels[35, 20]] == [0, 1, 2, 3]
    torso = dataset.torso(0)
    assert torso.shape == (HEIGHT, WIDTH, 4)
    assert [torso[2, 2, 3], torso[10, 20, 3], torso[22, 20, 3], torso[35, 20, 3]] == [0, 0, 255, 255]
    assert dataset.background().shape == (HEIGHT, WIDTH, 3)
    train, test = dataset.split(0.0, 0.0)
    assert list(np.concatenate([train, test])) == list(range(N_FRAMES))


def test_pictures_are_rgb_whatever_the_folder(tmp_path):
    picture = folders.write_pictures(tmp_path, {"gt_imgs": "jpg", "torso_imgs": "png"})
    folders.write_transforms(tmp_path)
    np.save(tmp_path / "aud_ds.npy", np.ones((N_FRAMES, 16, 29), np.float32))
    dataset = load_dataset(tmp_path)
    assert np.abs(dataset.image(0).astype(int) - picture).mean() < 6
    assert np.abs(dataset.torso(0)[35, 20, :3].astype(int) - picture[35, 20]).max() == 0


def test_ad_nerf_rays_are_its_formula(tmp_path):
    dataset = load_dataset(folders.adnerf(tmp_path))
    pixels = np.array([[0, 0], [13, 7], [47, 39]])
    pose = tracker_pose(3)
    i, j = pixels.T
    direction = np.stack([(i - WIDTH / 2) / FOCAL, -(j - HEIGHT / 2) / FOCAL, -np.ones(3)], -1)
    expected = direction @ pose[:3, :3].T
    rays_o, rays_d = dataset.camera.rays(dataset.c2w[3].astype(np.float64), pixels)
    np.testing.assert_allclose(rays_d, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(rays_o, np.tile(4 * pose[:3, 3], (3, 1)), atol=1e-6)
    depth = np.mean([tracker_pose(k)[2, 3] for k in range(N_FRAMES)])
    assert dataset.near == pytest.approx(4 * (depth - 0.2), rel=1e-5)
    assert dataset.far == pytest.approx(4 * (depth + 0.4), rel=1e-5)


def rad_nerf_rays(pose: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RAD-NeRF's own convention, written out: its pose conversion and its pixel rays."""
    converted = np.array(
        [
            [pose[1, 0], -pose[1, 1], -pose[1, 2], pose[1, 3] * 4],
            [pose[2, 0], -pose[2, 1], -pose[2, 2], pose[2, 3] * 4],
            [pose[0, 0], -pose[0, 1], -pose[0, 2], pose[0, 3] * 4],
        ]
    )
    i, j = pixels.T
    direction = np.stack([(i + 0.5 - WIDTH / 2) / FOCAL, (j + 0.5 - HEIGHT / 2) / FOCAL, np.ones(len(i))], -1)
    direction = direction @ converted[:, :3].T
    return converted[:, 3], direction / np.linalg.norm(direction, axis=1, keepdims=True)


def test_rad_nerf_rays_are_its_own_up_to_the_names_of_the_axes(tmp_path):
    dataset = load_dataset(folders.radnerf(tmp_path))
    pixels = np.array([[0, 0], [13, 7], [47, 39]])
    for k in (0, 7):
        expected_o, expected_d = rad_nerf_rays(tracker_pose(k), pixels)
        rays_o, rays_d = dataset.camera.rays(dataset.c2w[k].astype(np.float64), pixels)
        np.testing.assert_allclose(rays_o[:, [1, 2, 0]], np.tile(expected_o, (3, 1)), atol=1e-6)
        np.testing.assert_allclose(rays_d[:, [1, 2, 0]], expected_d, atol=1e-6)
    # Its box: x and z within 1, y within 0.5.
    np.testing.assert_allclose(dataset.aabb.reshape(2, 3)[:, [1, 2, 0]], [[-1, -0.5, -1], [1, 0.5, 1]])


def test_focal_length_follows_the_image_size(tmp_path):
    dataset = load_dataset(folders.radnerf(tmp_path), size=HEIGHT // 2)
    assert dataset.camera.fl_x == pytest.approx(FOCAL / 2)
    assert dataset.camera.cx == pytest.approx(WIDTH / 4)
    assert dataset.image(0).shape == (HEIGHT // 2, WIDTH // 2, 3)


def test_rectangles_are_column_row_width_height(tmp_path):
    dataset = load_dataset(folders.adnerf(tmp_path / "a"))
    np.testing.assert_array_equal(dataset.rects["face_rect"][2], [12, 4, 20, 24])
    np.testing.assert_array_equal(dataset.rects["lip_rect"][2], [18, 20, 8, 5])
    from_landmarks = load_dataset(folders.radnerf(tmp_path / "b"))
    np.testing.assert_array_equal(from_landmarks.rects["face_rect"][0], [12, 6, 22, 22])


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((16, 29), "deepspeech"), ((16, 44), "wav2vec"), ((2, 1024), "hubert"), ((80,), "mel")],
)
def test_audio_kind_is_told_from_the_shape_not_the_name(tmp_path, shape, kind):
    # Every kind under the name that suggests another.
    dataset = load_dataset(folders.radnerf(tmp_path, ("aud_eo.npy", shape)))
    assert dataset.audio_kind == kind


def test_unknown_audio_features_are_one_sentence(tmp_path):
    with pytest.raises(DatasetError, match=r"aud_x\.npy: shape \(20, 7\) belongs to no known kind"):
        load_dataset(folders.radnerf(tmp_path, ("aud_x.npy", (7,))))


def test_pickled_features_are_refused(tmp_path):
    folders.radnerf(tmp_path)
    np.save(tmp_path / "aud_eo.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset(tmp_path)


def test_track_params_are_never_unpickled(tmp_path):
    dataset = load_dataset(folders.adnerf(tmp_path))
    dataset.image(0), dataset.fingerprint()
    assert not (tmp_path / "exploded").exists()


def test_open_face_columns_are_found_by_stripped_name(tmp_path):
    dataset = load_dataset(folders.ernerf(tmp_path))
    assert dataset.au_source == "openface" and dataset.au_names == ["AU01", "AU45"]
    np.testing.assert_allclose(dataset.aus[:, 1], 0.1 * np.arange(N_FRAMES) / 5, atol=1e-6)


def test_face_landmark_img_tables_load_too(tmp_path):
    folders.radnerf(tmp_path)
    rows = [f"0, 0.98, {0.25 * k}, 0" for k in range(N_FRAMES)]
    (tmp_path / "au.csv").write_text("\n".join(["face, confidence, AU25_r, AU25_c", *rows]))
    dataset = load_dataset(tmp_path)
    assert dataset.au_names == ["AU25"]
    np.testing.assert_allclose(dataset.aus[:, 0], 0.05 * np.arange(N_FRAMES), atol=1e-6)


def test_short_action_units_name_both_counts(tmp_path):
    with pytest.raises(DatasetError, match=r"au\.csv: has 7 rows.*need 20"):
        load_dataset(folders.ernerf(tmp_path, n_rows=7))


def test_action_units_of_another_frame_rate_are_refused(tmp_path):
    """Row k belongs to frame k: a table of a 60 fps video would be read silently at the wrong frames."""
    with pytest.raises(DatasetError, match=r"au\.csv: has 60 rows for 20 frames.*25 per second"):
        load_dataset(folders.ernerf(tmp_path / "long", n_rows=60))
    # A few frames without a face at the end of a clip are no such thing.
    assert load_dataset(folders.ernerf(tmp_path / "tail", n_rows=30)).aus.shape[0] == 20


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({"fl_x": 90.0, "fl_y": 91.0, "cx": 24.0, "cy": 20.0}, (90.0, 91.0, 40, 48)),
        ({"camera_angle_x": 2 * np.arctan(0.5), "w": 48, "h": 40}, (48.0, 48.0, 40, 48)),
        ({"focal_len": 90.0, "cx": 24.4, "cy": 20.3}, (90.0, 90.0, 40, 48)),
    ],
)
def test_other_names_of_intrinsics(tmp_path, head, expected):
    folders.radnerf(tmp_path)
    for name in ("train", "val"):
        path = tmp_path / f"transforms_{name}.json"
        frames = json.loads(path.read_text())["frames"]
        path.write_text(json.dumps(head | {"frames": frames}))
    camera = load_dataset(tmp_path).camera
    assert (camera.fl_x, camera.fl_y, camera.height, camera.width) == pytest.approx(expected)


def test_damaged_transforms_are_one_sentence(tmp_path):
    folders.radnerf(tmp_path)
    (tmp_path / "transforms_train.json").write_text('{"frames": [')
    with pytest.raises(DatasetError, match=r"transforms_train\.json: is not valid JSON"):
        load_dataset(tmp_path)
    (tmp_path / "transforms_train.json").write_text(
        '{"cx": 4, "cy": 4, "focal_len": 9, "frames": [{"x": 1}]}'
    )
    with pytest.raises(DatasetError, match="frame 0 has no 'img_id'"):
        load_dataset(tmp_path)


def test_sound_alone_becomes_mel(tmp_path):
    folders.radnerf(tmp_path)
    (tmp_path / "aud_eo.npy").unlink()
    with pytest.raises(DatasetError, match="neither audio features"):
        load_dataset(tmp_path)
    from nerfad.io.audio import write_wav

    write_wav(tmp_path / "aud.wav", np.zeros(16000, np.float32), 16000)
    dataset = load_dataset(tmp_path)
    assert dataset.audio_kind == "mel" and dataset.audio_features.shape == (100, 80)
