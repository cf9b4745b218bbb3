"""Work is divided between threads; a test may run once per instruction set of this CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import siamfast
from tests.threads import threads


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    """The kernels' loops are divided, also where the suite's processes have one thread each."""
    with threads(max(2, torch.get_num_threads())):
        yield


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SIAMFAST_CPU", request.param)
    try:
        siamfast.ops.dispatch.extension()[0].cpu_path()  # type: ignore[union-attr]
    except ValueError as error:
        pytest.skip(str(error))
    return str(request.param)
