"""Convolutions of someone else's network for inference: BatchNorm folded in, weights in the CPU's order.

The network stays as it is, with its modules, parameters and `state_dict`: only `forward` of single modules is replaced,
as an attribute of the instance. In training, under autograd, on a GPU, in other dtypes than float32 and while a graph
is recorded the original modules run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.module import _has_any_global_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from siamfast.compat import reduced, winograd
from siamfast.ops import dispatch

# The activations that follow a convolution, in place. Not oneDNN's within the convolution: there a ReLU makes 0 of NaN,
# so a broken frame would get a confident box.
_IN_PLACE: dict[type, Callable[[torch.Tensor], torch.Tensor]] = {
    type(None): lambda x: x,
    nn.ReLU: torch.relu_,
    nn.ReLU6: lambda x: x.clamp_(0, 6),
    nn.Hardswish: lambda x: F.hardswish(x, inplace=True),
}
# A tensor, whose version counts the steps of optimizers, within torch.compile too: see _count_steps.
_STEPS = torch.zeros((), dtype=torch.int64)
_SHAPES = 4  # prepared at a time: a tracker has its search crop and a larger one for a lost target
ACTIVATIONS = tuple(kind for kind in _IN_PLACE if issubclass(kind, nn.Module))


def recorded() -> bool:
    """Whether a graph is recorded, which is for other machines and other weights than those that are prepared, or a
    mode counts or fakes PyTorch's operations: it does not know oneDNN's, and fake tensors have no numbers."""
    return torch.compiler.is_compiling() or dispatch.transformed() or torch._C._len_torch_dispatch_stack() > 0


@functools.cache
def _count_steps() -> None:
    """Count the steps of optimizers on the CPU from now on: fused ones give what they write no new version."""

    def count(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if any(value.device.type == "cpu" for group in optimizer.param_groups for value in group["params"]):
            _STEPS.add_(1)

    register_optimizer_step_post_hook(count)


def plain(convolution: nn.Conv2d, x: torch.Tensor) -> bool:
    """Whether the original modules have to serve this call."""
    return (
        torch.is_grad_enabled()
        or convolution.training
        or recorded()
        or type(x) is not torch.Tensor
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or torch.is_autocast_enabled("cpu")
    )


class FastConvolution:
    """Stands in for `convolution.forward`: the convolution, then BatchNorm, then the activation, in one call.

    Args:
        convolution: with zeros as its padding. norm: what follows it alone, or None. activation: what follows that.
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: nn.Module | None) -> None:
        self.convolution, self.norm, self.activation = convolution, norm, activation
        self._filtering, self._precision = False, "float32"
        self._forget()

    def can_reduce(self) -> bool:
        """Whether it has products enough for another precision."""
        _, stride, _, groups = geometry(self.convolution)
        return reduced.serves(self.convolution.weight, stride, groups)

    def set_precision(self, precision: str) -> None:
        """Compute in float32, bfloat16 or int8, but inside `reduced.exactly`."""
        self._precision = precision
        self._forget()

    def can_filter(self) -> bool:
        """Whether minimal filtering serves some calls."""
        _, stride, dilation, groups = geometry(self.convolution)
        square = stride == [1, 1] and dilation[0] == dilation[1]
        return square and winograd.serves(self.convolution.weight, groups)

    def set_filtering(self, filtering: bool) -> None:
        """Use minimal filtering for inputs that are large enough, or not."""
        self._filtering = filtering
        self._forget()

    def _forget(self) -> None:
        self._followers = tuple(module for module in (self.norm, self.activation) if module is not None)
        self._sources: list[tuple[dict[str, Any], str]] = []
        self._versions: list[tuple[int, int] | None] = []
        self._sources_kept: list[torch.Tensor] = []
        self._seen: set[torch.Size] = set()
        self._calls: dict[tuple[torch.Size, bool], Callable[[torch.Tensor], torch.Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # What is prepared is of this machine and is made again.
        return {name: getattr(self, name) for name in ("convolution", "norm", "activation", "_filtering", "_precision")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _find_sources(self) -> list[tuple[dict[str, Any], str]]:
        """Where the parameters and statistics are that the prepared weights are made from: (dictionary, name); none if
        one is computed, as by torch.nn.utils.parametrize."""
        owners: list[tuple[nn.Module, tuple[str, ...]]] = [(self.convolution, ("weight", "bias"))]
        if self.norm is not None:
            # PyTorch gives new statistics no new version, but the number of batches that they are of.
            owners.append((self.norm, ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")))
        places = []
        for owner, names in owners:
            for name in names:
                kept = (owner._parameters, owner._buffers, vars(owner))  # the last: torch.nn.utils.weight_norm's
                place = next((values for values in kept if name in values), None)
                if place is None:
                    return []
                places.append((place, name))
        return places

    def _current_versions(self) -> list[tuple[int, int] | None]:
        # Read from dictionaries: as an attribute of its module a parameter takes ten times as long.
        try:
            return [
                (0, _STEPS._version),
                *(
                    (value.data_ptr(), value._version) if (value := values[name]) is not None else None
                    for values, name in self._sources
                ),
            ]
        except (KeyError, RuntimeError):  # it is kept elsewhere by now, or is an inference tensor, without a version
            return []

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        x = input  # the name by which PyTorch's modules take it
        if plain(self.convolution, x) or x.dim() != 4 or self._watched():
            return type(self.convolution).forward(self.convolution, x)
        if not self._versions or self._current_versions() != self._versions:
            self._forget()
            _count_steps()
            self._sources = self._find_sources()
            self._versions = self._current_versions() if self._sources else []
            if not self._versions:
                return type(self.convolution).forward(self.convolution, x)
            # Kept, so that no other tensor gets these addresses meanwhile.
            self._sources_kept = [
                tensor.detach() for values, name in self._sources if (tensor := values[name]) is not None
            ]
        key = x.shape, self._precision == "float32" or reduced.stays_exact()
        call = self._calls.get(key)
        if call is None:
            call = self._prepare(x, exact=key[1])
            # A template is embedded once: only a shape that comes again is worth the memory of prepared weights.
            if x.shape in self._seen:
                self._calls[key] = call
                if len(self._calls) > _SHAPES:
                    self._calls.pop(next(iter(self._calls)))
                self._seen.clear()
            self._seen.add(x.shape)
        result = call(x.contiguous(memory_format=torch.channels_last))
        if self._followers:
            result._siamfast_done = self._followers  # type: ignore[attr-defined]
        return result

    def _watched(self) -> bool:
        """Whether hooks want the tensors between the modules, or BatchNorm takes the batch's statistics."""
        norm, activation = self.norm, self.activation
        if _has_any_global_hook():
            return True
        before = self.convolution
        if norm is not None:
            if before._forward_hooks or norm._forward_pre_hooks or norm.training:
                return True
            before = norm  # type: ignore[assignment]
        return activation is not None and bool(before._forward_hooks or activation._forward_pre_hooks)

    def _folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """w' = w gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta."""
        weight = self.convolution.weight.detach().double()
        bias = self.convolution.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().double()
        if self.norm is not None:
            norm = self.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            gain = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
            weight = weight * gain.view(-1, 1, 1, 1)
            bias = (bias - norm.running_mean.double()) * gain + norm.bias.detach().double()
        return weight.float(), bias.float()

    def _prepare(self, x: torch.Tensor, *, exact: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        """The fastest call for inputs of this shape; exact: in float32."""
        convolution, (weight, bias) = self.convolution, self._folded()
        padding, stride, dilation, groups = geometry(convolution)
        activate = _IN_PLACE[type(self.activation)]
        outputs = tuple(
            (side + 2 * p - d * (k - 1) - 1) // s + 1
            for side, p, d, k, s in zip(x.shape[2:], padding, dilation, convolution.kernel_size, stride, strict=True)
        )
        if (
            not exact
            and x.numel()
            and reduced.missing(self._precision) is None  # it may have been loaded on another machine
            and reduced.is_right(weight, padding, stride, dilation, groups, list(x.shape))
        ):
            less = reduced.MAKERS[self._precision](weight, bias, padding, stride, dilation, groups, list(x.shape))
            return lambda x: activate(less(x))
        again = x.shape in self._seen  # minimal filtering's memory, too, is for those
        if again and self._filtering and winograd.tiles(outputs[0], outputs[1], dilation[0]) >= winograd.FEWEST_TILES:
            filtered = winograd.Winograd(weight, bias, (padding[0], padding[1]), dilation[0], groups)
            return lambda x: activate(filtered(x))
        channels_last = weight.contiguous(memory_format=torch.channels_last)
        direct: Callable[[torch.Tensor], torch.Tensor] = functools.partial(
            F.conv2d, weight=channels_last, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        if not again:
            return lambda x: activate(direct(x))
        try:
            # What PyTorch's own compiler calls: it reorders no weights in the call.
            pointwise = torch.ops.mkldnn._convolution_pointwise
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            reordered = reorder(weight.to_mkldnn(), padding, stride, dilation, groups, list(x.shape))
            arguments: tuple[Any, ...] = (reordered, bias, padding, stride, dilation, groups, "none", [], "")
            pointwise(x.contiguous(memory_format=torch.channels_last), *arguments)
        except (AttributeError, RuntimeError):  # a PyTorch without oneDNN
            return lambda x: activate(direct(x))
        return lambda x: activate(pointwise(x, *arguments))


class Skipped:
    """Stands in for `forward` of a module that a `FastConvolution` does: returns that one's results as they are.

    Their mark lists the modules that are done, and goes with the last of them. Any other tensor, such as a shared
    activation takes elsewhere, takes the original.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        x = input
        done = getattr(x, "_siamfast_done", None)
        if done is None or done[0] is not self.module:
            result: torch.Tensor = type(self.module).forward(self.module, x)
            return result
        if len(done) > 1:
            x._siamfast_done = done[1:]  # type: ignore[attr-defined]
        else:
            del x._siamfast_done  # type: ignore[attr-defined]
        return x


def geometry(convolution: nn.Conv2d) -> tuple[list[int], list[int], list[int], int]:
    """(padding, stride, dilation, groups), with "same" and "valid" as numbers."""
    padding, dilation = convolution.padding, list(convolution.dilation)
    if isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, convolution.kernel_size, strict=True)]
        padding = tuple(r // 2 if padding == "same" else 0 for r in reach)
    return list(padding), list(convolution.stride), dilation, convolution.groups


def can_stand_in(convolution: Any) -> bool:
    """Whether `convolution` is a plain Conv2d that `FastConvolution` knows how to do."""
    # Projects subclass it to set other defaults.
    same = isinstance(convolution, nn.Conv2d) and type(convolution).forward is nn.Conv2d.forward
    if not same or type(convolution)._conv_forward is not nn.Conv2d._conv_forward or "forward" in vars(convolution):
        return False
    if convolution.padding_mode != "zeros":
        return False
    even = convolution.padding == "same" and any(k % 2 == 0 for k in convolution.kernel_size)
    weight = convolution.weight
    return not even and weight.dtype == torch.float32 and weight.device.type == "cpu" and not weight.is_inference()


def can_fold(norm: Any) -> bool:
    """Whether `norm` is a BatchNorm that scales and shifts by fixed numbers in inference."""
    same = isinstance(norm, nn.BatchNorm2d) and type(norm).forward is nn.BatchNorm2d.forward
    if not same or "forward" in vars(norm):
        return False
    return norm.weight is not None and norm.running_mean is not None and not norm.weight.is_inference()
