"""Weights on disk: safetensors with their origin in the metadata, the packaged default, other projects' files."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from siamfast.files import replacing
from siamfast.models import correspondence, guided, mobile
from siamfast.models.correspondence import CorrespondenceEncoder
from siamfast.models.guided import GuidedSiam
from siamfast.models.mobile import SiamMobile
from siamfast.models.siamfc import ARCHITECTURE, SiamFC
from siamfast.models.torch_files import is_torch_file, read_torch_file, unwrapped
from siamfast.version import __version__

DEFAULT_NAME = "siamfc_alexnet.safetensors"
DEFAULT_ENCODER = "correspondence_resnet18.safetensors"
_ARCHITECTURES: dict[type, str] = {
    SiamFC: ARCHITECTURE, CorrespondenceEncoder: correspondence.ARCHITECTURE, GuidedSiam: guided.ARCHITECTURE,
    SiamMobile: mobile.ARCHITECTURE,
}  # fmt: skip


def default_weights(name: str = DEFAULT_NAME) -> Path:
    """Path of the weights that come with the package: SiamFC's, or DEFAULT_ENCODER.

    Raises:
        FileNotFoundError: when this installation has none.
    """
    path = Path(str(importlib.resources.files("siamfast.models") / "weights" / name))
    if not path.is_file():
        raise FileNotFoundError(
            f"the default weights are not in this installation ({path} is missing): reinstall siamfast, or give weights"
        )
    return path


def save_weights(
    model: SiamFC | GuidedSiam | SiamMobile | CorrespondenceEncoder,
    path: str | os.PathLike[str],
    *,
    recipe: str | Mapping[str, Any],
    figures: Mapping[str, float] | None = None,
    commit: str | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write `model` as safetensors, atomically: a kill leaves the old file or the new one.

    Convolution weights are stored as `dtype`; BatchNorm statistics, biases, scale and normalisation stay float32
    (a variance of raw 0..255 input overflows float16). In float16 SiamFC takes 4.7 MB, the packaged encoder 5.6.

    Args:
        model: what to write.
        path: the file, "....safetensors"; its folder must exist.
        recipe: how the weights came about: a text, or a mapping which is written as JSON.
        figures: measurements to keep with them, e.g. of the validation.
        commit: of the source tree; None asks git.
        dtype: torch.float16, torch.bfloat16 or torch.float32.

    Raises:
        ValueError: another `dtype`, or weights that are not finite in it.
        OSError: the file cannot be written.
    """

    architecture = next(name for kind, name in _ARCHITECTURES.items() if isinstance(model, kind))
    metadata = {
        "commit": _commit() if commit is None else commit,
        "recipe": recipe if isinstance(recipe, str) else json.dumps(dict(recipe), default=str),
        "figures": json.dumps(dict(figures or {})),
    }
    if isinstance(model, (GuidedSiam, SiamMobile)):
        metadata["configuration"] = json.dumps(asdict(model.architecture))
    save_tensors(model.state_dict(), path, architecture=architecture, metadata=metadata, dtype=dtype)


