r"""Where in the box a field hears speech at all.

Section 2.1 splits the face into what speech moves and what it does not, but a field that is given the speech
at every point learns whatever happens to go along with it in the clip. So half of the first layer's units
hear the speech, and a dense level behind the grid's holds how still a point is, g in [0, 1]:

.. math::
    h_{speech} = \mathrm{ReLU}(W x + W_c c - B g(x)), \quad h_{rest} = \mathrm{ReLU}(W x + W_b c_{rest})

With g = 1 the first half is shut, whatever is said. To the kernels g is one more input, -B one more weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nerfad.models.identity_lattice import lattice_vertices
from nerfad.nn import ConditionedMLP
from nerfad.ops import GridSpec

SHUT = 64.0
"""B: far above what weights, features and codes reach together."""


class SpeechGate(nn.Module):
    """How still the points of the box are, on a lattice of (resolution + 1)^3 vertices.

    Everything is open until `close` is called.

    Args:
        resolution: cells along each side.
        n_features: numbers of a vertex; all but the first are zero.
        n_speech: leading numbers of the condition that are speech.
    """

    table: Tensor

    def __init__(self, resolution: int, n_features: int, n_speech: int) -> None:
        super().__init__()
        self.n_speech = n_speech
        self.spec = GridSpec(
            n_levels=1,
            n_features=n_features,
            base_resolution=resolution,
            finest_resolution=resolution,
            kind="dense",
        )
        self.register_buffer("table", torch.zeros(self.spec.n_entries, n_features))

    @property
    def vertices(self) -> Tensor:
        """Positions [m, 3] of the vertices in the unit box, x changing fastest."""
        resolution = self.spec.resolutions[0]
        return lattice_vertices(resolution, torch.arange((resolution + 1) ** 3, device=self.table.device))

    @torch.no_grad()
    def close(self, stillness: Tensor) -> None:
        """Take over g [m] of all `vertices`."""
        self.table[: len(stillness), 0] = stillness.to(self.table)

    @torch.no_grad()
    def constrain(self, net: ConditionedMLP) -> None:
        """Hold the weights of the density network, whose last inputs are the gate's, to the form above.

        Call after every change of them.
        """
        weight = net.layers()[0][0]
        half, first = len(weight) // 2, net.spec.d_in - self.spec.n_features
        weight[:, first : net.spec.d_in] = 0
        weight[:half, first] = -SHUT
        weight[half:, net.spec.d_in : net.spec.d_in + self.n_speech] = 0
