"""A tflite net on LiteRT: arrays in, arrays out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nerfad.errors import BackendError


class Net:
    """One interpreter on one thread. Not to be shared between threads; the call releases the GIL."""

    def __init__(self, model: bytes | Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise BackendError(
                "the package ai-edge-litert is missing; install it with `pip install nerfad[preprocess]`."
            ) from error
        content = model.read_bytes() if isinstance(model, Path) else model
        self._interpreter = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()[0]
        self.input_shape = tuple(int(n) for n in details["shape"])
        self._input = details["index"]
        self._outputs = [entry["index"] for entry in self._interpreter.get_output_details()]

    def __call__(self, values: np.ndarray) -> list[np.ndarray]:
        """Run the net on float32 values of `input_shape`."""
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(values, np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]
