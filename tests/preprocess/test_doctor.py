"""The doctor names every ailment of a folder, in one run, and passes healthy ones of every layout."""

import json

import cv2
import numpy as np
import pytest

from nerfad.preprocess.doctor import doctor
from tests.data import folders
from tests.data.folders import N_FRAMES

ALL = {"adnerf": folders.adnerf, "dfrf": folders.dfrf, "radnerf": folders.radnerf, "ernerf": folders.ernerf}


def texts(report, level: str) -> list[str]:
    return [finding.text for finding in report if finding.level == level]


@pytest.mark.parametrize("name", ALL)
def test_healthy_folders_pass(tmp_path, name):
    report = doctor(ALL[name](tmp_path))
    assert report.ok and texts(report, "error") == [], str(report)
    assert report.layout == name
    assert f"({name})" in str(report)


AILMENTS = {
    "missing picture": (
        lambda root: (root / "gt_imgs/3.jpg").unlink(),
        "1 pictures are missing: gt_imgs/3.jpg",
    ),
    "truncated picture": (
        lambda root: (root / "gt_imgs/4.jpg").write_bytes((root / "gt_imgs/4.jpg").read_bytes()[:-40]),
        "1 pictures are damaged: gt_imgs/4.jpg",
    ),
    "missing regions": (lambda root: (root / "parsing/0.png").unlink(), "1 region pictures are missing"),
    "wrong size": (
        lambda root: cv2.imwrite(str(root / "gt_imgs/0.jpg"), np.zeros((20, 20, 3), np.uint8)),
        "gt_imgs/0.jpg is 20x20, the camera is 48x40",
    ),
    "short action units": (
        lambda root: (root / "au.csv").write_text("frame, AU25_r\n1, 2\n"),
        r"au.csv: has 1 rows",
    ),
    "no background": (lambda root: (root / "bc.jpg").unlink(), "bc.jpg is missing"),
    "odd features": (lambda root: np.save(root / "aud_x.npy", np.ones((9, 3))), "no known kind"),
}


@pytest.mark.parametrize("ailment", AILMENTS)
def test_every_ailment_is_named(tmp_path, ailment):
    damage, expected = AILMENTS[ailment]
    damage(folders.ernerf(tmp_path))
    report = doctor(tmp_path)
    assert not report.ok
    assert any(expected in text for text in texts(report, "error")), str(report)


def test_all_ailments_show_in_one_run(tmp_path):
    folders.ernerf(tmp_path)
    for damage, _ in AILMENTS.values():
        damage(tmp_path)
    assert len(texts(doctor(tmp_path), "error")) >= len(AILMENTS)


def change_pose(root, change) -> None:
    path = root / "transforms_train.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        frame["transform_matrix"] = change(np.array(frame["transform_matrix"])).tolist()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pose: pose * np.nan, "NaN"),
        (lambda pose: pose @ np.diag([1, -1, -1, 1]), "behind the camera"),
        (lambda pose: pose @ np.diag([2, 2, 2, 1]), "no rotations"),
    ],
)
def test_wrong_poses(tmp_path, change, expected):
    change_pose(folders.radnerf(tmp_path), change)
    assert any(expected in text for text in texts(doctor(tmp_path), "error"))


def test_short_features_warn_with_both_counts(tmp_path):
    folders.radnerf(tmp_path)
    path = tmp_path / "transforms_val.json"
    content = json.loads(path.read_text())
    content["frames"][-1]["aud_id"] = 99
    path.write_text(json.dumps(content))
    warnings = texts(doctor(tmp_path), "warning")
    assert any(f"covers {N_FRAMES} frames, but aud_id goes up to 99" in text for text in warnings)


def test_no_folder_and_no_data_set(tmp_path):
    assert "no such folder" in str(doctor(tmp_path / "x"))
    assert "not a finished data set" in str(doctor(tmp_path))
