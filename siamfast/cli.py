"""The command line: `siamfast track | propagate | train | ...`. Each command lives beside what it commands."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence

from siamfast.version import __version__

# name -> (module with add_arguments and run, one line of help). Modules are imported when their command is asked for.
_COMMANDS = {
    "track": ("siamfast.tracking.command", "track one target through a video, a folder of images or a camera"),
    "propagate": ("siamfast.tracking.propagate_command", "carry the masks of the first frame through a video"),
    "show-correspondence": (
        "siamfast.tracking.show_correspondence",
        "draw where the cells of one image lie in another",
    ),
    "train": (
        "siamfast.training.command",
        "train the mobile tracker, SiamFC, a guided tracker or a correspondence encoder",
    ),
    "convert-backbone": (
        "siamfast.commands.convert_backbone",
        "convert ImageNet weights of MobileNetV2 for `train --task mobile`",
    ),
    "cutouts": ("siamfast.commands.cutouts", "mark what photographs show, for textures of synthetic video"),
    "export": ("siamfast.commands.export", "write a mobile tracker's graphs for onnxruntime beside its weights"),
    "curate": ("siamfast.data.curate_command", "crop the targets of a data set into a store for training"),
    "synthesize": ("siamfast.data.synthesize_command", "write synthetic clips with exact boxes, to evaluate on"),
    "eval": ("siamfast.evaluation.command", "evaluate trackers on OTB, GOT-10k, LaSOT or a folder of sequences"),
    "vot": ("siamfast.evaluation.vot", "serve the VOT toolkit, by TraX"),
    "demo": ("siamfast.demo", "render a synthetic clip, track it, show what came out"),
    "bench": ("siamfast.bench", "our ops beside plain PyTorch on this machine; what the GPU kernels compile to"),
    "info": ("siamfast.info", "versions, devices, which backend serves which op, and what is missing"),
}


def _joined(words: list[str]) -> list[str]:
    """`--box -5,40,30,30` as `--box=-5,40,30,30`: argparse would take numbers that begin with a minus for an option.

    >>> _joined(["track", "a.mp4", "--box", "-5,40,30,30", "--csv", "b.csv"])
    ['track', 'a.mp4', '--box=-5,40,30,30', '--csv', 'b.csv']
    """
    joined: list[str] = []
    for word in words:
        if joined and re.fullmatch(r"--[a-z][\w-]*", joined[-1]) and re.match(r"-[\d.]+,", word):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line on stderr and exit code 2."""
    words = _joined(list(sys.argv[1:] if argv is None else argv))
    parser = argparse.ArgumentParser(prog="siamfast", description="Siamese tracking, fast.")
    parser.add_argument("--version", action="version", version=f"siamfast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if words[:1] == [name]:
            importlib.import_module(module).add_arguments(command)
    arguments = parser.parse_args(words)
    try:
        code = int(importlib.import_module(_COMMANDS[arguments.command][0]).run(arguments))
        sys.stdout.flush()  # while an error can still be handled
        return code
    except BrokenPipeError:
        # Who reads the output has had enough (`| head`). What is still to be written at exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"siamfast {arguments.command}: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"siamfast {arguments.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
