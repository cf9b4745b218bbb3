"""Convolutions that stand in for other projects' modules use the weights and statistics that the network has now.

Tolerance: as in test_convolutions.py.
"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from tests.compat.test_convolutions import close, network_and_input, quickened, trained

pytestmark = pytest.mark.usefixtures("filtering_of_small_inputs")


def test_new_weights_are_used() -> None:
    network, x = network_and_input()
    other = trained(copy.deepcopy(network), seed=5)
    with torch.no_grad():
        quickened(network, lambda: network(x))
        for _ in range(3):
            network(x)
        assert network.state_dict().keys() == other.state_dict().keys()
        network.load_state_dict(other.state_dict())
        for _ in range(3):
            assert close(network(x), other(x))


@pytest.mark.parametrize("fused", [False, True])
def test_a_training_between_is_noticed(fused: bool) -> None:
    """Neither fused optimizers nor BatchNorm give what they write a new version."""
    network, x = network_and_input()
    twin = copy.deepcopy(network)

    def look() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return [(network.eval()(x), twin.eval()(x)) for _ in range(3)][-1]

    with torch.no_grad():
        quickened(network, lambda: network(x))
    before, _ = look()
    for each in (network, twin):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.3, fused=fused)
        each(x).square().sum().backward()  # in eval mode
        optimizer.step()
    assert close(*look())
    assert not close(look()[0], before)
    for each in (network, twin):
        with torch.no_grad():
            each.train()(x * 3 + 1)  # new statistics
    assert close(*look())
    for each in (network, twin):
        each[1].train()
        with torch.no_grad():
            each(x * 5 - 1)
    assert close(*look())


@pytest.mark.parametrize(
    "written", ["validated before the step", "gradients of a copy", "compiled", "statistics alone"]
)
def test_new_values_without_a_new_version_are_noticed(written: str) -> None:
    """None of the calls between tells the accelerated convolutions that something is trained."""
    network, x = network_and_input()
    with torch.no_grad():
        quickened(network, lambda: network(x))
    other = copy.deepcopy(network)

    def frames() -> torch.Tensor:
        with torch.no_grad():
            return [network.eval()(x) for _ in range(3)][-1]

    before = frames()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    if written == "statistics alone":
        network[1].train()(torch.randn(4, network[0].out_channels, 5, 5) * 3 + 2)
    else:
        (other if written == "gradients of a copy" else network)(x).square().mean().backward()
        for mine, its in zip(network.parameters(), other.parameters(), strict=True):
            mine.grad = its.grad if mine.grad is None else mine.grad
        frames()
        step = torch.compile(optimizer.step, backend="aot_eager") if written == "compiled" else optimizer.step
        step()
    assert not close(frames(), before)
    assert close(frames(), network(x))  # with autograd the original modules serve


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"])
@pytest.mark.parametrize("way", ["in place", "assigned", "data"])
def test_a_single_new_tensor_is_used(name: str, way: str) -> None:
    network, x = network_and_input()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        quickened(network, lambda: network(x))
        for factor in (2.0, 3.0, 0.5):  # an address that is freed may be another's next time
            for each in (network, twin):
                tensor = each.state_dict()[name]
                if way == "in place":
                    tensor.mul_(factor)
                elif way == "assigned":
                    each.load_state_dict({**each.state_dict(), name: tensor * factor}, assign=True)
                else:
                    each.get_submodule(name[0]).__getattr__(name[2:]).data = tensor * factor
            for _ in range(3):
                assert close(network(x), twin(x))


def test_copied_and_pickled() -> None:
    network, x = network_and_input()
    with torch.no_grad():
        truth = network(x)
        quickened(network, lambda: network(x))
        network(x), network(x)
        for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert close(twin(x), truth)
            twin[0].weight.mul_(0)  # a copy has weights of its own
            assert not close(twin(x), truth)
            assert close(network(x), truth)


def test_few_shapes_are_kept_prepared() -> None:
    network, _ = network_and_input()
    with torch.no_grad():
        quickened(network, lambda: network(torch.randn(1, 8, 20, 20)))
        fast = network[0].forward
        for side in range(10, 30):
            x = torch.randn(1, 8, side, side)
            for _ in range(3):
                assert network(x).shape[2:] == (side - 2, side - 2)
        assert len(fast._calls) <= 4


def test_parameters_that_are_kept_elsewhere_later() -> None:
    network, x = network_and_input()
    with torch.no_grad():
        quickened(network, lambda: network(x))
        for _ in range(3):
            network(x)
        torch.nn.utils.weight_norm(network[0])
        network[0].weight_g.mul_(2)
        original = copy.deepcopy(network)
        for module in original:
            vars(module).pop("forward", None)
        for _ in range(3):
            assert close(network(x), original(x))
        network[0].bias.zero_()
        original[0].bias.zero_()
        assert close(network(x), original(x))


class _Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * 2


def test_a_parametrization_that_is_registered_later() -> None:
    network, x = network_and_input()
    twin = copy.deepcopy(network)
    with torch.no_grad():
        quickened(network, lambda: network(x))
        for _ in range(3):
            network(x)
        for each in (network, twin):
            torch.nn.utils.parametrize.register_parametrization(each[0], "weight", _Doubled())
        for _ in range(3):
            assert close(network(x), twin(x))
        for each in (network, twin):
            each[0].parametrizations["weight"].original.mul_(-3)
        for _ in range(3):
            assert close(network(x), twin(x))


def test_weights_without_a_version_and_hooks_of_all_modules() -> None:
    network = trained(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
    x = torch.randn(1, 3, 9, 9)
    quickened(network, lambda: network(x))
    lowest = []
    hook = nn.modules.module.register_module_forward_hook(lambda module, given, result: lowest.append(result.min()))
    with torch.no_grad():
        network(x)
        hook.remove()
        assert lowest[0] < 0  # the convolution's own, not what follows it
        with torch.inference_mode():
            weights = {name: value.clone() for name, value in network.state_dict().items()}
            network.load_state_dict(weights, assign=True)
        plain_result = type(network[0]).forward(network[0], x)  # type: ignore[arg-type,operator]
        assert torch.equal(network[0].forward(x), plain_result)  # type: ignore[operator,union-attr]
