"""Runs a test once per instruction set of this CPU."""

from __future__ import annotations

import pytest

import siamfast


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SIAMFAST_CPU", request.param)
    try:
        siamfast.ops.dispatch.extension()[0].cpu_path()  # type: ignore[union-attr]
    except ValueError as error:
        pytest.skip(str(error))
    return str(request.param)
