"""The structs and enums that Python and C++ share have the same names, orders and codes on both sides."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from siamfast import ops
from siamfast.ops import buffers, dispatch

_C, _CAUSE = dispatch.extension()
pytestmark = pytest.mark.skipif(_C is None, reason=_CAUSE)

OPS = sorted(path.parent.name for path in Path(ops.__file__).parent.glob("*/cpp.py"))


def _python(name: str) -> type:
    """ "op.Class" -> the class of that name in the op's cpp.py or call.py."""
    folder, _, kind = name.rpartition(".")
    places = (
        ["siamfast.ops.buffers"] if folder == "buffers" else [f"siamfast.ops.{folder}.{f}" for f in ("cpp", "call")]
    )
    for place in places:
        if place_has := getattr(importlib.import_module(place), kind, None):
            return place_has
    raise LookupError(name)


def test_structs_have_the_same_fields_in_the_same_order() -> None:
    assert _C is not None
    ours = {name: _python(name)._fields for name in _C.RECORDS}  # type: ignore[attr-defined]
    assert ours == _C.RECORDS


def test_cpp_accepts_each_struct() -> None:
    assert _C is not None
    for op in OPS:
        module = importlib.import_module(f"siamfast.ops.{op}.cpp")
        own = {name for name, kind in vars(module).items() if getattr(kind, "__module__", "") == module.__name__}
        records = {name for name in own if hasattr(vars(module)[name], "_fields") and not name.startswith("_")}
        assert {f"{op}.{name}" for name in records} <= set(_C.RECORDS)


def test_enums_have_the_same_codes() -> None:
    assert _C is not None
    for name, codes in _C.ENUMS.items():
        if name != "Dtype":
            assert {member.name: member.value for member in _python(name)} == codes, name  # type: ignore[attr-defined]


def test_dtypes_have_the_same_codes() -> None:
    assert _C is not None
    assert {str(dtype).removeprefix("torch."): code for dtype, code in dispatch.CODES.items()} == _C.ENUMS["Dtype"]


def test_a_wrong_number_of_fields_or_an_unknown_code_is_an_error() -> None:
    assert _C is not None
    maps = buffers.of_tensor(torch.ones(1, 1, 1, 1))
    with pytest.raises(TypeError):
        _C.xcorr_depthwise(maps[:-1], maps, maps, 0, 0, 1)
    with pytest.raises(ValueError, match="unknown Dtype code"):
        _C.xcorr_depthwise(maps._replace(dtype=9), maps, maps, 0, 0, 1)
    with pytest.raises(ValueError, match="wrong type of unit"):
        _C.xcorr_depthwise(maps._replace(unit="1"), maps, maps, 0, 0, 1)  # type: ignore[arg-type]
