"""Situations in which a patch of another project used to go wrong without a word."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch

from siamfast.compat import patch, pysot
from tests.compat.projects import make_package

CORE = "from .plain import grouped\ndef xcorr_depthwise(x, kernel): return grouped(x, kernel)\n"
TURNED = "from .plain import grouped\ndef xcorr_depthwise(kernel, x): return grouped(x, kernel)\n"
MODEL = """
import torch
from .core import xcorr_depthwise
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.xcorr_depthwise = xcorr_depthwise
    def forward(self, z, x):
        return self.xcorr_depthwise(x, z)
"""


def _features() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 4, 3, 3), torch.randn(2, 4, 8, 8)


def test_a_model_built_before_the_patch_uses_ours_while_it_lasts(packages: Path) -> None:
    make_package(packages, "traps_a", {"core.py": CORE, "model.py": MODEL})
    model = importlib.import_module("traps_a.model").Model()
    original, (z, x) = model.xcorr_depthwise, _features()
    expected = model(z, x)
    with patch("traps_a") as done:
        assert model.xcorr_depthwise.function is pysot.xcorr_depthwise
        assert "Model.xcorr_depthwise -> siamfast.compat.pysot.xcorr_depthwise" in done.swapped
        torch.testing.assert_close(model(z, x), expected)
    assert model.xcorr_depthwise is original


@pytest.mark.parametrize("core", [CORE, TURNED], ids=["same order", "other order"])
def test_a_patched_model_is_pickled_copied_and_loaded(packages: Path, core: str) -> None:
    name = "traps_b" if core is CORE else "traps_c"
    body = MODEL if core is CORE else MODEL.replace("self.xcorr_depthwise(x, z)", "self.xcorr_depthwise(z, x)")
    make_package(packages, name, {"core.py": core, "model.py": body})
    module = importlib.import_module(f"{name}.model")
    z, x = _features()
    with patch(name):
        model = module.Model()
        expected = model(z, x)
        content = pickle.dumps(model)
        torch.testing.assert_close(copy.deepcopy(model)(z, x), expected)
    torch.testing.assert_close(pickle.loads(content)(z, x), expected)


def test_what_is_imported_or_built_meanwhile_is_restored_too(packages: Path) -> None:
    files = {"core.py": CORE, "model.py": MODEL, "late.py": "from .core import xcorr_depthwise\n"}
    make_package(packages, "traps_d", files)
    core, module = (importlib.import_module(f"traps_d.{part}") for part in ("core", "model"))
    original = core.xcorr_depthwise
    with patch("traps_d"):
        late, model = importlib.import_module("traps_d.late"), module.Model()
        loaded = pickle.loads(pickle.dumps(model))
        assert late.xcorr_depthwise is not original
    assert late.xcorr_depthwise is model.xcorr_depthwise is core.xcorr_depthwise is original
    assert loaded.xcorr_depthwise is original


@pytest.mark.parametrize("core", [CORE, TURNED], ids=["same order", "other order"])
def test_arguments_go_by_the_originals_names(packages: Path, core: str) -> None:
    name = "traps_y" if core is CORE else "traps_z"
    make_package(packages, name, {"core.py": core})
    module, (z, x) = importlib.import_module(f"{name}.core"), _features()
    expected = module.xcorr_depthwise(x=x, kernel=z)
    with patch(name):
        torch.testing.assert_close(module.xcorr_depthwise(kernel=z, x=x), expected)
        first, second = (x, {"kernel": z}) if core is CORE else (z, {"x": x})
        torch.testing.assert_close(module.xcorr_depthwise(first, **second), expected)
        with pytest.raises(TypeError, match="search"):
            module.xcorr_depthwise(first, search=1)


def test_a_variable_of_the_users_keeps_the_original(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_package(packages, "traps_e", {"core.py": CORE})
    core = importlib.import_module("traps_e.core")
    mine = types.ModuleType("my_script")
    mine.theirs, mine.xcorr_depthwise = core.xcorr_depthwise, core.xcorr_depthwise  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_script", mine)
    original = core.xcorr_depthwise
    with patch("traps_e"):
        assert mine.theirs is original  # type: ignore[attr-defined]
        assert mine.xcorr_depthwise is core.xcorr_depthwise  # type: ignore[attr-defined]
    assert mine.xcorr_depthwise is original  # type: ignore[attr-defined]


def test_patching_twice_says_so(packages: Path) -> None:
    make_package(packages, "traps_f", {"core.py": CORE})
    core = importlib.import_module("traps_f.core")
    original = core.xcorr_depthwise
    with patch("traps_f"), pytest.raises(ValueError, match=r"'traps_f' is patched already; undo\(\) that patch\(\)"):
        patch("traps_f")
    with patch("traps_f"):
        assert core.xcorr_depthwise is not original
    assert core.xcorr_depthwise is original


def test_a_patched_project_compiles(packages: Path) -> None:
    make_package(packages, "traps_g", {"core.py": CORE, "model.py": MODEL})
    module = importlib.import_module("traps_g.model")
    z, x = _features()
    with patch("traps_g"):
        model = module.Model()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(z, x), model(z, x))


def test_our_own_package_is_no_project() -> None:
    with pytest.raises(ValueError, match="project: got 'siamfast', expected another project's package"):
        patch("siamfast")


def test_a_patch_of_methods_alone_is_known_too(packages: Path) -> None:
    """siamfc-pytorch's correlation is a method."""
    text = "class Head:\n    def _fast_xcorr(self, z, x):\n        return up_channel(x, z)\n"
    make_package(packages, "method_head", {"heads.py": f"from .plain import up_channel\n{text}"})
    heads = importlib.import_module("method_head.heads")
    original = heads.Head._fast_xcorr
    done = patch("method_head")
    assert len(done.swapped) == 1
    with pytest.raises(ValueError, match="is patched already"):
        patch("method_head")
    done.undo()
    assert heads.Head._fast_xcorr is original


def test_callables_that_cannot_be_hashed_are_passed_over(packages: Path) -> None:
    text = "class Call:\n    __hash__ = None\n    def __call__(self):\n        pass\ncall = Call()\n"
    head = "from .plain import grouped\ndef xcorr_depthwise(x, kernel):\n    return grouped(x, kernel)\n"
    make_package(packages, "unhashable", {"heads.py": head + text})
    heads = importlib.import_module("unhashable.heads")
    with patch("unhashable") as done:
        assert len(done.swapped) == 1
    assert callable(heads.call)


FORK = """
from .plain import grouped
import torch.nn.functional as F
def xcorr_depthwise(x, kernel, padding=0): return grouped(F.pad(x, [padding] * 4), kernel)
"""


def test_an_option_of_a_fork_still_counts(packages: Path) -> None:
    make_package(packages, "traps_fork", {"core.py": FORK})
    core = importlib.import_module("traps_fork.core")
    z, x = _features()
    expected = core.xcorr_depthwise(x, z, padding=2)
    with patch("traps_fork"):
        torch.testing.assert_close(core.xcorr_depthwise(x, z, padding=2), expected)
        torch.testing.assert_close(core.xcorr_depthwise(x, z, 2), expected)


def test_undo_leaves_what_was_loaded_anew(packages: Path) -> None:
    make_package(packages, "traps_reload", {"core.py": CORE})
    core = importlib.import_module("traps_reload.core")
    done = patch("traps_reload")
    newer = importlib.reload(core).xcorr_depthwise
    done.undo()
    assert core.xcorr_depthwise is newer
