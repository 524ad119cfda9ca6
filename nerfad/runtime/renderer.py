"""The thin face of the compiled renderer: reads the file, converts poses, hands arrays over."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nerfad.errors import BackendError
from nerfad.runtime import avatar_file


def _compiled() -> Any:
    try:
        from nerfad import _runtime  # type: ignore[attr-defined]
    except ImportError as error:
        raise BackendError(
            f"nerfad's runtime module is not built ({error}); install nerfad again with a compiler on PATH."
        ) from None
    return _runtime


def build_info() -> dict[str, Any]:
    """Compiler, C++ standard and instruction sets of the compiled module."""
    return _compiled().build_info()


def cpu_features() -> dict[str, Any]:
    """What this processor can do, and the instruction set in use."""
    return _compiled().cpu_features()


class Renderer:
    """An exported avatar, ready to be drawn.

    Args:
        arrays, settings: from `avatar_file.read`.
        n_threads: threads that draw, each pinned to a processor; 0: one per processor.
    """

    def __init__(self, arrays: dict[str, np.ndarray], settings: dict[str, Any], n_threads: int = 0) -> None:
        self._renderer = _compiled().Renderer(arrays, settings, n_threads)
        self._arrays = {k: v.astype(np.float32) for k, v in arrays.items() if k.startswith(("box.", "pose."))}
        self._plate = arrays["plate"].astype(np.float32) / 255
        self.height, self.width = self._plate.shape[:2]
        self.fps = float(settings["fps"])
        self.n_cond: int = self._renderer.n_cond

    @classmethod
    def load(cls, path: str | os.PathLike[str], n_threads: int = 0) -> Renderer:
        """Open an avatar file.

        Raises:
            InputFileError: it is missing, damaged, or no avatar file.
            BackendError: the compiled module is not built.
        """
        return cls(*avatar_file.read(path), n_threads)

    def render(
        self,
        c2w: np.ndarray,
        cond: np.ndarray,
        body: np.ndarray | None = None,
        background: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw one frame: uint8 [H, W, 3].

        Args:
            c2w: [4, 4] camera pose, OpenGL axes, scene units.
            cond: [n_cond] the condition: speech codes, blink, appearance.
            body: [4] body motion dx, dy (pixels), rotation (rad), log scale; None: at rest.
            background: uint8 [H, W, 3]; None: the avatar's own.
        """
        box_c2w = np.array(c2w, np.float32)
        box_c2w[:3, 3] = (box_c2w[:3, 3] - self._arrays["box.origin"]) / self._arrays["box.side"]
        at_rest = self._arrays["pose.rest_body"]
        in_pixels = at_rest if body is None else np.asarray(body, np.float32)
        moved = in_pixels / np.array([self.height, self.height, 1, 1], np.float32)
        pose = self._describe(box_c2w, moved)
        plate = self._plate if background is None else np.asarray(background, np.float32) / 255
        return self._renderer.render(box_c2w[:3].ravel(), moved, pose, np.asarray(cond, np.float32), plate)

    def _describe(self, c2w: np.ndarray, body: np.ndarray) -> np.ndarray:
        """What the torso's networks see of a pose: angles, place and body motion, standardised."""
        to_head = c2w[:3, :3].T
        place = -(to_head @ (c2w[:3, 3] - 0.5))
        yaw = np.arctan2(to_head[0, 2], to_head[2, 2])
        pitch = np.arcsin(np.clip(to_head[1, 2], -1, 1))
        roll = np.arctan2(to_head[1, 0], to_head[1, 1])
        raw = np.concatenate([[yaw, pitch, roll], place, body]).astype(np.float32)
        return np.clip((raw - self._arrays["pose.mean"]) / self._arrays["pose.std"], -3, 3)
