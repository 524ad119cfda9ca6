"""Writes a trained avatar (`nerfad.engine.render.Avatar`) as one file for the torch-free runtime."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from nerfad.errors import NerfadError
from nerfad.runtime import avatar_file

_KINDS = ("hash", "tiled", "dense")


def export_avatar(avatar: Any, path: str | os.PathLike[str], table_dtype: str = "float16") -> None:
    """Write `avatar` to `path`.

    Args:
        avatar: a loaded `nerfad.engine.render.Avatar`.
        path: the file to write.
        table_dtype: "float16" (half the size, and faster) or "float32" for the grids' tables.

    Raises:
        NerfadError: the run's field is one that the runtime does not draw.
    """
    model = avatar.model
    head, torso = model.head, model.torso
    if not head.in_one_pass:
        raise NerfadError(
            "the torch-free runtime draws the hash-grid field, with identity features only where they are "
            "baked; export a run that was trained with --field.kind hashgrid and without --identity.form "
            "point."
        )
    table, grid = head.field.grid
    arrays = {
        "head.table": _array(table, table_dtype),
        "head.sigma": _array(head.field.density_net.params),
        "head.color": _array(head.field.color_net.params),
        "head.bitfield": head.occupancy.density_bitfield.cpu().numpy(),
        "box.origin": _array(head.box.origin),
        "box.side": _array(head.box.side),
        "pose.mean": _array(model.pose_mean),
        "pose.std": _array(model.pose_std),
        "pose.rest_body": avatar.body.mean(0).astype(np.float32),
        "plate": np.asarray(avatar.plate, np.uint8),
    }
    settings = {
        "fps": avatar.fps,
        "camera": dataclasses.asdict(avatar.camera),
        "head": _head_settings(head, grid),
        "torso": None,
    }
    if torso is not None:
        arrays["torso.table"] = _array(torso.encoding.table, table_dtype)
        arrays["torso.deformation"] = _array(torso.deformation.params)
        arrays["torso.picture"] = _array(torso.picture.params)
        settings["torso"] = {
            "grid": _grid_numbers(torso.encoding.spec),
            "deformation": _mlp_numbers(torso.deformation.spec),
            "picture": _mlp_numbers(torso.picture.spec),
            "n_octaves": torso.config.deformation_octaves,
            "max_deformation": torso.config.max_deformation,
        }
    avatar_file.write(path, arrays, settings)


def _head_settings(head: Any, grid: Any) -> dict[str, Any]:
    color = head.field.color_net.spec
    # The flat parameters are the same whether the direction is an input or a condition.
    color = dataclasses.replace(color, d_in=color.d_in + color.d_cond, d_cond=0)
    return {
        "grid": _grid_numbers(grid),
        "sigma": _mlp_numbers(head.field.density_net.spec),
        "color": _mlp_numbers(color),
        "resolution": head.occupancy.resolution,
        "step_size": head.step_size,
        "density_bias": head.field.config.density_bias,
        "max_samples_per_ray": head.config.max_samples_per_ray,
    }


def _array(tensor: Any, dtype: str = "float32") -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype)


def _grid_numbers(spec: Any) -> list[int]:
    smoothstep = int(spec.interpolation == "smoothstep")
    return [spec.n_dims, *spec.native_resolutions, spec.log2_table_size, _KINDS.index(spec.kind), smoothstep]


def _mlp_numbers(spec: Any) -> list[int]:
    sigmoid = int(spec.output_activation == "sigmoid")
    return [spec.d_in, spec.d_cond, spec.d_hidden, spec.n_hidden, spec.d_out, sigmoid]
