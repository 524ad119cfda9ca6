"""Avatars: conditions from sound, frames, videos."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_data import train_tiny, write_tiny_dataset

from nerfad.cli.main import main
from nerfad.engine.render import Avatar, blinks, render_video, smooth_loop
from nerfad.errors import CheckpointError, InputFileError, NerfadError
from nerfad.features.audio import load_wave
from nerfad.io.video import VideoReader, probe
from nerfad.runtime import Renderer

N_FRAMES = 80
NOISE = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_dataset(tmp_path_factory.mktemp("tiny") / "data", N_FRAMES)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    return train_tiny(data, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def avatar(run) -> Avatar:
    return Avatar.load(run)


def test_conditions_follow_the_sound(avatar, data):
    wave = load_wave(data / "aud.wav")
    cond = avatar.conditions(wave, n_frames=50)
    assert cond.shape == (50, avatar.voice.n_codes + 1) and cond.dtype == np.float32
    assert not np.allclose(cond, avatar.conditions(np.zeros_like(wave), n_frames=50))
    assert len(avatar.conditions(wave)) == N_FRAMES


def test_conditions_do_not_hear_beyond_the_lookahead(avatar, data):
    wave = load_wave(data / "aud.wav")
    changed = wave.copy()
    cut = round(16000 * (10.5 / avatar.fps + avatar.voice.lookahead_s + 0.03))
    changed[cut:] = 0
    np.testing.assert_array_equal(
        avatar.conditions(changed, n_frames=11), avatar.conditions(wave, n_frames=11)
    )


def test_frame_has_the_layers_it_says(avatar):
    cond = avatar.conditions(NOISE)[0]
    frame = avatar.render(avatar.c2w[0], cond)
    assert frame.image.shape == (32, 32, 3) and frame.image.dtype == np.uint8
    assert frame.opacity[16, 16] > 0.3 > frame.opacity[1, 1]
    distance = frame.depth[16, 16] / frame.opacity[16, 16]
    assert 3.2 < distance < 4.6  # the ball stands 4 scene units away
    black = np.zeros((32, 32, 3), np.uint8)
    corner = avatar.render(avatar.c2w[0], cond, background=black).image[0, 0]
    assert int(frame.image[0, 0, 2]) - int(corner[2]) > 60  # the plate is blue


def test_head_over_a_given_torso(avatar):
    cond = avatar.conditions(NOISE)[0]
    torso = np.zeros((32, 32, 4), np.uint8)
    torso[28:] = (0, 255, 0, 255)
    learnt, given = (avatar.render(avatar.c2w[0], cond, torso=layer) for layer in (None, torso))
    np.testing.assert_allclose(given.head, learnt.head, atol=1e-5)
    assert (given.image[31, 0] == (0, 255, 0)).all()
    np.testing.assert_array_equal(given.image[0, 0], avatar.plate[0, 0])


def test_frame_at_another_size(avatar):
    cond = avatar.conditions(NOISE)[0]
    small = avatar.render(avatar.c2w[0], cond).image.astype(float)
    large = avatar.render(avatar.c2w[0], cond, size=64).image.astype(float)
    assert large.shape == (64, 64, 3)
    assert np.abs(large.reshape(32, 2, 32, 2, 3).mean((1, 3)) - small).mean() < 12


def test_video_with_sound_marked_synthetic(run, data, tmp_path):
    told = []
    video = render_video(run, data / "aud.wav", tmp_path / "o.mp4", progress=lambda d, t: told.append(d))
    info = probe(tmp_path / "o.mp4")
    assert video.n_frames == N_FRAMES and info.has_audio and (info.height, info.width) == (32, 32)
    with VideoReader(tmp_path / "o.mp4") as reader:
        assert sum(1 for _ in reader) == N_FRAMES
    assert told == sorted(told)
    assert b"Synthetic video" in (tmp_path / "o.mp4").read_bytes()


def test_video_with_the_poses_of_the_data_set(run, data, tmp_path):
    video = render_video(run, data / "aud.wav", tmp_path / "o.mp4", poses="dataset", dataset=data)
    assert video.n_frames == N_FRAMES and video.mask is None


def test_a_still_head_is_drawn_as_any_other(avatar):
    cond = avatar.conditions(NOISE)
    still = avatar.still(avatar.c2w[3], avatar.body[3], size=48)
    for row in cond[::10]:
        expected = avatar.render(avatar.c2w[3], row, avatar.body[3], size=48, surface_depth=False)
        got = still.render(row)
        assert np.abs(got.image.astype(int) - expected.image).max() <= 1
        for layer in ("head", "opacity", "depth"):
            np.testing.assert_allclose(getattr(got, layer), getattr(expected, layer), atol=1e-3)


def test_masked_frames_are_as_good_as_they_say(avatar):
    cond = avatar.conditions(NOISE)
    still = avatar.still(avatar.c2w[3])
    masked = still.masked(cond)
    whole = np.stack([still.render(row).image for row in cond]).astype(float) / 255
    drawn = np.stack([masked.render(row).image for row in cond]).astype(float) / 255
    mse = np.square(whole - drawn).mean()
    assert mse == 0 or -10 * np.log10(mse) > 45
    assert 0 <= masked.report.share <= 1 and masked.report.psnr >= 45
    assert f"PSNR {masked.report.psnr:.1f} dB" in str(masked.report)


def test_a_mask_that_leaves_out_too_much_is_refused(avatar):
    cond = avatar.conditions(NOISE)
    cond[:, : avatar.voice.n_codes] *= np.linspace(0, 1000, len(cond), dtype=np.float32)[:, None]
    with pytest.raises(NerfadError, match=r"leaves out too much: PSNR is [\d.]+ dB .*lower the threshold"):
        avatar.still(avatar.c2w[0]).masked(cond, threshold=0.9)
    assert avatar.still(avatar.c2w[0]).masked(cond).report.psnr >= 45
    with pytest.raises(NerfadError, match=r"threshold must be between 0 and 1, got 1\.5"):
        avatar.still(avatar.c2w[0]).masked(cond, threshold=1.5)


def test_video_of_a_still_head_within_a_mask(run, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "o.mp4"
    words = ["nerfad", "render", str(run), "--audio", str(data / "aud.wav"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*words, "--poses", "still", "--sensitivity-mask", "0.004"])
    main()
    assert "of the rays drawn anew" in capsys.readouterr().err
    with VideoReader(out) as reader:
        frames = np.stack([frame.image for frame in reader]).astype(int)
    assert len(frames) == N_FRAMES
    assert np.abs(frames[:, :4] - frames[0, :4]).max() <= 12  # the plate, up to compression


def test_a_mask_needs_a_still_head(run, data, tmp_path):
    with pytest.raises(NerfadError, match="--poses loop moves it; add --poses still"):
        render_video(run, data / "aud.wav", tmp_path / "o.mp4", sensitivity_mask=0.01)


def test_a_file_that_is_no_sound_ends_in_a_sentence(run, tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(InputFileError):
        render_video(run, tmp_path / "text.wav", tmp_path / "o.mp4")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        render_video(tmp_path, tmp_path / "text.wav", tmp_path / "o.mp4")
    assert not (tmp_path / "o.mp4").exists()


def test_blinks_are_short_and_apart():
    code = blinks(1000, 25.0, seed=3)
    closed = code > 0.5
    n_blinks = int((np.diff(closed.astype(int)) == 1).sum())
    assert 6 <= n_blinks <= 20 and closed.mean() < 0.1
    np.testing.assert_array_equal(code, blinks(1000, 25.0, seed=3))


def test_smooth_loop_takes_the_longest_take_and_keeps_rotations():
    rng = np.random.default_rng(0)
    c2w = np.tile(np.eye(4, dtype=np.float32), (30, 1, 1))
    c2w[:, :3, 3] = rng.normal(size=(30, 3))
    segments = np.array([4] * 10 + [5] * 20)
    poses, body = smooth_loop(c2w, np.zeros((30, 4), np.float32), segments)
    assert len(poses) == len(body) == 20
    assert np.abs(np.diff(poses[:, 0, 3])).mean() < 0.5 * np.abs(np.diff(c2w[10:, 0, 3])).mean()
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.tile(np.eye(3), (20, 1, 1)), atol=1e-5
    )


def test_an_exported_avatar_draws_the_same_picture(avatar, monkeypatch, tmp_path):
    target = tmp_path / "me.avatar"
    monkeypatch.setattr(sys, "argv", ["nerfad", "export", str(avatar.run), str(target)])
    main()
    cond = avatar.conditions(NOISE)[0]
    ours = avatar.render(avatar.c2w[0], cond, avatar.body[0]).image
    exported = Renderer.load(target).render(avatar.c2w[0], cond, body=avatar.body[0])
    assert np.abs(ours.astype(int) - exported.astype(int)).mean() < 1.0
