"""The parsers that are fuzzed: good inputs to damage, and a call that reads one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
from PIL import Image

from siamfast.cli import main
from siamfast.data import readers
from siamfast.data.clip_folder import RECORD, Settings, known_seeds
from siamfast.data.sequences import Sequence, read_boxes
from siamfast.data.store_check import StoreChecker
from siamfast.data.vid import read_vid_xml
from siamfast.evaluation.identity import claim_results
from siamfast.evaluation.one_pass import parse_entry
from siamfast.evaluation.protocols import PROTOCOLS, read_result
from siamfast.io.images import image_size, read_image
from siamfast.io.masks import read_mask
from siamfast.io.output import VideoOutput
from siamfast.io.video import open_frames
from siamfast.models.correspondence_weights import load_encoder
from siamfast.models.guided_weights import load_guided
from siamfast.models.mobile_weights import load_mobile
from siamfast.models.siamfc import SiamFC
from siamfast.models.siamfc_weights import load_weights
from siamfast.models.torch_files import read_torch_file
from siamfast.models.weights import default_weights, read_metadata
from siamfast.tracking.registry import Tracker
from siamfast.training.config import SiamFCConfig
from siamfast.training.siamfc import SiamFCTrainer
from tests.fuzz.mutate import damaged, damaged_json, damaged_text


class Target(NamedTuple):
    """seeds: makes good content in an empty folder. name: the file that it is written to. call: reads that file."""

    name: str
    seeds: Callable[[Path], list[bytes]]
    call: Callable[[Path], object]


def _text(*lines: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [line.encode() for line in lines]


def _report(path: Path, reason: str) -> None: ...


_XML = """<annotation><folder>a</folder><size><width>64</width><height>48</height></size><object><trackid>0</trackid>
<name>n02</name><bndbox><xmax>30</xmax><xmin>3</xmin><ymax>40</ymax><ymin>4</ymin></bndbox><occluded>0</occluded>
<generated>1</generated></object></annotation>"""


# ------------------------------------------------------------------------------------------------------ images, videos
def _images(folder: Path) -> list[bytes]:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    contents = []
    for ending in ("jpg", "png", "bmp", "tif", "webp"):
        cv2.imwrite(str(folder / f"a.{ending}"), image)
        contents.append((folder / f"a.{ending}").read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, options in (("RGB", {"exif": exif, "progressive": True}), ("L", {}), ("CMYK", {})):
        Image.fromarray(image).convert(mode).save(folder / "b.jpg", **options)
        contents.append((folder / "b.jpg").read_bytes())
    return contents


def _masks(folder: Path) -> list[bytes]:
    numbers = np.zeros((24, 32), np.uint8)
    numbers[4:12, 4:12], numbers[12:20, 12:30] = 1, 2
    indexed = Image.fromarray(numbers, mode="P")
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    pictures = {
        "a.png": indexed,
        "b.png": Image.fromarray(numbers * 100),
        "c.png": indexed.convert("RGBA"),
        "d.png": Image.fromarray(numbers.astype(np.uint16) * 300),
        "e.tif": Image.fromarray(numbers.astype(np.float32)),
        "f.jpg": Image.fromarray(numbers * 100),
        "g.png": indexed.convert("LA"),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    return [(folder / name).read_bytes() for name in pictures]


def _videos(folder: Path) -> list[bytes]:
    contents = []
    for ending in (".mp4", ".mkv", ".avi"):
        with VideoOutput(folder / f"a{ending}", 25.0) as output:
            for n in range(8):
                output.write(np.full((32, 48, 3), 30 * n, np.uint8))
            output.commit()
        contents.append((folder / f"a{ending}").read_bytes())
    with av.open(str(folder / "a.ts"), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for n in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), 9 * n, np.uint8))))
        container.mux(stream.encode())
    return [*contents, (folder / "a.ts").read_bytes()]


def _read_video(path: Path) -> None:
    with open_frames(path) as frames:
        for number, (_, image) in enumerate(frames):
            assert image.ndim == 3
            assert image.dtype == np.uint8
            if number > 50:
                break


# ------------------------------------------------------------------------------------------------------------- weights
def _torch_files(folder: Path) -> list[bytes]:
    small = {"model.weight": torch.ones(3), "epoch": 3, "optimizer": {"lr": 0.1, "state": [torch.ones(2)]}}
    files = []
    for zipped in (True, False):
        for value in (small, {"state_dict": {"module.a": torch.zeros(2, 2), "b": np.float64(3.0)}}):
            torch.save(value, folder / "a.pt", _use_new_zipfile_serialization=zipped)
            files.append((folder / "a.pt").read_bytes())
    return files


def _safetensors(folder: Path) -> list[bytes]:
    """The headers of the packaged weights with shortened data, and one whole small file."""
    from safetensors.torch import save

    small = save({"a": torch.ones(3)}, metadata={"architecture": "siam-mobile", "configuration": '{"head_width": 8}'})
    names = ("mobile.safetensors", "guided_alexnet.safetensors", "siamfc_alexnet.safetensors")
    return [small, *(default_weights(name).read_bytes() for name in names)]


def _load_each(path: Path) -> None:
    for load in (load_mobile, load_guided, load_encoder, read_metadata, lambda p: load_weights(SiamFC(), p)):
        with contextlib.suppress(ValueError, TypeError, OSError):
            load(path)


# ------------------------------------------------------------------------------------------------ data sets and results
def _a_store(folder: Path) -> list[bytes]:
    sequence = folder / "data" / "a"
    (sequence / "img").mkdir(parents=True)
    for n in range(3):
        cv2.imwrite(str(sequence / "img" / f"{n}.jpg"), np.random.default_rng(n).integers(0, 256, (48, 64, 3)))
    (sequence / "groundtruth.txt").write_text("10,10,20,20\n" * 3)
    with contextlib.redirect_stderr(io.StringIO()):
        main(["curate", "folder", str(folder / "data"), str(folder / "store"), "--workers", "0"])
    return [(folder / "store" / "crops.lmdb").read_bytes()]


def _read_store(path: Path) -> None:
    """As `siamfast curate --verify` in a process of its own: damaged LMDB pages may end the process that reads them."""
    list(StoreChecker(path.parent))


def _in_layout(kind: str, place: str) -> Callable[[Path], object]:
    """A call that reads a data set in which the damaged file is at `place`."""

    def call(path: Path) -> object:
        root = path.parent / "root"
        if not root.exists():
            for name in ("img", "img1", "frames/v", "v"):
                (root / "v" / name).mkdir(parents=True, exist_ok=True)
                for n in range(3):
                    cv2.imwrite(str(root / "v" / name / f"{n + 1:06d}.jpg"), np.zeros((48, 64, 3), np.uint8))
            (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(path.read_bytes())
        return list(readers.read_videos(kind, root, _report))

    return call


def _sequence() -> Sequence:
    return Sequence("a", tuple(Path(f"{n}.jpg") for n in range(3)), np.ones((3, 4)))


def _read_results(path: Path) -> None:
    for kind in ("otb", "got10k"):
        files = PROTOCOLS[kind].files(path.parent / "results", "t", "a")
        for place in files:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
        read_result(PROTOCOLS[kind], path.parent / "results", "t", _sequence())


def _claim(path: Path) -> None:
    (path.parent / "out").mkdir(exist_ok=True)
    (path.parent / "out" / "runs.json").write_bytes(path.read_bytes())
    claim_results(PROTOCOLS["folder"], path.parent / "out", path.parent, None, [parse_entry("mobile")], [_sequence()])


_TRAINED = SiamFCConfig(steps=2, batch_size=2, val_pairs=2, workers=0, device="cpu", instance=135)


def _checkpoint(folder: Path) -> list[bytes]:
    trainer = SiamFCTrainer(dataclasses.replace(_TRAINED, out=str(folder / "run")))
    (folder / "run").mkdir()
    trainer.save()
    content = trainer.checkpoint.read_bytes()
    return [content, content[: len(content) // 2]]


@functools.cache
def _trainer() -> SiamFCTrainer:
    return SiamFCTrainer(_TRAINED)


def _resume(path: Path) -> None:
    trainer = _trainer()
    trainer.out = path.parent
    trainer.resume()


def _record(path: Path) -> None:
    (path.parent / "out").mkdir(exist_ok=True)
    (path.parent / "out" / RECORD).write_bytes(path.read_bytes())
    known_seeds(path.parent / "out", Settings(0, 12, (48, 64), False, False))


# ------------------------------------------------------------------------------------------------------- command lines
_LINES = [  # each ends at once, because its inputs do not exist
    "track nowhere.mp4 --box 1,2,3,4 --out a.mp4 --csv b.csv --model mobile --device cpu",
    "propagate nowhere --mask m.png --out o --size 240 --preset crw --topk 3 --temperature 0.1 --context 4",
    "train --task mobile --steps 3 --lr 0.1 --data nowhere --batch-size 2 --optimizer adamw --out /dev/null/a",
    "eval nowhere --dataset got10k --model a=mobile:guide=off --frames 20 --subset val --peers kcf --workers 0",
    "curate got10k nowhere out --exemplar 127 --quality 90 --shard 1/2 --layout tree",
    "synthesize /dev/null/a --clips 2 --length 20 --size 48x64 --seed 3 --masks",
    "show-correspondence a.png b.png --out f.png --size 100 --topk 5",
    "export nowhere.safetensors --no-int8",
    "convert-backbone nowhere.pt out.safetensors",
    "bench --seconds -1 --plot a.txt",
    "cutouts nowhere out --backbone b",
    "vot --model siamfc --weights nowhere.pt --device cpu",
]


def _command(path: Path) -> None:
    """No input exists, so a command ends at once with a message."""
    words = path.read_bytes().decode("utf-8", "replace").split()
    silent = io.StringIO()
    with contextlib.redirect_stderr(silent), contextlib.redirect_stdout(silent), contextlib.suppress(SystemExit):
        main(words)
    assert "Traceback" not in silent.getvalue()


TARGETS = [
    Target("boxes", _text("1,2,3,4\n5 6 7 8\nnan,nan,nan,nan\n", "1;2;3;4\r\n"), read_boxes),
    Target("vid.xml", _text(_XML), read_vid_xml),
    Target("got10k", _text("1,2,30,4\n5,6,7,8\n9,9,9,9\n"), _in_layout("got10k", "v/groundtruth.txt")),
    Target("got10k cover", _text("0\n8\n4\n"), _in_layout("got10k", "v/cover.label")),
    Target("otb", _text("1,2,30,4\n5,6,7,8\n9,9,9,9\n"), _in_layout("otb", "v/groundtruth_rect.txt")),
    Target("lasot", _text("0,0,1\n"), _in_layout("lasot", "v/full_occlusion.txt")),
    Target("mot", _text("1,1,5,5,10,10,1,1,0.5\n2,1,6,6,9,9,1,1,1\n"), _in_layout("mot", "v/gt/gt.txt")),
    Target("trackingnet", _text("1,2,30,4\n5,6,7,8\n9,9,9,9\n"), _in_layout("trackingnet", "v/anno/v.txt")),
    Target("youtubebb", _text("a,0,3,cat,1,present,0.1,0.5,0.1,0.9\n"), _in_layout("youtubebb", "a.csv")),
    Target("image", _images, lambda path: (read_image(path), image_size(path))),
    Target("mask", _masks, read_mask),
    Target("video", _videos, _read_video),
    Target("torch file", _torch_files, read_torch_file),
    Target("weights", _torch_files, lambda path: Tracker(path)),
    Target("safetensors", _safetensors, _load_each),
    Target("crops.lmdb", _a_store, _read_store),
    Target("checkpoint.pt", _checkpoint, _resume),
    Target("results", _text("1,2,3,4\n" * 3, "0.1\n0.2\n0.3\n"), _read_results),
    Target("runs.json", _text('{"mobile": {"model": "mobile", "root": "/a", "sequences": {"a": "b"}}}'), _claim),
    Target("synthetic.json", _text(json.dumps({"settings": {"seed": 0, "size": [48, 64]}, "seeds": [0, 1]})), _record),
    Target(
        "entry", _text("a=mobile:guide=off:size_lr=0.3"), lambda path: parse_entry(path.read_text("utf-8", "replace"))
    ),
    Target("command", _text(*_LINES), _command),
]
_TEXTS = {"entry", "command"}


def draw(target: Target, seeds: list[bytes], rng: random.Random) -> bytes:
    """A damaged seed."""
    seed = rng.choice(seeds)
    if target.name.endswith(".json") and rng.random() < 0.5:
        return damaged_json(seed, rng)
    if target.name in _TEXTS:
        return damaged_text(seed.decode(), rng).encode("utf-8", "surrogatepass")
    return damaged(seed, rng)
