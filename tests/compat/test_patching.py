"""`siamfast.compat`: other projects' correlations under their own names, and swapped in place in packages with their
layout."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from siamfast.compat import hdn, lighttrack, mmtracking, nanotrack, patch, pysot, siamdw, siamfc_pytorch, siammask
from tests.compat.projects import make_package


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


def test_pysots_functions_and_their_importers_are_swapped_and_restored(packages: Path) -> None:
    make_package(
        packages,
        "pysot_like",
        {
            "core/xcorr.py": "from ..plain import grouped, up_channel\n"
            "def xcorr_fast(x, kernel): return up_channel(x, kernel)\n"
            "def xcorr_slow(x, kernel): return up_channel(x, kernel)\n"
            "def xcorr_depthwise(x, kernel): return grouped(x, kernel)\n",
            "models/head/rpn.py": "from ...core.xcorr import xcorr_fast as fast, xcorr_depthwise\n"
            "def head(z, x): return fast(x, z), xcorr_depthwise(x, z)\n",
        },
    )
    rpn = importlib.import_module("pysot_like.models.head.rpn")
    core = importlib.import_module("pysot_like.core.xcorr")
    original = core.xcorr_depthwise
    z, x = _random(2, 4, 3, 3), _random(2, 4, 8, 8)
    expected = rpn.head(z, x)
    with patch("pysot_like") as done:
        assert rpn.xcorr_depthwise is core.xcorr_depthwise
        assert core.xcorr_depthwise.function is pysot.xcorr_depthwise
        assert rpn.fast.function is pysot.xcorr_fast
        assert sorted(done.swapped) == [
            "pysot_like.core.xcorr.xcorr_depthwise -> siamfast.compat.pysot.xcorr_depthwise",
            "pysot_like.core.xcorr.xcorr_fast -> siamfast.compat.pysot.xcorr_fast",
            "pysot_like.core.xcorr.xcorr_slow -> siamfast.compat.pysot.xcorr_slow",
            "pysot_like.models.head.rpn.fast -> siamfast.compat.pysot.xcorr_fast",
            "pysot_like.models.head.rpn.xcorr_depthwise -> siamfast.compat.pysot.xcorr_depthwise",
        ]
        assert done.left == []
        torch.testing.assert_close(rpn.head(z, x), expected)
    assert rpn.xcorr_depthwise is core.xcorr_depthwise is original
    done.undo()  # a second time has no effect


@pytest.mark.parametrize(
    ("name", "body", "ours"),
    [
        ("conv2d_dw_group", "(x, kernel): return grouped(x, kernel)", "pysot.xcorr_depthwise"),
        ("depthwise_correlation", "(x, kernel): return grouped(x, kernel)", "pysot.xcorr_depthwise"),
        ("xcorr_depthwise", "(x, kernel): return grouped(x, kernel, 1)", "nanotrack.xcorr_depthwise"),
        ("xcorr_depthwise", "(kernel, x): return grouped(x, kernel)", "pysot.xcorr_depthwise"),
        (
            "pixel_corr_mat",
            "(z, x): return (z.flatten(2)[..., None] * x.flatten(2)[:, :, None]).sum(1).unflatten(2, x.shape[2:])",
            "lighttrack.pixel_corr_mat",
        ),
        (
            "xcorr_pixelwise",
            "(x, kernel):\n"
            "    products = kernel.flatten(2)[..., None] * x.flatten(2)[:, :, None]\n"
            "    return products.sum(1).unflatten(2, x.shape[2:])",
            "nanotrack.xcorr_pixelwise",
        ),
        (
            "xcorr_depthwise_circular",
            "(x, kernel):\n"
            "    x = F.pad(x, (0, 0, x.size(2) // 2, x.size(2) // 2), 'circular')\n"
            "    return grouped(F.pad(x, (x.size(3) // 2, x.size(3) // 2, 0, 0), 'replicate'), kernel)",
            "hdn.xcorr_depthwise_circular",
        ),
    ],
)
def test_a_function_is_swapped_only_if_it_computes_the_same(packages: Path, name: str, body: str, ours: str) -> None:
    make_package(
        packages, "project", {"model.py": f"import torch.nn.functional as F\nfrom .plain import *\ndef {name}{body}\n"}
    )
    model = importlib.import_module("project.model")
    order = (_random(2, 3, 3, 4), _random(2, 3, 9, 8))
    if body.startswith("(x"):
        order = order[::-1]
    expected = getattr(model, name)(*order)
    with patch(model) as done:
        assert done.swapped == [f"project.model.{name} -> siamfast.compat.{ours}"]
        torch.testing.assert_close(getattr(model, name)(*order), expected)


def test_a_matrix_product_is_left_alone(packages: Path) -> None:
    body = "(kernel.flatten(2).transpose(1, 2) @ x.flatten(2)).reshape(len(x), -1, *x.shape[2:])"
    make_package(packages, "product", {"model.py": f"def xcorr_pixelwise(x, kernel):\n    return {body}\n"})
    model = importlib.import_module("product.model")
    original = model.xcorr_pixelwise
    done = patch("product")
    assert done.swapped == []
    assert done.left == ["product.model.xcorr_pixelwise: one matrix product already, which ours is too"]
    assert model.xcorr_pixelwise is original


@pytest.mark.parametrize(
    "body",
    [
        "(x, kernel): return grouped(x, kernel) * 2",
        "(x, kernel): return grouped(x, kernel, 2)",
        "(x, kernel): return grouped(x, kernel), 1",
        "(x, kernel, head): return grouped(x, kernel)",
        "(x, kernel): return grouped(x, kernel).sum(1, keepdim=True)",
        "(x, kernel): return grouped(x, kernel.detach())",
    ],
)
def test_a_fork_with_other_values_is_left_alone_and_named(packages: Path, body: str) -> None:
    make_package(packages, "fork", {"model.py": f"from .plain import *\ndef xcorr_depthwise{body}\n"})
    model = importlib.import_module("fork.model")
    original = model.xcorr_depthwise
    done = patch("fork")
    assert done.swapped == []
    assert done.left == ["fork.model.xcorr_depthwise: its values or gradients differ from a plain correlation's"]
    assert model.xcorr_depthwise is original


def test_another_order_of_a_templates_kernels_is_left_alone(packages: Path) -> None:
    lines = """
