"""Weights on disk: safetensors with their origin in the metadata, and the paths of the packaged ones."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from siamfast.io.files import replacing
from siamfast.models.torch_files import is_torch_file
from siamfast.version import __version__


def default_weights(name: str) -> Path:
    """Path of weights that come with the package.

    Args:
        name: of the file; DEFAULT_NAME in each network's module of weights.

    Raises:
        FileNotFoundError: this installation does not have it.
    """
    path = Path(str(importlib.resources.files("siamfast.models") / "weights" / name))
    if not path.is_file():
        raise FileNotFoundError(
            f"the default weights are not in this installation ({path} is missing): reinstall siamfast, or give weights"
        )
    return path


def save_weights(
    model: torch.nn.Module,
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
        model: a network whose class names its architecture in ARCHITECTURE: SiamFC, GuidedSiam, SiamMobile,
            CorrespondenceEncoder. Its dataclass `architecture`, if any, is written too, for `load_built`.
        path: the file, "....safetensors"; its folder must exist.
        recipe: how the weights were made: a text, or a mapping that is written as JSON.
        figures: measurements to save with them, e.g. of the validation.
        commit: of the source tree; None asks git.
        dtype: torch.float16, torch.bfloat16 or torch.float32.

    Raises:
        TypeError: the network has no ARCHITECTURE.
        ValueError: another `dtype`, or weights that are not finite in it.
        OSError: the file cannot be written.
    """
    architecture = getattr(model, "ARCHITECTURE", None)
    if not isinstance(architecture, str):
        raise TypeError(f"model: got {type(model).__name__}, expected a network whose class has an ARCHITECTURE")
    metadata = {
        "commit": _commit() if commit is None else commit,
        "recipe": recipe if isinstance(recipe, str) else json.dumps(dict(recipe), default=str),
        "figures": json.dumps(dict(figures or {})),
    }
    configuration = getattr(model, "architecture", None)
    if is_dataclass(configuration) and not isinstance(configuration, type):
        metadata["configuration"] = json.dumps(asdict(configuration))
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
        stored = tensor.detach().cpu()
        if stored.dim() == 4 and stored.shape[0] > 1:  # convolution weights; the normalisation is (1, 3, 1, 1)
            stored = stored.to(dtype)
        if stored.is_floating_point() and not bool(torch.isfinite(stored).all()):
            raise ValueError(f"model: {name} has values that are not finite as {stored.dtype}; give a wider dtype")
        tensors[name] = stored.contiguous()
    about = {"format": "pt", "architecture": architecture, "siamfast": __version__, **metadata}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=about))


def _commit() -> str:
    """The commit of this file, with "-dirty" if the package has changes; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        ran = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
        if ran.returncode:
            raise OSError(ran.stderr)
        return ran.stdout.strip()

    try:
        # An installed copy may be inside another project's checkout: only ours tracks this file.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a siamfast safetensors file: architecture, recipe, figures, commit, siamfast.

    Raises:
        FileNotFoundError: no such file. ValueError: not a safetensors file.
    """
    return read_safetensors(Path(path))[1]


Model = TypeVar("Model", bound=torch.nn.Module)


def load_built(path: Path, network: type[Model], parts: type[Any]) -> Model:
    """A network in eval mode, with the architecture of its weights.

    Args:
        path: safetensors that `save_weights` wrote for such a network.
        network: its class, which takes one argument of the dataclass `parts`; its ARCHITECTURE must be the file's.

    Raises:
        FileNotFoundError: no such file. ValueError: other weights.
    """
    state, metadata = read_safetensors(path)
    expected = getattr(network, "ARCHITECTURE", None)
    if metadata.get("architecture") != expected:
        raise ValueError(
            f"weights: {path} holds the architecture {metadata.get('architecture')!r}, expected {expected!r}"
        )
    try:
        values = json.loads(metadata.get("configuration", ""))
        configuration = parts(**{field.name: values[field.name] for field in fields(parts)})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"weights: {path} does not describe its architecture ({error})") from None
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten: keep the user's random state
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
