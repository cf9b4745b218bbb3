"""The backbone for tracking: in the fastest precision of the device, but templates always in float32."""

from __future__ import annotations

import copy
import warnings

import torch

from siamfast.instructions import fast_bfloat16, int8_missing
from siamfast.models.fused import FusedAlexNet, fuse
from siamfast.models.quantized import QuantizedAlexNet
from siamfast.models.siamfc import SiamFC

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to run on: "auto" is CUDA where there is a usable device, else the CPU; others are checked.

    Raises:
        ValueError: not a device, or one that this machine or this PyTorch does not have.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"device: got {str(device)!r}, which cannot be used here ({reason})") from error
    return chosen


def choose_precision(precision: str, device: torch.device, *, int8: bool = True) -> str:
    """The precision to run in; "auto" is the fastest one on `device` that tracks as well as float32.

    Measured, three 255-pixel crops on 2 Zen 5 cores: float32 35 ms (channels_last), bfloat16 19, int8 9. CPUs without
    AVX-512 VNNI get bfloat16 if they have instructions for it, else float32. CUDA gets bfloat16 (float16 before sm_80).

    Args:
        precision: one of PRECISIONS.
        device: where to run.
        int8: whether the network has an 8-bit form.

    Raises:
        ValueError: an unknown name, or "int8" where it cannot run.

    Warns:
        UserWarning: "bfloat16" on a CPU without instructions for it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if precision == "int8":
        missing = int8_missing() if device.type == "cpu" else f"it runs on the CPU only, not on {device.type!r}"
        missing = missing if int8 else "this network has no 8-bit form"
        if missing is not None:
            raise ValueError(f"precision: got 'int8', but {missing}")
    if precision == "bfloat16" and device.type == "cpu" and not fast_bfloat16(device):
        warnings.warn(
            "precision: got 'bfloat16', which this CPU has no instructions for: several times slower than float32",
            stacklevel=3,
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if fast_bfloat16(device) else "float16"
    if device.type != "cpu":
        return "float32"
    if int8 and int8_missing() is None:
        return "int8"
    return "bfloat16" if fast_bfloat16(device) else "float32"


class Embedder:
    """Features of templates and of search crops from one SiamFC.

    The template is embedded once and enters every response, so it stays in float32; search crops are embedded every
    frame, in `precision`.

    Args:
        model: its running statistics and weights are folded into a copy; later changes to it have no effect.
        device: where to run.
        precision: one of PRECISIONS.
    """

    def __init__(self, model: SiamFC, device: torch.device, precision: str = "auto") -> None:
        self.device = device
        self.precision = choose_precision(precision, device)
        self._exact: FusedAlexNet = fuse(model).to(device)
        self._fast: FusedAlexNet | QuantizedAlexNet | None = None
        if self.precision == "float32":
            self._fast = self._exact
        elif self.precision != "int8":
            self._fast = copy.deepcopy(self._exact).to(getattr(torch, self.precision))

    def _upload(self, crops: torch.Tensor) -> torch.Tensor:
        # (N, S, S, 3) uint8 is (N, 3, S, S) in channels_last: the permutation copies nothing.
        return crops.to(self.device).permute(0, 3, 1, 2)

    def template(self, crop: torch.Tensor, surroundings: torch.Tensor) -> torch.Tensor:
        """Embed a template; its surroundings set the ranges of the 8-bit activations.

        Args:
            crop: (1, S, S, 3) uint8 RGB. surroundings: (N, S', S', 3) uint8 RGB, search crops of the same frame.

        Returns:
            (1, 256, h, w) float32, on the device.
        """
        if self.precision == "int8":
            self._fast = QuantizedAlexNet(self._exact, self._upload(surroundings))
        return self._exact(self._upload(crop)).contiguous()

    def search(self, crops: torch.Tensor) -> torch.Tensor:
        """crops: (N, S, S, 3) uint8 RGB -> (N, 256, h, w) float32, on the device."""
        if self._fast is None:
            raise RuntimeError("template: call it first, it sets the ranges of the 8-bit activations")
        return self._fast(self._upload(crops))
