"""A person's rigid face shape and the head's pose in every frame, from landmarks alone.

Minimises the robust reprojection error over all poses and all points at once by Levenberg-Marquardt;
the poses are eliminated first (Schur complement), so a thousand frames cost little more than one shape.
The focal length is given: the few degrees a talking head turns do not determine it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

# Reprojection error, in pixels of a 512-pixel picture, from which a point counts less.
_ROBUST_SCALE = 1.5
# Weight of the prior that keeps the shape near the canonical face, per cm^2.
_SHAPE_PRIOR = 0.02


@dataclass
class HeadTrack:
    """rotations [n, 3] (rotation vectors) and translations [n, 3] map face to camera coordinates (OpenCV:
    x right, y down, z forward); shape [k, 3] in cm; errors [n, k] in pixels.
    """

    rotations: np.ndarray
    translations: np.ndarray
    shape: np.ndarray
    errors: np.ndarray


def initial_poses(
    shape: np.ndarray, points: np.ndarray, focal: float, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """PnP of the canonical face for every frame: rotation vectors and translations, [n, 3] each."""
    matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
    rotations, translations = np.zeros((len(points), 3)), np.zeros((len(points), 3))
    for k, observed in enumerate(np.ascontiguousarray(points, np.float64)):
        _, rotation, translation = cv2.solvePnP(
            np.ascontiguousarray(shape), observed, matrix, None, flags=cv2.SOLVEPNP_SQPNP
        )
        rotations[k], translations[k] = rotation.ravel(), translation.ravel()
    return rotations, translations


def adjust(
    shape: np.ndarray,
    points: np.ndarray,
    focal: float,
    centre: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    *,
    pixel: float = 1.0,
    iterations: int = 25,
    fix_shape: bool = False,
) -> HeadTrack:
    """Refine shape and poses.

    Args:
        shape: [k, 3] canonical points in cm.
        points: [n, k, 2] observed pixels.
        focal, centre: the camera.
        rotations, translations: [n, 3] start, as from `initial_poses`.
        pixel: size in pixels of what is one pixel at 512; scales the robust loss.
        iterations: at most so many steps.
        fix_shape: only refine the poses.
    """
    rotation = Rotation.from_rotvec(rotations).as_matrix()
    translation = translations.astype(np.float64).copy()
    current = shape.astype(np.float64).copy()
    damping = 1e-3
    cost = _cost(_residuals(rotation, translation, current, points, focal, centre), current - shape, pixel)
    for _ in range(iterations):
        step = _step(rotation, translation, current, shape, points, focal, centre, pixel, damping, fix_shape)
        new_rotation = Rotation.from_rotvec(step[0]).as_matrix() @ rotation
        new_translation = translation + step[1]
        new_shape = current + step[2]
        residuals = _residuals(new_rotation, new_translation, new_shape, points, focal, centre)
        new_cost = _cost(residuals, new_shape - shape, pixel)
        if new_cost < cost:
            converged = cost - new_cost < 1e-7 * cost
            rotation, translation, current, cost = new_rotation, new_translation, new_shape, new_cost
            damping = max(damping * 0.2, 1e-9)
            if converged:
                break
        else:
            damping *= 10.0
            if damping > 1e6:
                break
    residuals = _residuals(rotation, translation, current, points, focal, centre)
    return HeadTrack(
        rotations=Rotation.from_matrix(rotation).as_rotvec(),
        translations=translation,
        shape=current,
        errors=np.linalg.norm(residuals, axis=-1),
    )


def _residuals(
    rotation: np.ndarray,
    translation: np.ndarray,
    shape: np.ndarray,
    points: np.ndarray,
    focal: float,
    centre: np.ndarray,
) -> np.ndarray:
    camera = shape @ rotation.transpose(0, 2, 1) + translation[:, None]
    return focal * camera[..., :2] / camera[..., 2:] + centre - points


def _cost(residuals: np.ndarray, offset: np.ndarray, pixel: float) -> float:
    scale = _ROBUST_SCALE * pixel
    squared = (residuals**2).sum(-1) / scale**2
    prior = _SHAPE_PRIOR * len(residuals) * pixel**2 * (offset**2).sum()
    return float(scale**2 * (np.sqrt(1.0 + squared) - 1.0).sum() * 2.0 + prior)


def _step(
    rotation: np.ndarray,
    translation: np.ndarray,
    shape: np.ndarray,
    canonical: np.ndarray,
    points: np.ndarray,
    focal: float,
    centre: np.ndarray,
    pixel: float,
    damping: float,
    fix_shape: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One damped Gauss-Newton step: rotation increments, translation increments, shape increments."""
    n_frames, n_points = points.shape[:2]
    rotated = shape @ rotation.transpose(0, 2, 1)
    camera = rotated + translation[:, None]
    x, y, z = camera[..., 0], camera[..., 1], camera[..., 2]
    residuals = focal * camera[..., :2] / camera[..., 2:] + centre - points
    scale = _ROBUST_SCALE * pixel
    weights = 1.0 / np.sqrt(1.0 + (residuals**2).sum(-1) / scale**2)
    by_camera = np.zeros((n_frames, n_points, 2, 3))
    by_camera[..., 0, 0] = by_camera[..., 1, 1] = focal / z
    by_camera[..., 0, 2] = -focal * x / z**2
    by_camera[..., 1, 2] = -focal * y / z**2
    # d(camera)/d(rotation increment) = -[rotated]x, d(camera)/d(shape) = rotation.
    by_pose = np.empty((n_frames, n_points, 2, 6))
    by_pose[..., :3] = np.cross(rotated[:, :, None, :], by_camera)
    by_pose[..., 3:] = by_camera
    by_shape = by_camera @ rotation[:, None]
    root = np.sqrt(weights)[..., None]
    residuals, by_pose, by_shape = residuals * root, by_pose * root[..., None], by_shape * root[..., None]

    flat_pose = by_pose.reshape(n_frames, n_points * 2, 6)
    pose_block = flat_pose.transpose(0, 2, 1) @ flat_pose
    pose_block += damping * np.eye(6) * np.maximum(pose_block.diagonal(0, 1, 2), 1e-9)[:, None]
    pose_gradient = (flat_pose.transpose(0, 2, 1) @ residuals.reshape(n_frames, -1, 1))[..., 0]
    if fix_shape:
        pose_step = -np.linalg.solve(pose_block, pose_gradient[..., None])[..., 0]
        return pose_step[:, :3], pose_step[:, 3:], np.zeros_like(shape)

    cross = (by_pose.transpose(0, 1, 3, 2) @ by_shape).transpose(0, 2, 1, 3).reshape(n_frames, 6, -1)
    prior = _SHAPE_PRIOR * n_frames * pixel**2
    blocks = np.einsum("npij,npik->pjk", by_shape, by_shape, optimize=True)
    gradient = np.einsum("npij,npi->pj", by_shape, residuals, optimize=True).ravel()
    gradient = gradient + prior * (shape - canonical).ravel()
    system = np.zeros((3 * n_points, 3 * n_points))
    for p in range(n_points):
        system[3 * p : 3 * p + 3, 3 * p : 3 * p + 3] = blocks[p]
    system[np.diag_indices_from(system)] += prior + damping * system.diagonal()
    inverse_cross = np.linalg.solve(pose_block, cross)
    inverse_gradient = np.linalg.solve(pose_block, pose_gradient[..., None])
    tall = cross.reshape(n_frames * 6, -1)
    system -= tall.T @ inverse_cross.reshape(n_frames * 6, -1)
    gradient -= tall.T @ inverse_gradient.ravel()
    shape_step = -np.linalg.solve(system, gradient)
    pose_step = -inverse_gradient[..., 0] - inverse_cross @ shape_step
    return pose_step[:, :3], pose_step[:, 3:], shape_step.reshape(-1, 3)
