"""`nerfad explain` on runs of every stage, trained for a few steps."""

import numpy as np
import pytest
from test_fused_avatar import SMALL
from tiny_faces import write_tiny_faces

from nerfad.config import AttentionConfig, FusionConfig, TrainConfig
from nerfad.data.dataset import load_dataset
from nerfad.data.writer import DatasetWriter
from nerfad.engine.explain import explain, open_chain, response_strips
from nerfad.engine.pretrain_attention import pretrain_attention
from nerfad.engine.pretrain_fusion import pretrain_fusion
from nerfad.engine.train import train
from nerfad.errors import CheckpointError, DatasetError
from nerfad.io.images import load_image


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_faces(tmp_path_factory.mktemp("faces"), n_frames=130)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """attention, fusion and avatar of one chain."""
    root = tmp_path_factory.mktemp("runs")
    attention, fusion, avatar = root / "attention", root / "fusion", root / "avatar"
    quick = {"steps": 1, "size": 32, "batch_size": 4, "preview_every_s": 0.0}
    networks = {"width": 2, "critic_width": 2, "n_blocks": 1, "warm_up_steps": 1, "critic_steps": 1}
    pretrain_attention(AttentionConfig(datasets=(str(data),), out=attention, **quick, **networks))
    sizes = {"width": 2, "features": "mel", "classifier_steps": 1, "classifier_width": 2}
    pretrain_fusion(FusionConfig(datasets=(str(data),), out=fusion, attention=attention, **quick, **sizes))
    train(TrainConfig(dataset=data, out=avatar, fusion=fusion, steps=2, **SMALL))
    return attention, fusion, avatar


def test_every_stage_adds_its_tiles(data, runs, tmp_path):
    captions = [explain(run, 5, tmp_path / f"{k}.png", dataset=data) for k, run in enumerate(runs)]
    assert [len(names) for names in captions] == [6, 7, 8]
    assert captions[0] == [name for name in captions[2] if name not in set(captions[2]) - set(captions[0])]
    assert captions[2][-3:] == ["fused Audio-face, from sound", "rendered", "real frame 5"]
    picture = load_image(tmp_path / "2.png")
    # Two rows of tiles, a row of masks, a row of generated crops, each below a line of text.
    assert picture.shape[0] == 2 * (288 + 22) + 2 * (96 + 22) and picture.shape[1] == 4 * 288


def test_the_strip_moves_one_unit_at_a_time(data, runs, monkeypatch):
    chain = open_chain(runs[0], data)
    seen = []
    forward = chain.masker.generator.forward
    monkeypatch.setattr(
        chain.masker.generator, "forward", lambda crop, code: seen.append(code) or forward(crop, code)
    )
    assert len(response_strips(chain.dataset, chain.masker, 5)) == 2
    (codes,) = seen
    own = load_dataset(data).aus[5]
    np.testing.assert_allclose(codes[:3, 0], [0, 0.5, 1])
    np.testing.assert_allclose(codes[3:, 1], [0, 0.5, 1])
    np.testing.assert_allclose(codes[:3, 1], own[1], atol=1e-6)


def test_what_cannot_be_explained_is_said(data, runs, tmp_path):
    train(TrainConfig(dataset=data, out=tmp_path / "plain", steps=1, **SMALL))
    with pytest.raises(CheckpointError, match=r"from before pre-training.*nerfad train DATASET --fusion RUN"):
        explain(tmp_path / "plain", 5, tmp_path / "x.png")
    with pytest.raises(
        DatasetError, match=r"has no frame 130; choose one of its 130 frames between 0 and 129"
    ):
        explain(runs[0], 130, tmp_path / "x.png")
    with pytest.raises(DatasetError, match="is gone; say where it is with --dataset"):
        explain(runs[0], 5, tmp_path / "x.png", dataset=tmp_path / "nowhere")
    blind = write_tiny_faces(tmp_path / "blind", n_frames=130)
    landmarks = np.load(blind / "landmarks.npy")
    landmarks[5] = np.nan
    DatasetWriter(blind).write_array("landmarks", landmarks)
    with pytest.raises(DatasetError, match="no face was found in frame 5; use another frame"):
        explain(runs[0], 5, tmp_path / "x.png", dataset=blind)
    assert not (tmp_path / "x.png").exists()
