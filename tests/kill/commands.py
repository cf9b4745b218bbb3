"""The commands that are killed: four commands on small data, with checks of their outputs midway and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from siamfast.data.store import CropStore
from siamfast.data.synthetic import SyntheticVideo
from siamfast.evaluation.protocols import PROTOCOLS
from siamfast.io.masks import default_palette, read_mask, write_mask


class Command(NamedTuple):
    """prepare: writes its inputs, once. words: its arguments, for an output name. torn: lists half-written files.
    result: the compared contents, by name. resumes: whether a second run continues in the same output."""

    prepare: Callable[[Path], None]
    words: Callable[[Path, str], list[str]]
    torn: Callable[[Path], Iterator[str]]
    result: Callable[[Path], dict[str, bytes]]
    resumes: bool = True


def _nothing(folder: Path) -> None: ...


def _sequences(folder: Path) -> None:
    """data/NAME/img/*.jpg and groundtruth.txt of three clips; mask.png of the first clip's first frame."""
    for seed in range(3):
        clip = SyntheticVideo(seed, length=30, size=(120, 160))
        images = folder / "data" / f"clip{seed}" / "img"
        images.mkdir(parents=True)
        for n, (frame, _) in enumerate(clip):
            cv2.imwrite(str(images / f"{n:04d}.jpg"), frame[..., ::-1])
        boxes = np.stack([box for _, box in clip])
        np.savetxt(images.parent / "groundtruth.txt", boxes, fmt="%.3f", delimiter=",")
    write_mask(folder / "mask.png", SyntheticVideo(0, length=30, size=(120, 160)).mask(0), default_palette())


# --------------------------------------------------------------------------------------------------------------- train
def _train_words(folder: Path, out: str) -> list[str]:
    return [
        "train", "--steps", "40", "--batch-size", "2", "--val-every", "20", "--val-pairs", "2", "--save-every", "2",
        "--workers", "1", "--device", "cpu", "--out", str(folder / out),
    ]  # fmt: skip


def _train_torn(out: Path) -> Iterator[str]:
    checkpoint, weights = out / "checkpoint.pt", out / "siamfc.safetensors"
    if checkpoint.exists():
        try:
            torch.load(checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            yield f"{checkpoint.name}: {error}"
    if weights.exists():
        try:
            load_file(weights)
        except (SafetensorError, OSError) as error:
            yield f"{weights.name}: {error}"


def _train_result(out: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(out / "siamfc.safetensors").items()}


# -------------------------------------------------------------------------------------------------------------- curate
def _curate_words(folder: Path, out: str) -> list[str]:
    return ["curate", "folder", str(folder / "data"), str(folder / out), "--workers", "2"]


def _curate_torn(out: Path) -> Iterator[str]:
    if (out / "crops.lmdb").exists():
        try:
            yield from CropStore(out).verify()
        except ValueError as error:
            if "no crops" not in str(error) and "empty" not in str(error):
                yield str(error)


def _curate_result(out: Path) -> dict[str, bytes]:
    store = CropStore(out)
    return {
        f"{track.video}/{track.name} {place} {kind}": store.crop(track, place, kind).tobytes()
        for track in store.tracks
        for place in range(len(track.frames))
        for kind in "zx"
    }


# ---------------------------------------------------------------------------------------------------------------- eval
def _eval_words(folder: Path, out: str) -> list[str]:
    return [
        "eval", str(folder / "data"), "--dataset", "folder", "--out", str(folder / out), "--model", "mobile",
        "--workers", "1", "--device", "cpu",
    ]  # fmt: skip


def _boxes(out: Path) -> dict[str, Path]:
    names = [f"clip{seed}" for seed in range(3)]
    files = {name: PROTOCOLS["folder"].files(out / "results", "mobile", name).boxes for name in names}
    return {name: path for name, path in files.items() if path.exists()}


def _eval_torn(out: Path) -> Iterator[str]:
    for path in _boxes(out).values():
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
        if rows.shape != (30, 4):
            yield f"{path.name} has {rows.shape} numbers"


def _eval_result(out: Path) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in _boxes(out).items()} | {
        "report.html": b"there" if (out / "report.html").read_text().rstrip().endswith("</html>") else b"torn"
    }


# ----------------------------------------------------------------------------------------------------------- propagate
def _propagate_words(folder: Path, out: str) -> list[str]:
    words = ["propagate", str(folder / "data" / "clip0" / "img"), "--mask", str(folder / "mask.png"), "--size", "120"]
    return [*words, "--out", str(folder / out), "--overlay", str(folder / f"{out}.mp4"), "--device", "cpu"]


def _propagate_torn(out: Path) -> Iterator[str]:
    for path in out.glob("[0-9]*.png"):
        try:
            read_mask(path)
        except ValueError as error:
            if "no object" not in str(error):
                yield str(error)
    video = out.with_name(out.name + ".mp4")
    if video.exists() and not cv2.VideoCapture(str(video)).isOpened():
        yield f"{video.name} does not open"


def _propagate_result(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("[0-9]*.png")}


COMMANDS = {
    "train": Command(_nothing, _train_words, _train_torn, _train_result),
    "curate": Command(_sequences, _curate_words, _curate_torn, _curate_result),
    "eval": Command(_sequences, _eval_words, _eval_torn, _eval_result),
    "propagate": Command(_sequences, _propagate_words, _propagate_torn, _propagate_result, resumes=False),
}
