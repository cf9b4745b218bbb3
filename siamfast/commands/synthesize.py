"""`siamfast synthesize`: synthetic clips as a folder data set to evaluate on; stopped and run again, it goes on."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siamfast.data.clip_folder import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast synthesize`."""
    parser.add_argument("out", metavar="OUT", help="folder to write; clips that are there already are not made again")
    parser.add_argument("--clips", type=int, default=8, help="how many (default: 8)")
    parser.add_argument("--length", type=int, default=150, help="frames of each (default: 150)")
    parser.add_argument("--seed", type=int, default=0, help="of the first clip (default: 0)")
    parser.add_argument("--size", default="360x480", metavar="HxW", help="of the frames, pixels (default: 360x480)")
    parser.add_argument(
        "--photos", default="", metavar="FOLDER", help="photographs that four in five textures are cut from"
    )
    parser.add_argument("--masks", action="store_true", help="also a mask of the visible target for each frame")
    parser.add_argument(
        "--hides",
        action="store_true",
        help="only clips whose target is gone for 10 to 100 frames and comes back; nothing in them copies it",
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
    least_length = HIDDEN[0] + 2 if arguments.hides else 2  # before it and after it the target is seen
    for name, value, least in (
        ("clips", arguments.clips, 1), ("length", arguments.length, least_length), ("seed", arguments.seed, 0),
        ("size", min(height, width), 16),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"--{name}: got {value}, expected {least} or more")
    return Settings(
        arguments.seed, arguments.length, (height, width), arguments.masks, arguments.hides, arguments.photos
    )