def {name}(x, kernel):
    one = kernel.{view}
    return F.conv2d(x.flatten(0, 1)[None], one.flatten(0, 1), groups=len(x)).view(len(x), one.shape[1], {size})
"""
    size = "x.shape[2] - kernel.shape[2] + 1, x.shape[3] - kernel.shape[3] + 1"
    slowest, fastest = "unflatten(1, (-1, x.shape[1]))", "unflatten(1, (x.shape[1], -1)).transpose(1, 2)"
    make_package(
        packages,
        "orders",
        {
            "theirs.py": "import torch.nn.functional as F\n" + lines.format(name="xcorr_fast", view=fastest, size=size),
            "pysots.py": "import torch.nn.functional as F\n" + lines.format(name="xcorr_fast", view=slowest, size=size),
        },
    )
    for name in ("theirs", "pysots"):
        importlib.import_module(f"orders.{name}")
    with patch("orders") as done:
        assert done.swapped == ["orders.pysots.xcorr_fast -> siamfast.compat.pysot.xcorr_fast"]
        assert done.left == ["orders.theirs.xcorr_fast: its values or gradients differ from a plain correlation's"]


def test_siamfc_pytorchs_method_and_siamdws_head_are_swapped(packages: Path) -> None:
    make_package(
        packages,
        "heads",
        {
            "siamfc.py": "import torch.nn as nn, torch.nn.functional as F\n"
            "class SiamFC(nn.Module):\n"
            "    def forward(self, z, x): return self._fast_xcorr(z, x) * 0.001\n"
            "    def _fast_xcorr(self, z, x):\n"
            "        n = len(z)\n"
            "        out = F.conv2d(x.reshape(-1, n * z.shape[1], *x.shape[2:]), z, groups=n)\n"
            "        return out.reshape(len(x), -1, *out.shape[2:])\n",
            "connect.py": "import torch.nn as nn, torch.nn.functional as F\n"
            "from .plain import up_channel\n"
            "class Corr_Up(nn.Module):\n"
            "    def _conv2d_group(self, x, kernel): return up_channel(x, kernel)\n"
            "    def forward(self, z_f, x_f):\n"
            "        return 0.1 * (self._conv2d_group(x_f, z_f) if self.training else F.conv2d(x_f, z_f))\n",
            "adjusted.py": "import torch.nn as nn, torch.nn.functional as F\n"
            "class Corr_Up(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.loc_adjust = nn.Conv2d(1, 1, 1)\n"
            "    def forward(self, z_f, x_f): return self.loc_adjust(F.conv2d(x_f, z_f))\n",
        },
    )
    siamfc, connect, _ = (importlib.import_module(f"heads.{n}") for n in ("siamfc", "connect", "adjusted"))
    z, x = _random(2, 3, 3, 3), _random(2, 3, 8, 8)
    head, corr = siamfc.SiamFC(), connect.Corr_Up()
    expected = head(z, x[:2]), corr(z, x), corr.eval()(z, x)
    corr.train()
    with patch("heads") as done:
        assert sorted(done.swapped) == [
            "heads.connect.Corr_Up.forward -> siamfast.compat.siamdw.Corr_Up.forward",
            "heads.siamfc.SiamFC._fast_xcorr -> siamfast.compat.siamfc_pytorch.fast_xcorr",
        ]
        assert done.left == [
            "heads.adjusted.Corr_Up.forward: its values or gradients differ from siamfast.compat.siamdw's"
        ]
        torch.testing.assert_close((head(z, x), corr(z, x), corr.eval()(z, x)), expected)
    assert "siamfast" not in siamfc.SiamFC._fast_xcorr.__module__


def test_gradients_pass_through_a_shim() -> None:
    z, x = _random(2, 6, 3, 3).requires_grad_(), _random(2, 3, 8, 8).requires_grad_()
    out = pysot.xcorr_fast(x, z)
    grouped = F.conv2d(x.view(1, 6, 8, 8), z.view(4, 3, 3, 3), groups=2).view(2, 2, 6, 6)
    torch.testing.assert_close(out, grouped)
    weight = torch.randn_like(out)
    torch.testing.assert_close(torch.autograd.grad(out, (z, x), weight), torch.autograd.grad(grouped, (z, x), weight))


def test_channels_last_features_work_where_the_projects_view_fails() -> None:
    z, x = _random(2, 4, 3, 3), _random(2, 4, 8, 8)
    last = x.contiguous(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view"):
        last.view(1, 8, 8, 8)
    torch.testing.assert_close(pysot.xcorr_depthwise(last, z), pysot.xcorr_depthwise(x, z), check_stride=False)


def test_names_of_other_projects_equal_their_formulas() -> None:
    z, x = _random(2, 3, 3, 3), _random(2, 3, 8, 8)
    plain = pysot.xcorr_depthwise(x, z)
    for same in (siammask.conv2d_dw_group, mmtracking.depthwise_correlation):
        torch.testing.assert_close(same(x, z), plain)
    assert nanotrack.xcorr_depthwise(x, z).shape == (2, 3, 8, 8)
    torch.testing.assert_close(nanotrack.xcorr_depthwise(x, z, padding=0), plain)
    torch.testing.assert_close(lighttrack.pixel_corr(z, x), nanotrack.xcorr_pixelwise(x, z))
    assert hdn.xcorr_depthwise_circular(x, z).shape == (2, 3, 14, 14)
    torch.testing.assert_close(siamfc_pytorch.SiamFC(0.5)(z, x), 0.5 * pysot.xcorr_slow(x, z))
    torch.testing.assert_close(siamdw.Corr_Up().eval()(z, x), 0.1 * F.conv2d(x, z))


@pytest.mark.parametrize(
    ("project", "error", "message"),
    [
        (3, TypeError, "project: got int, expected a module or its name"),
        ("no_such_project", ValueError, "project: no module 'no_such_project' is loaded; import it first"),
        ("json", ValueError, "project: 'json' has none of xcorr_fast"),
        ("siamfc-pytorch", ValueError, "import it first; the package of that repository is 'siamfc'"),
        ("video_analyst", ValueError, "import it first; the package of that repository is 'videoanalyst'"),
        ("SiamFC++", ValueError, "import it first; the package of that repository is 'videoanalyst'"),
        ("PySOT", ValueError, "import it first; the package of that repository is 'pysot'"),
        ("DaSiamRPN", ValueError, "import it first; but where a network calls F.conv2d inside `forward`"),
        (
            "siamfast.compat.mmtracking",
            ValueError,
            "has imported siamfast's functions already: .*depthwise_correlation",
        ),
    ],
)
def test_bad_projects_are_named(project: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        patch(project)  # type: ignore[arg-type]


def test_misuse_raises_an_error_that_a_project_would_catch() -> None:
    with pytest.raises(ValueError, match="z: got 3 channels, expected x's 4"):
        pysot.xcorr_depthwise(_random(2, 4, 8, 8), _random(2, 3, 3, 3))


LOSSES = """
import torch.nn as nn, torch.nn.functional as F
class BalancedLoss(nn.Module):
    def __init__(self, neg_weight=1.0):
        super().__init__()
        self.neg_weight = neg_weight
    def forward(self, input, target):
        positives, negatives = (target == 1).float(), (target == 0).float()
        weight = positives / positives.sum() + negatives / negatives.sum() * self.neg_weight
        return F.binary_cross_entropy_with_logits(input, target, weight / weight.sum(), reduction="sum")
class FocalLoss(nn.Module):
    def forward(self, input, target):
        return F.binary_cross_entropy_with_logits(input, target)
"""


def test_losses_are_swapped_where_they_are_the_same(packages: Path) -> None:
    make_package(packages, "losses_project", {"losses.py": LOSSES})
    losses = importlib.import_module("losses_project.losses")
    loss = losses.BalancedLoss(0.5)
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(4, 1, 17, 17, generator=generator).requires_grad_()
    labels = (torch.rand(scores.shape, generator=generator) < 0.1).float()

    def value_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        value = loss(scores, labels)
        return value.detach(), torch.autograd.grad(value, scores)[0]

    before = value_and_gradient()
    with patch("losses_project") as done:
        assert done.swapped == [
            "losses_project.losses.BalancedLoss.forward -> siamfast.compat.siamfc_pytorch.BalancedLoss.forward"
        ]
        assert done.left == [
            "losses_project.losses.FocalLoss.forward: "
            "its values or gradients differ from siamfast.compat.siamfc_pytorch's"
        ]
        torch.testing.assert_close(value_and_gradient(), before)
    torch.testing.assert_close(value_and_gradient(), before, rtol=0, atol=0)
