"""`siamfast curate`: turn a downloaded data set into crops for training; a stopped run resumes when repeated."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from siamfast.commands.engine_options import add_engine_arguments, check_engine_arguments
from siamfast.data.readers import LAYOUTS, list_videos
from siamfast.engine import open_engine
from siamfast.io.files import only_writer, replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siamfast.data.curation import Recipe


EXAMPLE = "example:\n  siamfast curate got10k GOT-10k/train curated/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `siamfast curate`."""
    parser.add_argument("kind", choices=tuple(LAYOUTS), metavar="KIND", help=", ".join(LAYOUTS))
    parser.add_argument("root", metavar="ROOT", help="folder of the data set (omitted with --verify)", nargs="?")
    parser.add_argument("out", metavar="OUT", help="folder of the store; existing parts are not made again")
    parser.add_argument(
        "--layout",
        choices=("lmdb", "tree"),
        default="lmdb",
        help="lmdb (default), or the JPEG tree of the original SiamFC curation",
    )
    parser.add_argument("--exemplar", type=int, default=127, help="side of the template crops, pixels (default: 127)")
    parser.add_argument("--instance", type=int, default=255, help="side of the search crops, pixels (default: 255)")
    parser.add_argument(
        "--context-amount", type=float, default=0.5, help="context around the box, as a share of w + h (default: 0.5)"
    )
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality, 1 to 100 (default: 90)")
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th video from the I-th, for job arrays")
    add_engine_arguments(parser, default=-1)
    parser.add_argument("--verify", action="store_true", help="instead, check every crop of the store OUT")


def run(arguments: argparse.Namespace) -> int:
    """Curate; returns 0 when all was read, 1 when some of it could not be (see OUT/errors.jsonl), 130 after Ctrl-C.

    Raises:
        ValueError, OSError: bad input, in one line.
    """
    from tqdm import tqdm

    from siamfast.data.curation import curate
    from siamfast.data.tree import make_writer, writer_name

    if arguments.verify:
        return _verify(arguments)
    recipe, shard, root, out = _checked(arguments)
    began, stopped, made = time.perf_counter(), False, Counter[str]()
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(
            open_engine(arguments.engine, workers=arguments.workers, scheduler=arguments.scheduler)
        )
        stack.enter_context(only_writer(out, writer_name(arguments.layout, shard)))
        writer = stack.enter_context(contextlib.closing(make_writer(arguments.layout, out, recipe, shard)))
        try:
            bar = stack.enter_context(
                contextlib.closing(tqdm(unit="video", desc="curate", file=sys.stderr, dynamic_ncols=True))
            )
            curate(recipe, root, writer, engine=engine, shard=shard, progress=bar, made=made)
        except KeyboardInterrupt:
            stopped = True
        except (RuntimeError, OSError) as error:
            with contextlib.suppress(OSError):  # a disk too full for the store may be too full for this
                _write_errors(out, arguments.shard, writer.errors())
            raise (error if isinstance(error, OSError) else ValueError(str(error))) from error
        errors = _write_errors(out, arguments.shard, writer.errors())
    print(
        f"{out}: "
        + (f"made {made['crops']} crops of {made['frames']} frames" if made else "nothing was missing")
        + f" in {time.perf_counter() - began:.0f} s"
        + (f"; {errors} could not be read, see {out / _errors_name(arguments.shard)}" if errors else "")
        + ("; once repaired, the same command reads them" if errors and not stopped else "")
        + ("; stopped, the same command resumes it" if stopped else ""),
        file=sys.stderr,
    )
    return 130 if stopped else int(errors > 0)


def _checked(arguments: argparse.Namespace) -> tuple[Recipe, tuple[int, int], Path, Path]:
    """The recipe, the shard, the data set's folder and the store's folder, checked before anything is written."""
    from siamfast.data.curation import Recipe

    if arguments.root is None:
        raise ValueError("ROOT: missing; give the data set's folder before OUT")
    check_engine_arguments(arguments)
    recipe = Recipe(arguments.kind, arguments.exemplar, arguments.instance, arguments.context_amount, arguments.quality)
    shard = _shard(arguments.shard)
    root, out = Path(arguments.root).resolve(), Path(arguments.out)
    if not root.is_dir():
        raise ValueError(f"ROOT: {arguments.root} is not a folder")
    if out.resolve().is_relative_to(root):
        raise ValueError(f"OUT: {out} is inside ROOT; nothing is written into the data set")
    list_videos(recipe.kind, root)  # raises when there are none
    return recipe, shard, root, out


def _shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8)."""
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ValueError(f"--shard: got {text!r}, expected I/N with 1 <= I <= N")
    return int(first), int(last)


def _errors_name(shard: str) -> str:
    first, last = _shard(shard)
    return "errors.jsonl" if last == 1 else f"errors-{first}-of-{last}.jsonl"


def _write_errors(out: Path, shard: str, errors: Iterator[tuple[str, str]]) -> int:
    """Write one line {path, reason} per error; the file is replaced as a whole, and removed when there are none."""
    path, count = out / _errors_name(shard), 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for name, reason in errors:
            file.write(json.dumps({"path": name, "reason": reason}) + "\n")
            count += 1
    if not count:
        path.unlink()
    return count


def _verify(arguments: argparse.Namespace) -> int:
    """Decode every crop and list those that are wrong; returns 0 when none is."""
    from siamfast.data.store_check import StoreChecker

    checker = StoreChecker(Path(arguments.out))
    wrong = 0
    for line in checker:
        print(line)
        wrong += 1
    print(
        f"{arguments.out}: {checker.targets} targets in frames, {checker.tracks} tracks, {wrong} wrong", file=sys.stderr
    )
    return int(wrong > 0)
