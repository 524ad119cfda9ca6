"""Videos that cannot be used are refused in one sentence; odd ones that can be used are."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from nerfad.data.dataset import load_dataset
from nerfad.errors import InputFileError, NerfadError, VideoError
from nerfad.io.video import write_video
from nerfad.preprocess.pipeline import preprocess
from tests.io.test_video import set_rotation
from tests.preprocess.drawn_clip import N_FRAMES, WALL, draw, head_centre, speech, write_clip

SIZE = 96


def refused(video, out, kind: type[NerfadError] = VideoError) -> str:
    """The one sentence; the folder must be gone."""
    with pytest.raises(kind) as caught:
        preprocess(video, out, size=SIZE)
    text = str(caught.value)
    assert str(video) in text and "\n" not in text
    assert not out.exists()
    return text


def empty(k: int = 0) -> np.ndarray:
    return np.broadcast_to(WALL + k % 7, (SIZE, SIZE, 3)).astype(np.uint8)


def test_no_face(drawn, tmp_path):
    video = write_clip(tmp_path / "v.mp4", [empty(k) for k in range(N_FRAMES)])
    assert "no face was found in any of 30 frames looked at, frame 0 to 29" in refused(video, tmp_path / "d")


def test_two_faces(drawn, tmp_path):
    video = write_clip(tmp_path / "v.mp4", [draw(k, SIZE, n_heads=2) for k in range(N_FRAMES)])
    assert "frame 0 shows 2 faces" in refused(video, tmp_path / "d")


def test_face_too_small(drawn, tmp_path, monkeypatch):
    from nerfad.preprocess import scan

    monkeypatch.setattr(scan, "_MIN_FACE_PIXELS", 48)
    video = write_clip(tmp_path / "v.mp4", size=SIZE)
    assert "the face is only" in refused(video, tmp_path / "d")


def test_face_gone_for_most_of_the_clip(drawn, tmp_path):
    frames = [draw(k, SIZE) if k < 12 else empty(k) for k in range(40)]
    video = write_clip(tmp_path / "v.mp4", frames)
    with pytest.raises(
        VideoError, match=r"a face was found in only 12 of \d+ frames \(the first without one is 12\)"
    ):
        preprocess(video, tmp_path / "d", size=SIZE)


def test_no_sound(drawn, tmp_path):
    write_video(tmp_path / "v.mp4", [draw(k, SIZE) for k in range(N_FRAMES)], 25)
    assert "no sound track" in refused(tmp_path / "v.mp4", tmp_path / "d")


def test_silent_sound(drawn, tmp_path):
    silence = (np.zeros(19200, np.float32), 16000)
    write_video(tmp_path / "v.mp4", [draw(k, SIZE) for k in range(N_FRAMES)], 25, audio=silence)
    with pytest.raises(VideoError, match="its sound track is silent"):
        preprocess(tmp_path / "v.mp4", tmp_path / "d", size=SIZE)


def test_five_frames(drawn, tmp_path):
    video = write_clip(tmp_path / "v.mp4", [draw(k, SIZE) for k in range(5)])
    assert "has only 5 frames; at least 20 are needed" in refused(video, tmp_path / "d")


def test_a_still_picture_as_video(drawn, tmp_path):
    video = write_clip(tmp_path / "v.mp4", [draw(0, SIZE)] * N_FRAMES)
    assert "different frames" in refused(video, tmp_path / "d")


def test_a_text_file_named_mp4(drawn, tmp_path):
    video = tmp_path / "v.mp4"
    video.write_text("This is not a video.\n" * 100)
    assert "not a video" in refused(video, tmp_path / "d", InputFileError)


def test_a_missing_file_and_a_folder(drawn, tmp_path):
    assert "does not exist" in refused(tmp_path / "v.mp4", tmp_path / "d", InputFileError)
    (tmp_path / "w.mp4").mkdir()
    assert "is a folder" in refused(tmp_path / "w.mp4", tmp_path / "d", InputFileError)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_mp4(drawn, tmp_path, share):
    video = write_clip(tmp_path / "v.mp4", size=SIZE)
    whole = video.read_bytes()
    video.write_bytes(whole[: int(share * len(whole))])
    assert "truncated" in refused(video, tmp_path / "d", InputFileError)


def test_a_few_frames_without_a_face_are_dropped_and_told(drawn, tmp_path):
    frames = [empty(k) if k in (10, 11) else draw(k, SIZE) for k in range(N_FRAMES)]
    dataset = load_dataset(preprocess(write_clip(tmp_path / "v.mp4", frames), tmp_path / "d", size=SIZE))
    assert not {10, 11} & set(dataset.frame_ids.tolist())
    quality = json.loads((tmp_path / "d/manifest.json").read_text())["quality"]
    assert quality["dropped"]["no_face"] == [10, 11]
    assert quality["detection_rate"] == pytest.approx((N_FRAMES - 2) / N_FRAMES, abs=1e-4)


def test_a_phones_rotation(drawn, tmp_path):
    frames = [np.ascontiguousarray(np.rot90(draw(k, SIZE))) for k in range(N_FRAMES)]
    video = write_clip(tmp_path / "v.mp4", frames)
    set_rotation(video, 1)
    dataset = load_dataset(preprocess(video, tmp_path / "d", size=SIZE))
    assert np.abs(dataset.image(20).astype(int) - draw(20, SIZE)).mean() < 5


def test_variable_frame_rate_is_retimed(drawn, tmp_path):
    """Frames at uneven times: every tick of 25 a second shows what was on screen then."""
    milliseconds = np.cumsum([0] + [20, 60, 40, 33, 47] * 6)
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        picture = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        picture.width = picture.height = SIZE
        picture.pix_fmt, picture.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for time in milliseconds:
            frame = av.VideoFrame.from_ndarray(draw(time / 40, SIZE), format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        block = av.AudioFrame.from_ndarray(speech(1.3)[0][None], format="fltp", layout="mono")
        block.sample_rate = 16000
        container.mux([*sound.encode(block), *sound.encode(None)])
    dataset = load_dataset(preprocess(tmp_path / "v.mp4", tmp_path / "d", size=SIZE))
    source = json.loads((tmp_path / "d/manifest.json").read_text())["source"]
    assert source["variable_frame_rate"]
    for k in range(5, len(dataset), 10):
        drawn_at = dataset.frame_ids[k]
        pixel = dataset.camera.project(dataset.c2w[k].astype(np.float64), np.zeros((1, 3)))[0] + 0.5
        # Half an interval of the drawn path is under a pixel.
        np.testing.assert_allclose(pixel, head_centre(drawn_at, SIZE), atol=1.5)


def test_thirty_frames_a_second_with_repeats_become_twenty_five(drawn, tmp_path):
    """What a converter makes of a 25-frame clip: every fifth frame shown twice."""
    frames = [draw(k, SIZE) for k in range(N_FRAMES)]
    shown = [frames[k] for k in range(N_FRAMES) for _ in range(2 if k % 5 == 4 else 1)]
    dataset = load_dataset(
        preprocess(write_clip(tmp_path / "v.mp4", shown, fps=30), tmp_path / "d", size=SIZE)
    )
    quality = json.loads((tmp_path / "d/manifest.json").read_text())["quality"]
    assert quality["dropped"]["duplicates"] == N_FRAMES // 5
    np.testing.assert_array_equal(dataset.frame_ids, np.arange(N_FRAMES))
    assert np.abs(dataset.image(23).astype(int) - frames[23]).mean() < 4


def test_four_k_is_accepted_and_scaled_down(drawn, tmp_path):
    def wide(k: int) -> np.ndarray:
        picture = np.repeat(np.repeat(draw(k, 270), 8, 0), 8, 1)
        return np.pad(picture, ((0, 0), (840, 840), (0, 0)), mode="edge")

    video = write_clip(tmp_path / "v.mp4", [wide(k) for k in range(20)])
    dataset = load_dataset(preprocess(video, tmp_path / "d", size=SIZE))
    source = json.loads((tmp_path / "d/manifest.json").read_text())["source"]
    assert (source["width"], source["height"]) == (3840, 2160)
    assert dataset.image(0).shape == (SIZE, SIZE, 3)
    head = dataset.labels(15) == 1
    assert 0.1 < head.mean() < 0.5


def test_a_portrait_video_is_cropped_to_the_head(drawn, tmp_path):
    def tall(k: int) -> np.ndarray:
        return np.pad(draw(k, SIZE), ((20, 60), (0, 0), (0, 0)), mode="edge")

    dataset = load_dataset(
        preprocess(
            write_clip(tmp_path / "v.mp4", [tall(k) for k in range(N_FRAMES)]), tmp_path / "d", size=SIZE
        )
    )
    head = dataset.labels(15) == 1
    rows, columns = np.nonzero(head)
    # All of the head and some torso lie inside the crop.
    assert rows.min() > 2 and columns.min() > 2 and columns.max() < SIZE - 3
    assert (dataset.labels(15) == 3).mean() > 0.05
