"""Small packages laid out as the projects that siamfast.compat knows."""

from __future__ import annotations

from pathlib import Path

GROUPED = """
import torch.nn.functional as F
def grouped(x, kernel, padding=0):
    n, c = kernel.shape[:2]
    out = F.conv2d(x.reshape(1, n * c, *x.shape[2:]), kernel.reshape(n * c, 1, *kernel.shape[2:]),
                   groups=n * c, padding=padding)
    return out.reshape(n, c, *out.shape[2:])
def up_channel(x, kernel):
    n = len(kernel)
    out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernel.reshape(-1, x.shape[1], *kernel.shape[2:]), groups=n)
    return out.reshape(n, -1, *out.shape[2:])
"""


def make_package(root: Path, name: str, files: dict[str, str]) -> None:
    """A package of `files`; every folder gets its __init__.py."""
    for path, text in {**files, "plain.py": GROUPED}.items():
        file = root / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for folder in (file.parent, *file.parent.parents):
            if folder == root:
                break
            (folder / "__init__.py").touch()
