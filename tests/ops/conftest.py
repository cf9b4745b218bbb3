"""Work is divided between threads; a test may run once per instruction set of this CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import siamfast


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    """The kernels' loops are divided, also where the suite's processes have one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(2, before))
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SIAMFAST_CPU", request.param)
    try:
        siamfast.ops.dispatch.extension()[0].cpu_path()  # type: ignore[union-attr]
    except ValueError as error:
        pytest.skip(str(error))
    return str(request.param)
