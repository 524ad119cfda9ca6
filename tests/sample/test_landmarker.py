"""The face landmarker takes the sample head for a face, and finds its points where they are."""

import os

import numpy as np
import pytest

from nerfad.features.face_mesh import lip_gap
from nerfad.sample.generate import named_units, write_script
from nerfad.sample.identity import draw_identity
from nerfad.sample.model import SampleModel

pytestmark = pytest.mark.models


@pytest.mark.skipif("NERFAD_MODELS" not in os.environ, reason="set NERFAD_MODELS to the models' folder")
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_landmarker_finds_the_head(seed: int) -> None:
    pytest.importorskip("ai_edge_litert")
    from nerfad.features.landmarks import FaceLandmarker

    landmarker, model = FaceLandmarker(os.environ["NERFAD_MODELS"]), SampleModel(draw_identity(seed), 128)
    script = write_script(20.0, seed)
    frames = range(0, 500, 20)
    gaps, errors = [], []
    for frame in frames:
        picture = model.render(named_units(script.units[frame]), script.poses[frame]).image
        face = landmarker.detect((255 * picture + 0.5).astype(np.uint8))
        if face is None:
            continue
        points, gap = model.landmarks(named_units(script.units[frame]), script.poses[frame])
        gaps.append((lip_gap(face.landmarks), gap))
        errors.append(np.linalg.norm(face.landmarks[:, :2] - points[:, :2], axis=1).mean())
    assert len(gaps) >= 0.95 * len(frames)
    assert np.corrcoef(np.transpose(gaps))[0, 1] >= 0.9
    assert np.mean(errors) <= 2.0
