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


# Our own words for what pysot, TracKit and siamfc-pytorch do: pad the frame, cut, resize.
CROPS = """
import cv2, numpy as np, torch

def _padded(im, x0, y0, side, color):
    h, w = im.shape[:2]
    left, top = int(max(0, -x0)), int(max(0, -y0))
    right, bottom = int(max(0, x0 + side - w)), int(max(0, y0 + side - h))
    big = np.zeros((h + top + bottom, w + left + right, 3), np.uint8)
    big[:] = color
    big[top:top + h, left:left + w] = im
    x, y = int(x0 + left), int(y0 + top)
    return big[y:y + side, x:x + side], (left, top, right, bottom)

def _tensor(patch):
    return torch.from_numpy(patch.transpose(2, 0, 1).astype(np.float32))

def get_subwindow(im, pos, model_sz, original_sz, avg_chans):
    c = (original_sz + 1) / 2
    x0, y0 = np.floor(pos[0] - c + 0.5), np.floor(pos[1] - c + 0.5)
    patch, _ = _padded(im, x0, y0, original_sz, avg_chans)
    return _tensor(cv2.resize(patch, (model_sz, model_sz)))[None]

def get_subwindow_tracking(im, pos, model_sz, original_sz, avg_chans, out_mode="torch"):
    c = (original_sz + 1) / 2
    x0, y0 = round(pos[0] - c), round(pos[1] - c)
    patch, (left, top, right, bottom) = _padded(im, x0, y0, original_sz, avg_chans)
    h, w = im.shape[:2]
    x, y = x0 + left, y0 + top
    about = {"crop_cords": [x, x + original_sz - 1, y, y + original_sz - 1],
             "empty_mask": np.zeros((h + top + bottom, w + left + right)), "pad_info": [top, left, h, w]}
    return _tensor(cv2.resize(patch, (model_sz, model_sz))), about

def crop_and_resize(img, center, size, out_size, border_value=(0, 0, 0)):
    size = round(size)
    corner = np.round(center - (size - 1) / 2)
    corners = np.round(np.concatenate((corner, corner + size))).astype(int)
    pad = max(0, int(max(-corners[:2].min(), (corners[2:] - img.shape[:2]).max())))
    if pad:
        img = cv2.copyMakeBorder(img, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=border_value)
    y0, x0, y1, x1 = corners + pad
    return cv2.resize(img[y0:y1, x0:x1], (out_size, out_size))
"""
