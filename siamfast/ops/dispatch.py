"""Choose the implementation of a call: the backends' names, forcing one, and picking one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, wraps
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from torch.autograd import forward_ad

BACKENDS = ("triton", "cpp", "torch", "reference")
AUTO_ORDER = ("triton", "cpp", "torch")  # the reference is a specification: it serves only if forced

# Process-wide on purpose: autograd runs backward for CUDA tensors in its own threads, where a thread-local or context
# variable of the user's thread is not visible.
_forced: str | None = None
# Read once: a look at os.environ takes 0.7 us, a quarter of a call's checks.
_of_environment = os.environ.get("SIAMFAST_BACKEND", "")


# The questions of every call, as names of this module: a name takes 15 ns, an attribute of an attribute 60 more.
_compiling, _transforms, _tracing, _modes = (
    torch.compiler.is_compiling,
    torch._C._are_functorch_transforms_active,
    torch._C._is_tracing,
    torch._C._len_torch_dispatch_stack,
)
_FAKE = torch._C._TorchDispatchModeKey.FAKE


def _check_name(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source}: got {name!r}, expected one of {', '.join(BACKENDS)}")
    return name


def traced() -> bool:
    """Whether torch.jit.trace records the call."""
    return not _compiling() and _tracing()


def derived() -> bool:
    """Whether a transform of torch.func (grad, vmap, jvp, ...) is at work, or forward derivatives are computed."""
    return _transforms() or forward_ad._current_level >= 0


def transformed() -> bool:
    """Whether the call is `derived`, or recorded by torch.jit.trace: plain PyTorch serves both, and what was traced is
    saved, loaded and differentiated without siamfast."""
    # A compiler cannot trace this check: its graph has the raw op, whose own autograd asks again.
    return not _compiling() and (derived() or _tracing())


def values_unknown() -> bool:
    """Whether the values of tensors are not available, inside a compiler, a transform or a fake mode, or will be others
    than now, in a trace."""
    return _compiling() or transformed() or (_modes() > 0 and torch._C._get_dispatch_mode(_FAKE) is not None)


Check = TypeVar("Check", bound=Callable[..., Any])
_PLAIN = (int, float, str, torch.dtype, torch.device, type(None))


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, _PLAIN)


def remembered(check: Check) -> Check:
    """A check of options that keeps its results for the options it has seen: most calls have those of the last call.

    It asks anew within a compiler or a trace, where sizes are not numbers, for arguments without a hash, and for those
    that are not plain values: a tensor's hash says nothing of its numbers.
    """

    @lru_cache(maxsize=64, typed=True)  # typed: True is not 1 here
    def seen(*args: Any, **kwargs: Any) -> Any:
        if not all(map(_is_plain, (*args, *kwargs.values()))):
            raise TypeError  # is not remembered
        return check(*args, **kwargs)

    @wraps(check)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not _compiling() and not _tracing():
            try:
                return seen(*args, **kwargs)
            except TypeError:  # the check's own, or no hash
                pass
        return check(*args, **kwargs)

    return cast(Check, call)


def forced() -> str | None:
    """The backend forced by `backend(...)`, or else by the variable SIAMFAST_BACKEND; None if neither does.

    Inside a transform of torch.func it is the reference: plain PyTorch supports every transform, while our kernels have
    no batching rule, no forward derivative, and Functions that transforms refuse.
    """
    if transformed():
        return "reference"
    if _forced is not None:
        return _forced
    return _check_name(_of_environment, "SIAMFAST_BACKEND") if _of_environment else None


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Force one backend for every op called inside the ``with`` block, in the whole process.

    Args:
        name: "triton" (CUDA tensors), "cpp" (CPU tensors), "torch" (anything) or "reference" (the specification).

    Raises:
        ValueError: an unknown name. A call that the forced backend cannot serve raises ValueError with the reason.

    >>> import siamfast, torch
    >>> with siamfast.backend("reference"):
    ...     siamfast.xcorr(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 5, 5)).shape
    torch.Size([1, 1, 3, 3])
    """
    global _forced
    before, _forced = _forced, _check_name(name, "backend")
    try:
        yield
    finally:
        _forced = before


# (backend, device, dtype) -> None if it can serve, else the reason why it cannot. device: "cpu", "cuda" (the current
# one) or "cuda:1".
Reason = Callable[[str, str, torch.dtype], "str | None"]

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
# Codes of dtypes for siamfast._C, the same as enum Dtype in csrc/common/row_kernels.h.
CODES = {torch.uint8: 0, torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}


