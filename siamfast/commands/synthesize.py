"""`siamfast synthesize`: synthetic clips as a folder data set to evaluate on; a stopped run resumes."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siamfast.data.clip_folder import Settings


EXAMPLE = "example:\n  siamfast synthesize clips/ --clips 10 --hides"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast synthesize`."""
    parser.add_argument("out", metavar="OUT", help="folder to write; existing clips are not made again")
    parser.add_argument("--clips", type=int, default=8, help="number of clips (default: 8)")
    parser.add_argument("--length", type=int, default=150, help="frames per clip (default: 150)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first clip (default: 0)")
    parser.add_argument(
        "--size", default="360x480", metavar="HxW", help="size of the frames, pixels (default: 360x480)"
    )
    parser.add_argument("--photos", default="", metavar="FOLDER", help="photographs to cut four in five textures from")
    parser.add_argument("--masks", action="store_true", help="also write a mask of the visible target per frame")
    parser.add_argument(
        "--hides",
        action="store_true",
        help="only clips whose target is hidden for 10 to 100 frames and comes back, without a copy of it",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the clips.

    Raises:
        ValueError, OSError: bad input, or a folder with something else in it, in one line.
    """
    from tqdm import tqdm

    from siamfast.data.clip_folder import known_seeds, next_seed, record, write_clip

    settings, out = _settings(arguments), Path(arguments.out)
    seeds = known_seeds(out, settings)
    out.mkdir(parents=True, exist_ok=True)
    with tqdm(total=arguments.clips, unit="clip", desc="synthesize", file=sys.stderr, dynamic_ncols=True) as bar:
        for number in range(arguments.clips):
            if number == len(seeds):
                seeds.append(next_seed(settings, seeds[-1] + 1 if seeds else settings.seed))
                record(out, settings, seeds)
            write_clip(out / f"clip-{number:03d}", settings.video(seeds[number]), masks=settings.masks)
            bar.update()
    print(f"{out}: {arguments.clips} clips of {settings.length} frames, for siamfast eval {out} --dataset folder")
    return 0


def _settings(arguments: argparse.Namespace) -> Settings:
    """The options, checked."""
    from siamfast.data.clip_folder import HIDDEN, Settings

    size = re.fullmatch(r"(\d+)x(\d+)", arguments.size)
    if size is None:
        raise ValueError(f"--size: got {arguments.size!r}, expected HEIGHTxWIDTH such as 360x480")
    height, width = int(size[1]), int(size[2])
    least_length = HIDDEN[0] + 2 if arguments.hides else 2  # the target is visible in one frame before and one after
    for name, value, least in (
        ("clips", arguments.clips, 1), ("length", arguments.length, least_length), ("seed", arguments.seed, 0),
        ("size", min(height, width), 16),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"--{name}: got {value}, expected {least} or more")
    return Settings(
        arguments.seed, arguments.length, (height, width), arguments.masks, arguments.hides, arguments.photos
    )
