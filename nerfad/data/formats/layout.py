"""Where a folder layout keeps its files, and the conventions its poses are in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """One folder layout. Patterns are relative to the folder and take the frame's `img_id`.

    name: "nerfad", "adnerf", "dfrf", "radnerf" or "ernerf".
    image_pattern: the picture to learn, over the clean background where the layout has one.
    label_pattern: its regions as colours.
    torso_pattern: neck and torso alone, None where it has to be cut out with the labels.
    pixel_offset: where in a pixel its ray passes.
    """

    name: str
    image_pattern: str
    torso_pattern: str | None
    pixel_offset: float
    label_pattern: str = "parsing/{}.png"
    background_name: str = "bc.jpg"