def reason(name: str, device: str, dtype: torch.dtype, kernel_dtypes: Sequence[torch.dtype] = FLOATS) -> str | None:
    """The reason why backend `name` cannot serve an op with C++ and Triton kernels for `kernel_dtypes`, or None."""
    if name == "cpp":
        return cpp_reason(device, dtype, kernel_dtypes)
    if name == "triton":
        return triton_reason(device, dtype, kernel_dtypes)
    allowed = (*kernel_dtypes, torch.float64)
    if dtype not in allowed:
        *others, last = (str(allowed_dtype).removeprefix("torch.") for allowed_dtype in allowed)
        return f"dtype {dtype} is not {', '.join(others)} or {last}"
    return None


NO_KERNEL = "this op has no"


def plain_reason(name: str, device: str, dtype: torch.dtype) -> str | None:
    """Like `reason`, for an op with only the two PyTorch backends."""
    return reason(name, device, dtype) if name in ("torch", "reference") else f"{NO_KERNEL} {name} kernel"


def can_run(name: str, device: str, dtype: torch.dtype, raise_error: bool, reason: Reason = reason) -> bool:
    """Whether `name` serves tensors of this device and dtype; with `raise_error` it raises the reason why not."""
    why = reason(_check_name(name, "backend"), device, dtype)
    if why is not None and raise_error:
        raise ValueError(f"backend {name!r} cannot run this call: {why}")
    return why is None


def pick(device: torch.device, dtype: torch.dtype, reason: Reason = reason) -> str:
    """The forced backend, or the first of AUTO_ORDER that can serve."""
    name, where = forced(), str(device)
    if name is not None:
        can_run(name, where, dtype, raise_error=True, reason=reason)
        return name
    for name in AUTO_ORDER:
        if reason(name, where, dtype) is None:
            return name
    raise ValueError(f"no backend serves {dtype} tensors on {where!r}: {reason('torch', where, dtype)}")


@cache
def extension() -> tuple[ModuleType | None, str]:
    """The compiled module siamfast._C, or None with the original cause of the failure to load it."""
    try:
        return importlib.import_module("siamfast._C"), ""
    except ImportError as error:
        return None, f"siamfast._C did not load ({type(error).__name__}: {error}); reinstall with a C++17 compiler"


def loaded_extension() -> ModuleType:
    """siamfast._C, for a call that `reason` has allowed."""
    module, cause = extension()
    if module is None:
        raise RuntimeError(cause)
    return module


def cpp_reason(device: str, dtype: torch.dtype, dtypes: Container[torch.dtype] = FLOATS) -> str | None:
    """The reason why an op's C++ kernels for `dtypes` cannot serve, or None."""
    if device != "cpu":
        return f"the C++ kernels take CPU tensors, not {device}"
    if dtype not in dtypes:
        return f"the C++ kernels have no {dtype}"
    module, cause = extension()
    return None if module is not None else cause


@cache
def triton_missing() -> str | None:
    """None if Triton can be imported, else the original cause."""
    try:
        importlib.import_module("triton")
    except ImportError as error:
        return f"triton did not load ({type(error).__name__}: {error})"
    return None


def triton_reason(device: str, dtype: torch.dtype, dtypes: Container[torch.dtype] = FLOATS) -> str | None:
    """The reason why an op's Triton kernels for `dtypes` cannot serve, or None."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return f"the Triton kernels take CUDA tensors, not {device}"
    if dtype not in dtypes:
        return f"the Triton kernels have no {dtype}"
    return triton_missing() or gpu_too_old(int(index) if index else _current_gpu())


def _current_gpu() -> int | None:
    """The current CUDA device; None without a GPU, where only `siamfast info` and `can_run` ask."""
    return torch.cuda.current_device() if torch.cuda.is_available() else None


# Triton 3.6 and later have no tensor-core products for GPUs before sm_80 (T4, V100).
LEAST_CAPABILITY = (8, 0)


@cache
def gpu_too_old(index: int | None) -> str | None:
    """None if Triton serves this CUDA device, else the reason why not."""
    if index is None:
        return None
    major, minor = torch.cuda.get_device_capability(index)
    if (major, minor) >= LEAST_CAPABILITY:
        return None
    least = "".join(map(str, LEAST_CAPABILITY))
    return f"Triton serves sm_{least} and later, and {torch.cuda.get_device_name(index)} is sm_{major}{minor}"
