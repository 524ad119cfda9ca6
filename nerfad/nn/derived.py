"""Tensors that follow from others and are kept as long as these stand still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Derived:
    """What was last made from some tensors.

    Torch counts the changes of a tensor, but not those by fused optimisers: whoever trains must `forget`.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, Tensor] | None = None  # with what its sources were when it was made

    def of(self, make: Callable[[], Tensor], *sources: Tensor) -> Tensor:
        """What `make` gives, called anew if torch has counted a change of `sources` since."""
        made_from = [(t.data_ptr(), t._version, t.dtype, t.device) for t in sources]
        if self._kept is None or self._kept[0] != made_from:
            self._kept = (made_from, make())
        return self._kept[1]

    def forget(self) -> None:
        """Make it anew at the next call."""
        self._kept = None
