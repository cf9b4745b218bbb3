"""All ops keep the contract of docs/architecture.md."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import siamfast
from tests.ops.contract import CASES, Case

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# The formula in the case's dtype sets the tolerance (twice its error against float64), never below these shares of the
# largest value: a few roundings of the result itself.
FLOORS = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}


def _gradients(case: Case, inputs: tuple[torch.Tensor, ...], weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    output = case.call(*inputs)
    gradients = torch.autograd.grad(output, inputs, weight.to(output.dtype), allow_unused=True)
    return (output.detach(), *(torch.zeros_like(i) if f is None else f for f, i in zip(gradients, inputs, strict=True)))


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_values_and_gradients_are_as_near_float64_as_plain_pytorch(case: Case, dtype: torch.dtype) -> None:
    for seed in range(3):
        low = case.inputs(dtype, seed)
        # The same numbers in float64: rounding the inputs is not the op's error.
        exact = tuple(t.detach().double().requires_grad_() for t in low)
        with siamfast.backend("reference"):
            weight = torch.randn_like(case.call(*exact))
            weight = weight.to(dtype).double()
            truth = _gradients(case, exact, weight)
            plain = _gradients(case, low, weight)
        ours = _gradients(case, low, weight)
        for name, t, p, o in zip(("value", *"abcdef"), truth, plain, ours, strict=False):
            assert o.dtype == p.dtype, name
            allowed = 2 * (p.double() - t).abs().max() + FLOORS[dtype] * t.abs().max()
            assert (o.double() - t).abs().max() <= allowed, f"{name}, seed {seed}"


@every_case
def test_gradcheck(case: Case) -> None:
    assert torch.autograd.gradcheck(case.call, case.inputs())


@every_case
def test_double_backward_is_right(case: Case) -> None:
    # fast_mode: along random directions; entry by entry it takes a minute and finds no more.
    assert torch.autograd.gradgradcheck(case.call, case.inputs(), fast_mode=True)


@pytest.mark.parametrize(
    ("case", "index"),
    [(case, i) for case in CASES for i in range(len(case.raw(case.inputs())))],
    ids=lambda v: v.name if isinstance(v, Case) else str(v),
)
def test_raw_ops_pass_opcheck(case: Case, index: int) -> None:
    op, args = case.raw(case.inputs(torch.float32, grad=False))[index]
    torch.library.opcheck(op, args)


@every_case
@pytest.mark.filterwarnings("error:.*may not alias any inputs:UserWarning", "error:Dynamo detected:UserWarning")
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_ops_compile_in_one_graph(case: Case, dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(case.call, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    inputs = case.inputs()
    expected = _gradients(case, inputs, torch.ones_like(case.call(*inputs)))
    output = compiled(*inputs)
    gradients = torch.autograd.grad(output, inputs, torch.ones_like(output))
    torch.testing.assert_close(output, expected[0])
    torch.testing.assert_close(gradients, expected[1:])


@pytest.mark.parametrize("op", [siamfast.xcorr, siamfast.xcorr_depthwise])
def test_shapes_of_a_dynamic_graph_do_not_come_from_onnxs_operators(op: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those take seconds: some forty for a template of 6 x 6."""

    def decomposed(*arguments: Any) -> None:
        raise AssertionError("the operators for ONNX were asked for a shape")

    raw = getattr(torch.ops.siamfast, op.__name__).default
    monkeypatch.setitem(torch._decomp.decomposition_table, raw, decomposed)
    torch._dynamo.reset()
    z, x = torch.rand(2, 4, 3, 2), torch.rand(4, 4, 8, 9)
    compiled = torch.compile(op, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, x), op(z, x))


@pytest.mark.parametrize("op", [siamfast.xcorr, siamfast.xcorr_depthwise])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_graph_may_not_know_its_number_of_samples(op: Any, layout: torch.memory_format) -> None:
    """As that of x[mask]; values, gradients and their strides are those of the op itself."""
    z, x = torch.rand(1, 4, 3, 3), torch.rand(3, 4, 8, 9).contiguous(memory_format=layout)
    torch._dynamo.reset()
    results = []
    for call in (op, torch.compile(op, fullgraph=True, backend="aot_eager")):
        leaves = [t.clone().requires_grad_() for t in (z, x)]
        if call is not op:
            torch._dynamo.decorators.mark_unbacked(leaves[1], 0)
        output = call(*leaves)
        results.append((output, *torch.autograd.grad((output**2).sum(), leaves)))
    torch.testing.assert_close(results[1], results[0], check_stride=True)


