"""Convolutions that stand in for other projects' modules: the same values, and the originals where those are needed.

Tolerance: 1e-4 of the largest result: folding BatchNorm rounds each weight once (6e-8), sums of up to some thousand
products differ by their order (1e-6), and minimal filtering by 1e-5.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import siamfast.compat
from siamfast.compat.convolutions import FastConvolution, Skipped
from siamfast.compat.observed import Chain, chains

pytestmark = pytest.mark.usefixtures("filtering_of_small_inputs")
ACTIVATIONS = {"none": None, "relu": nn.ReLU(True), "relu6": nn.ReLU6(), "hardswish": nn.Hardswish()}


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with statistics as after training."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator))
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.3)
            norm.weight.data.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
            norm.bias.data.copy_(torch.randn(norm.num_features, generator=generator))
    return module.eval()


def quickened(network: nn.Module, run: object, filtering: bool = True) -> list[Chain]:
    found = chains([network], run)  # type: ignore[arg-type]
    for chain in found:
        fast = FastConvolution(*chain)
        fast.set_filtering(filtering and fast.can_filter())
        chain.convolution.forward = fast
        for module in chain[1:]:
            if module is not None:
                module.forward = Skipped(module)
    return found


def close(result: torch.Tensor, truth: torch.Tensor) -> bool:
    return float((result - truth).abs().max()) <= 1e-4 * max(1.0, float(truth.abs().max()))


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2, 8]),
    bias=st.booleans(),
    norm=st.booleans(),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    sides=st.tuples(st.integers(9, 24), st.integers(9, 24)),
    seed=st.integers(0, 2**31),
)
def test_same_values(
    kernel: tuple[int, int],
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    bias: bool,
    norm: bool,
    activation: str,
    sides: tuple[int, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(8, 16, kernel, stride, padding, dilation, groups, bias)]
    layers += [nn.BatchNorm2d(16)] * norm
    last = ACTIVATIONS[activation]
    network = trained(nn.Sequential(*layers, *([] if last is None else [copy.deepcopy(last)])), seed)
    x = torch.randn(2, 8, *sides)
    with torch.no_grad():
        truth = network(x.clone())
        found = quickened(network, lambda: network(x.clone()))
        assert [len([m for m in chain if m is not None]) for chain in found] == [len(network)]
        for _ in range(3):  # plain the first time, prepared from the second on
            result = network(x.clone())
            assert result.shape == truth.shape
            assert close(result, truth)


class Block(nn.Module):
    """A residual block whose one ReLU serves two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + x)


def test_an_activation_of_two_places_stays() -> None:
    block = trained(Block())
    x = torch.randn(1, 8, 16, 16)
    with torch.no_grad():
        truth = block(x)
        found = quickened(block, lambda: block(x))
        assert [(c.norm is not None, c.activation) for c in found] == [(True, None), (True, None)]
        block(x)
        assert close(block(x), truth)


@pytest.mark.parametrize("name", ["bn1", "relu"])
def test_a_module_that_is_called_elsewhere_later_does_its_work_there(name: str) -> None:
    network = trained(nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 8, 3), bn1=nn.BatchNorm2d(8), relu=nn.ReLU())))
    x, features = torch.randn(1, 3, 16, 16), torch.randn(1, 8, 16, 16)
    with torch.no_grad():
        truth, elsewhere = network(x), network.get_submodule(name)(features)
        assert len(quickened(network, lambda: network(x))) == 1
        for _ in range(3):
            assert close(network(x), truth)
            assert torch.equal(network.get_submodule(name)(features), elsewhere)
        assert not vars(network(x))  # results are saved and copied without a mark


@pytest.mark.parametrize("place", [0, 1, 2])
def test_hooks_that_are_added_later_get_what_they_got(place: int) -> None:
    network, x = network_and_input()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        quickened(network, lambda: network(x))
        network(x)
        for each in (network, twin):
            each[place].register_forward_hook(lambda module, inputs, output: output * 0.5 - 1)
            each[place].register_forward_pre_hook(lambda module, inputs: inputs[0] * 0.5 - 1)
        for _ in range(3):
            assert close(network(x), twin(x))


def test_batch_norm_that_is_trained_later_takes_the_batch() -> None:
    network, x = network_and_input()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        quickened(network, lambda: network(x))
        network(x)
        network[1].train(), twin[1].train()
        assert torch.equal(network(x), twin(x))
        assert torch.equal(network[1].running_mean, twin[1].running_mean)


def test_a_convolution_whose_result_two_modules_take_is_not_folded() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.first, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.first(y) + self.second(y)

    fork = trained(Fork())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert [chain.norm for chain in chains([fork], lambda: fork(x))] == [None]


