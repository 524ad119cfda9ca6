"""Our own layout: what is written is read back, at any size; damaged folders are one sentence."""

import json

import numpy as np
import pytest

from nerfad.cameras import Camera
from nerfad.data.dataset import load_dataset
from nerfad.data.writer import DatasetWriter
from nerfad.errors import DatasetError

SIZE = 32
N_FRAMES = 20


def poses(n_frames: int) -> np.ndarray:
    c2w = np.tile(np.eye(4), (n_frames, 1, 1))
    c2w[:, 2, 3] = 3.0 + 0.01 * np.arange(n_frames)
    return c2w


def write_dataset(root) -> DatasetWriter:
    writer = DatasetWriter(root)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4, dtype=np.uint8), SIZE // 4)[:, None].repeat(SIZE, 1)
    image = np.full((SIZE, SIZE, 3), (200, 100, 50), np.uint8)
    torso = np.dstack([image, np.where(labels >= 2, 255, 0).astype(np.uint8)])
    frame_ids = np.array([k for k in range(N_FRAMES + 1) if k != 7])
    for index in frame_ids:
        writer.write_frame(int(index), image=image, gt_image=image, labels=labels, torso=torso)
    writer.write_background(image)
    writer.write_audio(0.1 * rng.normal(size=16000).astype(np.float32))
    writer.write_array("landmarks", rng.uniform(0, SIZE, (N_FRAMES, 478, 3)).astype(np.float32))
    writer.write_array("body", np.tile(np.array([4, 2, 0.1, 0.2], np.float32), (N_FRAMES, 1)))
    writer.write_aus(frame_ids, ["AU01", "AU25"], np.tile([0.2, 0.6], (N_FRAMES, 1)), fps=25)
    writer.finish(
        camera=Camera(75.0, 75.0, 16.0, 16.0, SIZE, SIZE),
        c2w=poses(N_FRAMES),
        frame_ids=frame_ids,
        segments=(frame_ids >= 10).astype(np.int64),
        aabb=np.array([-0.5, -0.6, -0.4, 0.5, 0.6, 0.4]),
        fps=25.0,
        reader="sample",
        au_source="exact",
    )
    return writer


def test_round_trip(tmp_path):
    write_dataset(tmp_path)
    dataset = load_dataset(tmp_path)
    assert (dataset.height, dataset.width, dataset.layout, dataset.reader) == (SIZE, SIZE, "nerfad", "sample")
    assert len(dataset) == N_FRAMES and 7 not in dataset.frame_ids
    np.testing.assert_allclose(dataset.c2w, poses(N_FRAMES), atol=1e-6)
    np.testing.assert_array_equal(dataset.segments, (dataset.frame_ids >= 10).astype(int))
    assert np.abs(dataset.image(3).astype(int) - (200, 100, 50)).max() <= 2
    np.testing.assert_array_equal(dataset.labels(3)[::8, 0], [0, 1, 2, 3])
    assert dataset.torso(3).shape == (SIZE, SIZE, 4) and dataset.torso(3)[0, 0, 3] == 0
    assert dataset.background().shape == (SIZE, SIZE, 3)
    assert dataset.au_names == ["AU01", "AU25"] and dataset.au_source == "exact"
    np.testing.assert_allclose(dataset.aus, np.tile([0.2, 0.6], (N_FRAMES, 1)), atol=1e-4)
    assert dataset.audio_kind == "mel" and dataset.audio_features.shape == (100, 80)


def test_at_half_size_the_same_world_point_has_half_the_pixel(tmp_path):
    write_dataset(tmp_path)
    full, half = load_dataset(tmp_path), load_dataset(tmp_path, size=SIZE // 2)
    assert half.image(0).shape == (SIZE // 2, SIZE // 2, 3)
    assert half.labels(0).shape == (SIZE // 2, SIZE // 2)
    torso = half.torso(0)
    assert np.abs(torso[-1, 0].astype(int) - (200, 100, 50, 255)).max() <= 2
    point = np.array([[0.1, 0.2, 0.0]])
    corner = full.camera.project(full.c2w[0], point) + 0.5
    np.testing.assert_allclose(half.camera.project(half.c2w[0], point) + 0.5, corner / 2, rtol=1e-5)
    np.testing.assert_allclose(half.landmarks, full.landmarks / 2)
    np.testing.assert_allclose(half.body[0], [2, 1, 0.1, 0.2])


def test_split_keeps_time_order_and_shares_no_sound(tmp_path):
    write_dataset(tmp_path)
    dataset = load_dataset(tmp_path)
    train, test = dataset.split(0.12, 0.08)
    assert list(test) == [16, 17, 18, 19]
    last_heard = dataset.frame_times[train].max() + 0.08
    assert last_heard <= dataset.frame_times[test].min() - 0.12 + 1e-9
    # One more frame would have shared sound: nothing is thrown away needlessly.
    assert dataset.frame_times[train.max() + 1] + 0.08 > dataset.frame_times[test].min() - 0.12


def test_fingerprint_changes_with_the_poses(tmp_path):
    write_dataset(tmp_path)
    before = load_dataset(tmp_path).fingerprint()
    content = json.loads((tmp_path / "transforms_train.json").read_text())
    content["frames"][0]["transform_matrix"][0][3] += 1e-3
    (tmp_path / "transforms_train.json").write_text(json.dumps(content))
    assert load_dataset(tmp_path).fingerprint() != before


def test_missing_and_damaged_files_are_one_sentence(tmp_path):
    write_dataset(tmp_path)
    dataset = load_dataset(tmp_path)
    (tmp_path / "ori_imgs/3.jpg").unlink()
    with pytest.raises(DatasetError, match=r"ori_imgs/3\.jpg is missing"):
        dataset.image(3)
    (tmp_path / "ori_imgs/4.jpg").write_bytes(b"half")
    with pytest.raises(DatasetError, match=r"ori_imgs/4\.jpg is not a complete picture"):
        dataset.image(4)
    (tmp_path / "body.npy").write_bytes(b"half")
    with pytest.raises(DatasetError, match=r"body\.npy: this file is damaged"):
        load_dataset(tmp_path)


def test_short_action_units_name_both_counts(tmp_path):
    write_dataset(tmp_path)
    (tmp_path / "au.csv").write_text("frame, face_id, AU25_r\n" + "1, 0, 2.5\n" * 5)
    with pytest.raises(DatasetError, match=r"au\.csv: has 5 rows.*need 21"):
        load_dataset(tmp_path)


def test_unfinished_and_absent_folders(tmp_path):
    writer = DatasetWriter(tmp_path / "a")
    writer.write_frame(0, image=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DatasetError, match="not a finished data set"):
        load_dataset(tmp_path / "a")
    with pytest.raises(DatasetError, match="no such folder"):
        load_dataset(tmp_path / "b")
