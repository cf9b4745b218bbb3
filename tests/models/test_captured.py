"""CUDA graphs of the mobile tracker's network, as far as a CPU goes: rows of a bucket, and what a capture forbids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from siamfast.models.captured import Graphs, Tensors, bucket
from siamfast.models.mobile import EXEMPLAR, INSTANCE, SiamMobile
from siamfast.models.mobile_engine import TorchEngine


class Rerun(Graphs):
    """Calls the function where a GPU replays its graph; the results come in the same memory each time."""

    captured = 0

    def _capture(self, static: Sequence[torch.Tensor]) -> tuple[Callable[[], object], Tensors]:
        outputs = self._function(*static)
        self.captured += 1

        def replay() -> None:
            for output, value in zip(outputs, self._function(*static), strict=True):
                output.copy_(value)

        return replay, outputs


def product(a: torch.Tensor, b: torch.Tensor) -> Tensors:
    return a * b[:, None], a.sum(1)


@given(counts=st.lists(st.integers(1, 33), min_size=1, max_size=6))
def test_any_number_of_rows_gives_the_functions_results(counts: list[int]) -> None:
    graphs, kept = Rerun(product), []
    for count in counts:
        a, b = torch.randn(count, 3), torch.randn(count)
        kept.append((graphs(a, b), product(a, b)))
    for results, expected in kept:  # at the end, so that none lies in memory that is used again
        for result, value in zip(results, expected, strict=True):
            assert torch.equal(result, value)
    assert graphs.captured == len({bucket(count) for count in counts})


def test_other_sizes_and_types_have_graphs_of_their_own() -> None:
    graphs = Rerun(product)
    for a in (torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 3).double(), torch.ones(2, 3)):
        result, _ = graphs(a, torch.full((2,), 3.0))
        assert torch.equal(result, 3 * a)
        assert result.dtype == a.dtype
    assert graphs.captured == 3


def test_without_a_graph_the_function_is_called() -> None:
    class Refused(Graphs):
        def _capture(self, static: Any) -> Any:
            raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    graphs = Refused(product)
    with pytest.warns(RuntimeWarning, match=r"no CUDA graph \(operation not permitted when stream is capturing\): the"):
        results = graphs(torch.ones(1, 2), torch.ones(1))
    assert torch.equal(results[1], torch.tensor([2.0]))
    assert torch.equal(graphs(torch.ones(3, 2), torch.ones(3))[1], torch.full((3,), 2.0))  # without another warning


class Forbidden(TorchDispatchMode):
    """Fails at what cannot be captured: reading a value, sizes that depend on values, constants from the host."""

    names = ("_local_scalar_dense", "nonzero", "lift_fresh", "lift_fresh_copy", "unique", "masked_select", "is_nonzero")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.__name__.partition(".")[0] not in self.names, f"{func} cannot be captured"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guided", [False, True])
def test_the_network_does_nothing_that_a_capture_forbids(guided: bool, precision: str) -> None:
    torch.manual_seed(1)
    engine = TorchEngine(SiamMobile().eval(), torch.device("cpu"), precision)
    rng = np.random.default_rng(0)
    engine.add(rng.integers(0, 256, (3, EXEMPLAR, EXEMPLAR, 3), np.uint8), np.tile([32.5, 32.5, 64.0, 64.0], (3, 1)))
    crops, rows = rng.integers(0, 256, (3, INSTANCE, INSTANCE, 3), np.uint8), np.arange(3)
    plain = engine.search(crops, rows, guided=guided)
    step, seen = engine._step, []

    def watched(*inputs: torch.Tensor) -> Tensors:
        seen.append(len(inputs))
        with Forbidden():
            return step(*inputs)

    engine.graphs = Rerun(watched)
    result = engine.search(crops, rows, guided=guided)
    assert seen == [5 + 2 * guided] * 2
    # A batch of 4 in place of 3 sums in another order: 1e-5 of the largest value; bfloat16 has steps of 2**-8.
    close = 1e-5 if precision == "float32" else 2**-6
    for value, expected in zip(result[:3], plain[:3], strict=True):
        np.testing.assert_allclose(value, expected, rtol=0, atol=close * max(1.0, float(np.abs(expected).max())))
    with pytest.raises(AssertionError, match="cannot be captured"), Forbidden():
        torch.ones(2).sum().item()
