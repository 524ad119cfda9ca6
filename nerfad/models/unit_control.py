"""Directions in the space of conditions that move one action unit and leave the others where they are.

The condition of a frame is a code that sound gives (an expression code, or f^_aud-face): no number of it is
an action unit. What moves a unit is learnt from the training frames, which have both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class UnitDirections:
    """Linear reading of k units from codes of d numbers, and the way back.

    The reading is u(c) = (c - mean) B + offset, by ridge regression over training frames. Moving a code by a
    step s of the units adds s W with W = Cov(u)^-1 Cov(u, c), the regression of codes on readings: of all
    moves that change the reading by exactly s (W B = 1), the one along which the training frames vary most.
    With the labels instead of the readings it would fall short by the share that sound does not explain.

    Attributes:
        names: of the units.
        mean: [d] mean code.
        offset: [k] mean of the units.
        reading: B [d, k].
        steps: W [k, d].
    """

    names: tuple[str, ...]
    mean: np.ndarray
    offset: np.ndarray
    reading: np.ndarray
    steps: np.ndarray

    @classmethod
    def fit(
        cls, codes: np.ndarray, units: np.ndarray, names: tuple[str, ...], ridge: float = 0.01
    ) -> UnitDirections:
        """From codes [n, d] and units [n, k] of the same frames.

        Args:
            ridge: times n, on codes brought to variance 1.

        Example:
            >>> codes = np.array([[0.0, 1], [1, 0], [0, 0], [1, 1]])
            >>> directions = UnitDirections.fit(codes, codes[:, :1] / 2, ("AU25",), ridge=1e-9)
            >>> np.round(directions.steps, 3).tolist()
            [[2.0, 0.0]]
        """
        codes, units = np.asarray(codes, np.float64), np.asarray(units, np.float64)
        mean, offset = codes.mean(0), units.mean(0)
        scale = np.maximum(codes.std(0), 1e-6)
        centred = (codes - mean) / scale
        gram = centred.T @ centred + ridge * len(codes) * np.eye(codes.shape[1])
        reading = np.linalg.solve(gram, centred.T @ (units - offset)) / scale[:, None]
        read = (codes - mean) @ reading
        steps = np.linalg.pinv(read.T @ read, rcond=1e-6, hermitian=True) @ (read.T @ (codes - mean))
        return cls(names, mean, offset, reading, steps)

    def read(self, codes: np.ndarray) -> np.ndarray:
        """The units [n, k] that codes [n, d] show."""
        return (codes - self.mean) @ self.reading + self.offset

    def moved(self, codes: np.ndarray, change: np.ndarray) -> np.ndarray:
        """Codes float32 [n, d] whose units are changed by `change` [n, k]."""
        return (codes + change @ self.steps).astype(np.float32)
