"""The pipeline on drawn clips, its nets replaced by stand-ins."""

from collections.abc import Iterator

import pytest

from nerfad.preprocess import landmarks, masks, pipeline, poses, scan
from tests.preprocess import drawn_clip


@pytest.fixture(scope="module")
def drawn() -> Iterator[None]:
    """Replace the nets and the mesh by what reads drawn clips."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "FaceLandmarker", drawn_clip.DrawnLandmarker)
        patch.setattr(landmarks, "open_landmarker", lambda kind, models: drawn_clip.DrawnLandmarker())
        patch.setattr(masks, "PersonSegmenter", drawn_clip.DrawnSegmenter)
        patch.setattr(poses, "canonical_mesh", lambda path: drawn_clip.mesh()[:468])
        patch.setattr(poses, "find_model", lambda name, models: None)
        patch.setattr(pipeline, "find_model", lambda name, models: None)
        patch.setattr(scan, "_MIN_FACE_PIXELS", 16)
        # Drawn clips are as short as can be.
        patch.setattr(scan, "MIN_FRAMES", 20)
        yield
