"""Landmark distance, lip-gap scores, action-unit agreement, SyncNet and depth error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nerfad.metrics.action_units import (
    RANGE_FLOOR,
    au_agreement,
    cohens_kappa,
    dead_units,
    presence_thresholds,
    units_apart_from_sound,
)
from nerfad.metrics.depth import depth_error
from nerfad.metrics.landmarks import CLASSIC_MOUTH, LIP_RINGS, LMD_40, LMD_79, landmark_distance, lip_gap
from nerfad.metrics.lip_sync import amplitude, correlation, other_moments, scan_offsets
from nerfad.metrics.syncnet import (
    WEIGHTS,
    SyncNet,
    SyncNetScorer,
    cepstra,
    face_crop,
    score_distances,
)
from nerfad.metrics.unavailable import Unavailable


def test_the_landmark_lists_are_what_they_say() -> None:
    everything = {i for ring in LIP_RINGS for i in ring}
    assert [len(ring) for ring in LIP_RINGS] == [20, 20, 20, 20] and len(everything) == 80
    assert len(LMD_40) == len(set(LMD_40)) == 40
    assert len(LMD_79) == len(set(LMD_79)) == 79 and set(LMD_79) < everything
    assert {13, 14, 61, 291, 78, 308} <= set(LMD_40)
    assert len(CLASSIC_MOUTH) == len(set(CLASSIC_MOUTH)) == 20
    assert set(CLASSIC_MOUTH[:12]) < set(LIP_RINGS[0]) and set(CLASSIC_MOUTH[12:]) < set(LIP_RINGS[3])
    # Points 48 and 54, 60 and 64 are the corners; 62 and 66 the middles of the inner lips.
    assert [CLASSIC_MOUTH[k - 48] for k in (48, 54, 60, 64, 62, 66)] == [61, 291, 78, 308, 13, 14]


def test_landmark_distance_ignores_where_the_mouth_is_but_not_its_shape() -> None:
    rng = np.random.default_rng(0)
    real = rng.uniform(0, 256, (478, 3))
    assert landmark_distance(real + np.array([5, -3, 9]), real) == pytest.approx(0.0, abs=1e-9)
    moved = real.copy()
    moved[LMD_40[0], 0] += 4.0
    # The moved point is off by 4 (1 − 1/40), every other by 4/40 through the mean.
    assert landmark_distance(moved, real) == pytest.approx((4 * 39 / 40 + 39 * 4 / 40) / 40)
    assert landmark_distance(moved, real, LMD_79) == pytest.approx(2 * (4 * 78 / 79) / 79)


def test_lip_gap_does_not_depend_on_scale() -> None:
    landmarks = np.zeros((478, 3))
    landmarks[33], landmarks[263] = (10, 20, 5), (70, 20, -5)
    landmarks[13], landmarks[14] = (40, 60, 0), (40, 72, 0)
    assert lip_gap(landmarks) == pytest.approx(0.2)
    assert lip_gap(2 * landmarks + 3) == pytest.approx(0.2)


@pytest.fixture
def gaps() -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal(400)
    return np.convolve(noise, np.ones(5) / 5, "same")


def test_correlation_and_amplitude_skip_unread_frames(gaps: np.ndarray) -> None:
    rendered = 0.7 * gaps + 2.0
    rendered[::7] = np.nan
    assert correlation(rendered, gaps) == pytest.approx(1.0)
    assert amplitude(rendered, gaps) == pytest.approx(0.7)
    assert np.isnan(correlation(np.full(400, 0.3), gaps))
    assert np.isnan(correlation(gaps[:4], gaps[:4]))
    assert amplitude(np.full(400, 0.3), gaps) == pytest.approx(0.0)


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_the_offset_is_positive_when_the_rendered_lips_come_late(gaps: np.ndarray, late: int) -> None:
    scan = scan_offsets(np.roll(gaps, late)[20:380], gaps[20:380], np.arange(360), np.zeros(360, int))
    assert scan.best == late
    assert scan.correlations[scan.offsets.index(late)] == pytest.approx(1.0)


def test_offsets_never_pair_frames_across_a_cut_or_a_hole() -> None:
    # Two takes of three frames; frame 4 of the second is missing.
    times, segments = np.array([0, 1, 2, 3, 5, 6]), np.array([0, 0, 0, 1, 1, 1])
    seen: list[set[tuple[float, float]]] = []
    real = np.arange(6.0)

    def record(a: np.ndarray, b: np.ndarray) -> float:
        seen.append(set(zip(a.tolist(), b.tolist(), strict=True)))
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nerfad.metrics.lip_sync.correlation", record)
        scan_offsets(real, real, times, segments, limit=1)
    before, same, after = seen
    assert same == {(i, i) for i in range(6)}
    assert after == {(1, 0), (2, 1), (5, 4)}
    assert before == {(b, a) for a, b in after}


def test_no_offset_where_nothing_moves() -> None:
    scan = scan_offsets(np.zeros(50), np.arange(50.0), np.arange(50), np.zeros(50, int))
    assert scan.best is None


def test_other_moments_are_far_from_the_true_one_both_ways() -> None:
    shifts = other_moments(500, 25.0, 20)
    assert len(set(shifts.tolist())) == 20
    assert min(shifts.min(), 500 - shifts.max()) > 50
    assert len(other_moments(110, 25.0, 20)) == 0  # too short a clip for twenty


def test_kappa_by_hand() -> None:
    a = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    b = np.array([1, 1, 0, 1, 0, 0, 0, 0], bool)
    agree, chance = 6 / 8, (3 * 3 + 5 * 5) / 64
    assert cohens_kappa(a, b) == pytest.approx((agree - chance) / (1 - chance))
    assert np.isnan(cohens_kappa(np.ones(4, bool), np.ones(4, bool)))


def test_agreement_is_per_unit_and_leaves_dead_units_out() -> None:
    real = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], float)
    generated = np.array([[1, 0, 1, 1], [1, 0, 1, 1], [0, np.nan, 1, 1], [1, 1, 1, 1]], float)
    result = au_agreement(generated, real, ("AU25", "AU26", "AU20", "AU10"), {"AU10": "no signal"})
    assert set(result.units) == {"AU25", "AU26"}
    assert result.units["AU25"].agreement == pytest.approx(3 / 4)
    assert result.units["AU26"].agreement == pytest.approx(2 / 3) and result.units["AU26"].frames == 3
    assert result.agreement == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert result.dead == {"AU10": "no signal", "AU20": "never present in the real frames"}
    everything_dead = au_agreement(generated[:, 2:3], real[:, 2:3], ("AU20",))
    assert everything_dead.agreement is None and everything_dead.kappa is None


def test_thresholds_are_the_persons_own() -> None:
    values = np.linspace(0, 1, 101)[:, None] * [1.0, 0.5]
    threshold, span = presence_thresholds(values)
    assert threshold == pytest.approx([0.1 + 0.4 * 0.85, 0.5 * (0.1 + 0.4 * 0.85)])
    assert span == pytest.approx([0.85, 0.425])


def test_units_without_range_or_without_a_link_to_sound_are_dead(gaps: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    sound = np.stack([gaps, rng.standard_normal(400)], 1)
    spoken = 0.5 + 0.2 * gaps + 0.02 * rng.standard_normal(400)
    unrelated = np.convolve(rng.standard_normal(400), np.ones(5) / 5, "same")
    training = np.stack([spoken, unrelated, np.full(400, 0.3) + 0.1 * RANGE_FLOOR * gaps], 1)
    dead = dead_units(training, ("AU25", "AU14", "AU20"))
    assert set(dead) == {"AU20"} and "range" in dead["AU20"]
    assert set(dead_units(training, ("AU25", "AU14", "AU20"), floor=1e-6)) == set()
    assert set(dead_units(np.full((9, 1), np.nan), ("AU25",))) == {"AU25"}
    apart = units_apart_from_sound(training, ("AU25", "AU14", "AU20"), sound)
    assert set(apart) == {"AU14"} and "sound" in apart["AU14"]


def test_cepstra_of_a_known_signal() -> None:
    t = np.arange(16000) / 16000
    quiet, loud = 0.1 * np.sin(2 * np.pi * 440 * t), 0.2 * np.sin(2 * np.pi * 440 * t)
    a, b = cepstra(quiet), cepstra(loud)
    assert a.shape == (99, 13)
    # Twice the amplitude: four times the energy, an added constant in the log bands, which only the
    # (replaced) zeroth coefficient would see.
    np.testing.assert_allclose(b[:, 0] - a[:, 0], np.log(4), atol=1e-3)
    np.testing.assert_allclose(b[:, 1:], a[:, 1:], atol=1e-2)


def test_sync_distances_find_the_offset() -> None:
    gen = torch.Generator().manual_seed(0)
    sound = torch.randn(120, 16, generator=gen)
    score = score_distances(torch.roll(sound, 3, 0)[20:100], sound[20:100])
    assert score.offset == 3 and score.confidence > 1.0
    unrelated = score_distances(torch.randn(80, 16, generator=gen), sound[20:100])
    assert unrelated.confidence < 0.2 * score.confidence


def test_syncnet_loads_the_released_names_and_is_unavailable_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NERFAD_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match=f"unavailable: weights not found at .*{WEIGHTS}"):
        SyncNetScorer(tmp_path)
    torch.save({"netfcaud.0.weight": torch.zeros(512, 512)}, tmp_path / WEIGHTS)
    with pytest.raises(Unavailable, match="does not fit"):
        SyncNetScorer(tmp_path)
    torch.manual_seed(0)
    torch.save(SyncNet().state_dict(), tmp_path / WEIGHTS)
    scorer = SyncNetScorer(tmp_path)
    crop = np.zeros((224, 224, 3), np.uint8)
    with pytest.raises(Unavailable, match="needs 35 frames"):
        scorer([crop] * 10, np.zeros(16000, np.float32))
    names = {name.rsplit(".", 1)[0] for name in SyncNet().state_dict()}
    assert {"netcnnaud.0", "netcnnaud.15", "netcnnlip.0", "netcnnlip.18", "netfclip.3"} <= names


def test_face_crop_has_the_face_in_its_upper_middle() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[80:180, 90:170] = (255, 0, 0)
    landmarks = np.zeros((478, 3))
    landmarks[:, 0], landmarks[:, 1] = 130, 130
    landmarks[10], landmarks[152] = (130, 80, 0), (130, 180, 0)
    crop = face_crop(image, landmarks)
    assert crop.shape == (224, 224, 3)
    y, x = np.nonzero(crop[..., 2] > 128)  # red comes last in BGR
    assert y.min() <= 2 and y.max() == pytest.approx(100 * 224 / 140, abs=2)
    assert x.mean() == pytest.approx(112, abs=2)


def test_depth_error_is_in_percent_of_the_heads_range() -> None:
    exact = np.tile(np.linspace(4.0, 5.0, 100), (100, 1))
    head = np.ones((100, 100), bool)
    face = np.zeros((100, 100), bool)
    face[:, 40:60] = True
    result = depth_error(exact + 0.01, exact, head, face)
    assert result is not None
    assert result.percent == pytest.approx(1.0, rel=0.03)
    assert result.flat_card_percent == pytest.approx(5.0, rel=0.06)  # mean |x − median| over a fifth
    perfect = depth_error(exact, exact, head, face)
    assert perfect is not None and perfect.percent == pytest.approx(0.0)
    hole = exact.copy()
    hole[:, 40:50] = np.nan
    missing = depth_error(hole, exact, head, face)
    assert missing is not None and missing.percent == pytest.approx(50.0)
    assert depth_error(exact, np.full_like(exact, np.nan), head, face) is None