class _Sum(nn.Module):
    def forward(self, *, terms: list[torch.Tensor]) -> torch.Tensor:
        return terms[0] + terms[1]


@pytest.mark.parametrize(
    "body",
    [
        lambda n, y: n.norm(y) + y,
        lambda n, y: n.norm(torch.relu_(y)),
        lambda n, y: torch.cat([n.norm(y), y]),
        lambda n, y: n.sum(terms=[n.norm(y), y]),
        lambda n, y: n.norm(y) * y.mean().item(),
        lambda n, y: n.norm(y.mul_(2)),
        lambda n, y: n.norm(y) if y[:, 0].max() > 100 else y,
    ],
    ids=["residual", "in place", "list", "list of a module", "number", "method", "part"],
)
def test_a_convolution_whose_result_a_function_takes_is_not_folded(
    body: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.sum = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), _Sum()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return body(self, y)

    network = trained(Network())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert [chain.norm for chain in chains([network], lambda: network(x))] == [None]


def test_asking_for_a_shape_takes_nothing() -> None:
    class Network(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self[0](x)
            assert y.shape[1] == y.size(1) == 4
            assert y.dtype == torch.float32
            return self[1](y)

    network, x = trained(Network(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert [chain.norm for chain in chains([network], lambda: network(x))] == [network[1]]


def network_and_input() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return trained(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())), torch.randn(1, 8, 20, 20)


def test_training_and_gradients_take_the_originals() -> None:
    network, x = network_and_input()
    original = copy.deepcopy(network)
    with torch.no_grad():
        quickened(network, lambda: network(x))
    for mode in (False, True):
        network.train(mode), original.train(mode)
        for each in (network, original):
            each.zero_grad()
            each(x).square().sum().backward()
        for mine, theirs in zip(network.parameters(), original.parameters(), strict=True):
            assert mine.grad is not None
            assert torch.equal(mine.grad, theirs.grad)
        for mine, theirs in zip(network.buffers(), original.buffers(), strict=True):
            assert torch.equal(mine, theirs)


def test_modules_take_their_input_by_its_name() -> None:
    network, x = network_and_input()
    with torch.no_grad():
        expected = network(x)
        quickened(network, lambda: network(x))
        y = x
        for module in network:
            y = module(input=y)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)


def test_graphs_record_the_originals() -> None:
    network, x = network_and_input()
    original, smaller = copy.deepcopy(network), torch.randn(1, 8, 15, 14)
    with torch.no_grad():
        quickened(network, lambda: network(x))
        network(x), network(x)
        traced = torch.jit.trace(network, x)
        exported = torch.export.export(network, (x,)).module()
        compiled = torch.compile(network, backend="eager", fullgraph=True)
        network[0].weight.mul_(2), original[0].weight.mul_(2)
        assert torch.equal(traced(smaller), original(smaller))
        for _ in range(3):
            assert torch.equal(compiled(x), original(x))
        assert close(exported(x), original(x))


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_other_dtypes_take_the_originals(double: bool) -> None:
    network, x = network_and_input()
    with torch.no_grad():
        quickened(network, lambda: network(x))
        network(x), network(x)
        if double:
            network.double()
            assert network(x.double()).dtype == torch.float64
        else:
            with torch.autocast("cpu", torch.bfloat16):
                assert network(x).dtype == torch.bfloat16


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.Hardswish])
def test_a_broken_pixel_stays_seen(activation: type[nn.Module]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), nn.Conv2d(4, 4, 3), activation()).eval()
    image = torch.rand(1, 3, 20, 20)
    broken = image.clone()
    broken[0, 0, 5, 5] = float("nan")
    with torch.no_grad():
        expected = network(broken).isnan()
        done = siamfast.compat.accelerate(network, trial_run=lambda: network(image))
        for _ in range(3):  # prepared by now
            network(image)
        assert expected.any()
        assert torch.equal(network(broken).isnan(), expected)
    done.undo()


def test_what_watches_pytorchs_operations_sees_the_originals() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    image = torch.rand(1, 3, 20, 20)
    with torch.no_grad(), siamfast.compat.accelerate(network, trial_run=lambda: network(image)):
        with FlopCounterMode(display=False) as counter:
            network(image)
        assert counter.get_total_flops() == 2 * 4 * 18 * 18 * 27
        with FakeTensorMode(allow_non_fake_inputs=True):
            network(image), network(image)
        assert type(network(image)) is torch.Tensor
        assert torch.func.vmap(network)(image[None]).shape == (1, 1, 4, 18, 18)