def save_tensors(
    state: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    *,
    architecture: str,
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a state dict as safetensors, atomically; arguments and errors as for `save_weights`."""
    from safetensors.torch import save

    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        raise ValueError(f"dtype: got {dtype}, expected torch.float16, torch.bfloat16 or torch.float32")
    tensors = {}
    for name, tensor in state.items():
        kept = tensor.detach().cpu()
        if kept.dim() == 4 and kept.shape[0] > 1:  # convolution weights; the normalisation is (1, 3, 1, 1)
            kept = kept.to(dtype)
        if kept.is_floating_point() and not bool(torch.isfinite(kept).all()):
            raise ValueError(f"model: {name} has values that are not finite as {kept.dtype}; give a wider dtype")
        tensors[name] = kept.contiguous()
    about = {"format": "pt", "architecture": architecture, "siamfast": __version__, **metadata}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=about))


def _commit() -> str:
    """The commit this file is of, "-dirty" when the package has changes; "unknown" outside a checkout."""

    def git(*words: str) -> str:
        ran = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
        if ran.returncode:
            raise OSError(ran.stderr)
        return ran.stdout.strip()

    try:
        # An installed copy may lie within somebody else's checkout: only ours tracks this file.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file of ours: architecture, recipe, figures, commit, siamfast.

    Raises:
        FileNotFoundError, ValueError: no such file; not a safetensors file.
    """
    return read_safetensors(Path(path))[1]


def load_weights(model: SiamFC, path: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Load weights into `model`, in place; returns what the file says about their origin.

    Args:
        model: receives them on its own device and in its own dtype.
        path: safetensors of ours, a training checkpoint of ours, or a checkpoint of siamfc-pytorch or StrangerZhang
            (recognised by its keys, see siamfast.compat.checkpoints); None for the packaged default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a weights file, or weights of another architecture: what is missing, unexpected or of another
            shape is listed.
    """
    from siamfast.compat.checkpoints import convert_state

    path = default_weights() if path is None else Path(path)
    if is_torch_file(path):
        state, metadata = read_torch_file(path), {"architecture": ARCHITECTURE, "recipe": f"converted from {path.name}"}
    else:
        state, metadata = read_safetensors(path)
        architecture = metadata.get("architecture", ARCHITECTURE)
        if architecture != ARCHITECTURE:
            raise ValueError(f"weights: {path} holds the architecture {architecture!r}, expected {ARCHITECTURE!r}")
    model.load_state_dict(convert_state(state, source=str(path)))
    return metadata


def load_model(weights: str | os.PathLike[str] | SiamFC | None = None) -> SiamFC:
    """A SiamFC in eval mode with `weights`: anything `load_weights` takes, or a SiamFC, which is taken as it is."""
    if isinstance(weights, SiamFC):
        return weights.eval()
    if weights is not None and not isinstance(weights, (str, os.PathLike)):
        raise TypeError(f"weights: got {type(weights).__name__}, expected a path, a SiamFC or None")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: leave the random state alone
        model = SiamFC()
    load_weights(model, weights)
    return model.eval()


def load_encoder(weights: str | os.PathLike[str] | None = None) -> CorrespondenceEncoder:
    """A CorrespondenceEncoder in eval mode, as wide and deep as the weights are.

    Args:
        weights: safetensors of ours, a training checkpoint of ours, or a state dict of torchvision's ResNet-18 (its
            classifier is left out); None for the packaged default.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a weights file, or weights of another architecture.
    """
    path = default_weights(DEFAULT_ENCODER) if weights is None else Path(weights)
    state = read_torch_file(path) if is_torch_file(path) else unwrapped(read_safetensors(path)[0], source=str(path))
    state = {k: v for k, v in state.items() if not k.startswith("fc.")}
    first = state.get("conv1.weight")
    stages = max([0, *(int(k[5]) for k in state if k[:5] == "layer" and k[5].isdecimal())])
    if not isinstance(first, torch.Tensor) or first.dim() != 4 or not 2 <= stages <= 4:
        raise ValueError(f"weights: {path} holds no ResNet-18 (conv1.weight, layer1 to layer2, 3 or 4)")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: leave the random state alone
        model = CorrespondenceEncoder(width=first.shape[0], stages=stages)
    own = model.state_dict()
    optional = {k for k in own if k.startswith("input_") or k.endswith("num_batches_tracked")}
    wrong = sorted((own.keys() ^ state.keys()) - optional)
    wrong += sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if wrong:
        raise ValueError(f"weights: {path} does not fit a ResNet-18 of width {first.shape[0]}: {', '.join(wrong[:9])}")
    model.load_state_dict(own | state)
    return model.eval()


Model = TypeVar("Model", bound=torch.nn.Module)


def load_built(path: Path, architecture: str, network: type[Model], parts: type[Any]) -> Model:
    """A network in eval mode, built as its weights say.

    Args:
        path: safetensors that `save_weights` wrote of such a network.
        architecture: the name that they must have.
        network: what is built, of one argument: `parts`, a dataclass.

    Raises:
        FileNotFoundError: no such file. ValueError: not such weights.
    """
    state, metadata = read_safetensors(path)
    if metadata.get("architecture") != architecture:
        raise ValueError(
            f"weights: {path} holds the architecture {metadata.get('architecture')!r}, expected {architecture!r}"
        )
    try:
        given = json.loads(metadata.get("configuration", ""))
        configuration = parts(**{field.name: given[field.name] for field in fields(parts)})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"weights: {path} says nothing of use on its architecture ({error})") from None
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: leave the random state alone
        model = network(configuration)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"weights: {path} does not fit its own architecture ({' '.join(str(error).split())[:300]})"
        ) from None
    return model.eval()


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata; FileNotFoundError, ValueError as `read_metadata`."""
    from safetensors import SafetensorError, safe_open

    if is_torch_file(path):
        raise ValueError(
            f"weights: {path} is a PyTorch file, expected safetensors "
            "(which `siamfast train` writes beside checkpoint.pt)"
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"weights: {path} is neither a safetensors nor a PyTorch file ({error})") from error
