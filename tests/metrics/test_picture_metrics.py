"""PSNR, SSIM, MS-SSIM, FLIP, LPIPS and the regions they run over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from nerfad.metrics.flip import flip
from nerfad.metrics.lpips import BACKBONE, LINEAR, Lpips
from nerfad.metrics.psnr import CEILING_DB, psnr
from nerfad.metrics.regions import FACE_OVAL, OUTER_LIPS, face_mask, mouth_mask
from nerfad.metrics.ssim import MS_SSIM_SMALLEST_SIDE, ms_ssim, ssim
from nerfad.metrics.unavailable import Unavailable


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :200]
    truth = np.stack([127 + 100 * np.sin(x / 9), 127 + 100 * np.cos(y / 7), (x + y) % 256], -1)
    image = truth + rng.normal(0, 12, truth.shape)
    return np.clip(image, 0, 255).astype(np.uint8), truth.clip(0, 255).astype(np.uint8)


def test_psnr_has_its_closed_form_and_a_ceiling() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    assert psnr(black + 255, black) == pytest.approx(0.0)
    assert psnr(black + 1, black) == pytest.approx(20 * np.log10(255))
    assert psnr(black, black) == CEILING_DB
    with pytest.raises(ValueError, match="differ in shape"):
        psnr(black, black[:4])


def test_psnr_counts_the_region_only() -> None:
    truth = np.zeros((8, 8, 3), np.uint8)
    image = truth.copy()
    image[:4] = 51
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    assert psnr(image, truth, mask) == pytest.approx(-20 * np.log10(0.2))
    assert psnr(image, truth, ~mask) == CEILING_DB
    assert np.isnan(psnr(image, truth, np.zeros((8, 8), bool)))


def ssim_by_definition(image: np.ndarray, truth: np.ndarray) -> float:
    """Wang et al.'s equation with an explicit two-dimensional window, valid places only."""
    luma = np.array([0.299, 0.587, 0.114])
    a, b = image @ luma, truth @ luma
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(g, g) / g.sum() ** 2

    def mean(plane: np.ndarray) -> np.ndarray:
        return convolve2d(plane, window, mode="valid")

    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))))


def test_ssim_is_wangs(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, truth = pair
    assert ssim(image, truth) == pytest.approx(ssim_by_definition(image, truth), abs=1e-6)
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_ms_ssim_is_one_for_identical_pictures_and_falls_with_noise(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    image, truth = pair
    assert ms_ssim(truth, truth) == pytest.approx(1.0)
    # Noise lives in the fine scales, so the multi-scale score punishes it less than SSIM does.
    assert ssim(image, truth) < ms_ssim(image, truth) < 1.0
    small = np.zeros((MS_SSIM_SMALLEST_SIDE - 1, 300, 3), np.uint8)
    with pytest.raises(ValueError, match="176 pixels a side"):
        ms_ssim(small, small)


def test_flip_orders_pictures_as_a_viewer_would(pair: tuple[np.ndarray, np.ndarray]) -> None:
    pytest.importorskip("flip_evaluator")
    image, truth = pair
    inverted = 255 - truth
    assert flip(truth, truth) == pytest.approx(0.0, abs=1e-6)
    assert 0.0 < flip(image, truth) < flip(inverted, truth) <= 1.0


def ring(indices: tuple[int, ...], centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    landmarks = np.zeros((478, 3), np.float32)
    angles = 2 * np.pi * np.arange(len(indices)) / len(indices)
    landmarks[list(indices), 0] = centre[0] + radii[0] * np.cos(angles)
    landmarks[list(indices), 1] = centre[1] + radii[1] * np.sin(angles)
    return landmarks


def test_face_region_is_the_oval_scaled_by_1_15() -> None:
    mask = face_mask(ring(FACE_OVAL, (64.0, 60.0), (30.0, 40.0)), 128, 128)
    polygon_share = 36 / 2 * np.sin(2 * np.pi / 36)  # of a 36-gon's area, in units of r²
    assert mask.sum() == pytest.approx(polygon_share * 30 * 40 * 1.15**2, rel=0.02)
    y, x = np.nonzero(mask)
    assert (x.mean() + 0.5, y.mean() + 0.5) == pytest.approx((64.0, 60.0), abs=0.3)


def test_mouth_region_is_the_lips_hull_scaled_by_1_4() -> None:
    landmarks = ring(OUTER_LIPS, (50.0, 70.0), (20.0, 9.0))
    mask = mouth_mask(landmarks, 128, 128)
    polygon_share = 20 / 2 * np.sin(2 * np.pi / 20)
    assert mask.sum() == pytest.approx(polygon_share * 20 * 9 * 1.4**2, rel=0.03)
    assert mouth_mask(landmarks[::1] + 1000, 128, 128).sum() == 0  # outside the picture


def lpips_weights(folder: Path, seed: int = 0) -> None:
    """Random weights of the right shapes: enough to check the arithmetic."""
    gen = torch.Generator().manual_seed(seed)
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    backbone, linear = {}, {}
    for k, (i, (c_out, c_in, size)) in enumerate(shapes.items()):
        scale = (c_in * size * size) ** -0.5
        backbone[f"features.{i}.weight"] = scale * torch.randn(c_out, c_in, size, size, generator=gen)
        backbone[f"features.{i}.bias"] = torch.zeros(c_out)
        linear[f"lin{k}.model.1.weight"] = torch.rand(1, c_out, 1, 1, generator=gen)
    torch.save(backbone, folder / BACKBONE)
    torch.save(linear, folder / LINEAR)


def test_lpips_is_zero_for_identical_pictures_symmetric_and_grows(
    tmp_path: Path, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    lpips_weights(tmp_path)
    distance = Lpips(tmp_path)
    image, truth = pair
    assert distance(truth, truth) == 0.0
    assert distance(image, truth) == pytest.approx(distance(truth, image))
    assert 0.0 < distance(image, truth) < distance(255 - truth, truth)


def test_lpips_without_weights_names_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NERFAD_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(Unavailable, match=f"weights not found at .*{BACKBONE}"):
        Lpips(tmp_path)
    (tmp_path / BACKBONE).write_text("no weights")
    with pytest.raises(Unavailable, match="holds no weights"):
        Lpips(tmp_path)
