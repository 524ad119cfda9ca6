"""Morton codes: the order in which cells of the occupancy grid lie in memory."""

import torch
from torch import Tensor

from nerfad import _native
from nerfad.ops import _backend
from nerfad.ops.reference import morton as reference


def morton_encode(coords: Tensor) -> Tensor:
    """Interleaves the bits of x, y and z (x lowest), so that near cells lie near in memory (Morton, 1966).

    Args:
        coords: [n, 3] int32, cell coordinates, 0 <= coords < 1024 (higher bits are ignored).

    Returns:
        codes [n] int32, 0 <= codes < 2^30.

    Raises:
        RuntimeError: coords is not [n, 3] int32.

    Example:
        >>> import torch
        >>> from nerfad.ops import morton_encode
        >>> morton_encode(torch.tensor([[1, 0, 0], [0, 1, 0], [3, 3, 3]], dtype=torch.int32)).tolist()
        [1, 2, 63]
    """
    if not _backend.is_native():
        return reference.morton_encode(coords)
    return _native.ops().morton_encode(coords)


def morton_decode(codes: Tensor) -> Tensor:
    """Inverse of `morton_encode`.

    Args:
        codes: [n] int32, 0 <= codes < 2^30.

    Returns:
        coords [n, 3] int32.

    Raises:
        RuntimeError: codes is not [n] int32.

    Example:
        >>> import torch
        >>> from nerfad.ops import morton_decode
        >>> morton_decode(torch.tensor([63], dtype=torch.int32)).tolist()
        [[3, 3, 3]]
    """
    if not _backend.is_native():
        return reference.morton_decode(codes)
    return _native.ops().morton_decode(codes)


def _fake_encode(coords):
    return coords.new_empty((coords.shape[0],))


def _fake_decode(codes):
    return codes.new_empty((codes.shape[0], 3))


if _native.available():
    torch.library.register_fake("nerfad::morton_encode", _fake_encode)
    torch.library.register_fake("nerfad::morton_decode", _fake_decode)
