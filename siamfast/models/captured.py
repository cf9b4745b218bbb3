"""A network's pass as a CUDA graph: one launch in place of some hundreds, which take longer than their work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch

Tensors = tuple[torch.Tensor, ...]


def bucket(rows: int) -> int:
    """The rows of the graph that serves this many: the next power of two.

    >>> [bucket(rows) for rows in (1, 2, 3, 8, 9)]
    [1, 2, 4, 8, 16]
    """
    return 1 << (rows - 1).bit_length()


class Graphs:
    """Runs a function of CUDA tensors by graphs of it, captured once for each bucket of rows and reused after that.

    A graph keeps the settings (TF32, `siamfast.backend`) that were valid when it was captured. Where capturing fails, a
    RuntimeWarning says why, and the function is called as it is from then on.

    Args:
        function: takes tensors and returns tensors, all with K rows that do not depend on each other; allocates nothing
            on the CPU and never waits for the device.
    """

    def __init__(self, function: Callable[..., Tensors]) -> None:
        self._function = function
        self._captured: dict[tuple[object, ...], tuple[Tensors, Callable[[], object], Tensors]] = {}
        self._works = True

    def __call__(self, *inputs: torch.Tensor) -> Tensors:
        """The function's results for inputs of K rows each, in new tensors."""
        if not self._works:
            return self._function(*inputs)
        rows = len(inputs[0])
        shapes = tuple((bucket(rows), *each.shape[1:]) for each in inputs)
        key = shapes, tuple(each.dtype for each in inputs)
        if key not in self._captured:
            static = tuple(each.new_zeros(shape) for each, shape in zip(inputs, shapes, strict=True))
            try:
                self._captured[key] = static, *self._capture(static)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                warnings.warn(f"no CUDA graph ({reason}): the network runs without", RuntimeWarning, stacklevel=2)
                self._works = False
                return self._function(*inputs)
        static, replay, outputs = self._captured[key]
        torch._foreach_copy_([each[:rows] for each in static], list(inputs))
        replay()
        return tuple(output[:rows].clone() for output in outputs)

    def _capture(self, static: Sequence[torch.Tensor]) -> tuple[Callable[[], object], Tensors]:
        """What runs the function on the static inputs again, and its static outputs."""
        with torch.cuda.device(static[0].device):
            # Before the capture, because Triton compiles and cuDNN chooses in the first calls.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._function(*static)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile: those of a loader, or of another tracker.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = self._function(*static)
        return graph.replay, outputs