@every_case
def test_ops_export(case: Case) -> None:
    class Module(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return case.call(*inputs)

    inputs = case.inputs(torch.float32, grad=False)
    program = torch.export.export(Module(), inputs)
    torch.testing.assert_close(program.module()(*inputs), case.call(*inputs))
    # What was exported trains, as a module of PyTorch's own ops does.
    inputs = case.inputs(seed=1)
    program = torch.export.export(Module(), inputs)
    expected = _gradients(case, inputs, torch.ones_like(case.call(*inputs)))
    output = program.module()(*inputs)
    gradients = torch.autograd.grad(output, inputs, torch.ones_like(output))
    torch.testing.assert_close((output, *gradients), expected)


@every_case
def test_stride_0_and_transposed_gradients_give_the_same(case: Case) -> None:
    inputs = case.inputs()
    output = case.call(*inputs)
    wide = torch.ones((), dtype=output.dtype).expand_as(output)
    dense = torch.autograd.grad(case.call(*inputs), inputs, torch.ones_like(output))
    torch.testing.assert_close(torch.autograd.grad(output, inputs, wide), dense)
    if output.dim() >= 2:
        weight = torch.randn_like(output)
        turned = weight.transpose(-1, -2).contiguous().transpose(-1, -2)
        first = torch.autograd.grad(case.call(*inputs), inputs, weight)
        torch.testing.assert_close(torch.autograd.grad(case.call(*inputs), inputs, turned), first)


@every_case
def test_any_strides_give_the_same(case: Case) -> None:
    inputs = case.inputs(grad=False)
    expected = case.call(*inputs)
    for number, tensor in enumerate(inputs):
        variants = [tensor.transpose(-1, -2).contiguous().transpose(-1, -2)] if tensor.dim() > 1 else []
        if tensor.dim() == 4:
            variants.append(tensor.contiguous(memory_format=torch.channels_last))
        # Surrounded by NaN, so that a stray read shows.
        wide = torch.full([s + 2 for s in tensor.shape], float("nan"), dtype=tensor.dtype)
        inner = wide[tuple(slice(1, -1) for _ in tensor.shape)]
        inner.copy_(tensor)
        for variant in [*variants, inner]:
            changed = (*inputs[:number], variant, *inputs[number + 1 :])
            torch.testing.assert_close(case.call(*changed), expected)


@every_case
def test_only_requested_gradients_are_computed(case: Case) -> None:
    full = case.inputs()
    output = case.call(*full)
    expected = torch.autograd.grad(output, full, torch.ones_like(output))
    for index in range(len(full)):
        inputs = [t.detach().clone() for t in full]
        inputs[index].requires_grad_()
        case.call(*inputs).sum().backward()
        torch.testing.assert_close(inputs[index].grad, expected[index])
        assert all(t.grad is None for i, t in enumerate(inputs) if i != index)


@every_case
def test_nothing_is_saved_when_no_gradient_is_needed(case: Case) -> None:
    assert case.call(*case.inputs(grad=False)).grad_fn is None
    with torch.no_grad():
        assert case.call(*case.inputs()).grad_fn is None
    with torch.inference_mode():
        assert case.call(*case.inputs()).is_inference()


@every_case
def test_two_runs_give_the_same_bits(case: Case) -> None:
    inputs = case.inputs(torch.float32)
    first, second = (_gradients(case, inputs, torch.ones_like(case.call(*inputs))) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_case
def test_inputs_and_gradients_are_not_written(case: Case) -> None:
    inputs = case.inputs(torch.float32)
    kept = [t.detach().clone() for t in inputs]
    output = case.call(*inputs)
    weight = torch.randn_like(output)
    before = weight.clone()
    torch.autograd.grad(output, inputs, weight)
    assert torch.equal(weight, before)
    assert all(torch.equal(a, b) for a, b in zip(inputs, kept, strict=True))


@every_case
def test_autocast_follows_its_rule(case: Case) -> None:
    inputs = case.inputs(torch.float32, grad=False)
    with torch.autocast("cpu", torch.bfloat16):
        output = case.call(*inputs)
    # Correlations follow convolution; the rest stays in float32, where it is exact.
    follows = case.name.startswith("xcorr") and case.name != "xcorr-loss"
    assert output.dtype == (torch.bfloat16 if follows else torch.float32)
    torch.testing.assert_close(output.float(), case.call(*inputs), atol=0.3, rtol=0.1)


@every_case
def test_autocast_rounds_nothing_inside_an_op(case: Case) -> None:
    """Autocast may choose the dtype of the inputs, never that of the sums and products in a kernel."""
    follows = case.name.startswith("xcorr")
    inputs = case.inputs(torch.bfloat16 if follows else torch.float32, grad=False)
    with torch.autocast("cpu", torch.bfloat16):
        result = case.call(*inputs)
    assert torch.equal(result, case.call(*inputs))


@every_case
def test_a_backend_that_cannot_serve_says_why(case: Case) -> None:
    with siamfast.backend("triton"), pytest.raises(ValueError, match="backend 'triton' cannot run this call: "):
        case.call(*case.inputs(torch.float32, grad=False))


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="backend: got 'cuda', expected one of triton, cpp, torch, reference"):
        siamfast.backend("cuda").__enter__()
