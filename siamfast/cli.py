"""The command line: `siamfast track | propagate | train | ...`. Each command is a file in commands/ with its name."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from siamfast.version import __version__

# A command is a module with its name in siamfast.commands, with EXAMPLE, add_arguments and run; it is imported when
# needed.
_COMMANDS = {
    "track": "track one target, or several, through a video, a folder of images or a camera",
    "annotate": "boxes in all frames of a video from boxes in some",
    "propagate": "carry the masks of the first frame through a video",
    "show-correspondence": "draw the matches of one image's cells in another",
    "train": "train the mobile tracker, SiamFC, a guided tracker or a correspondence encoder",
    "convert-backbone": "convert ImageNet weights of MobileNetV2 for `train --task mobile`",
    "cutouts": "mark the objects of photographs, for synthetic video",
    "export": "write a tracker for use without PyTorch: graphs, constants, an example",
    "curate": "crop the targets of a data set into a store for training",
    "synthesize": "write synthetic clips with exact boxes, to evaluate on",
    "eval": "evaluate trackers on OTB, GOT-10k, LaSOT or a folder of sequences",
    "vot": "serve the VOT toolkit over TraX",
    "demo": "render a synthetic clip, track it, show the result",
    "bench": "our ops beside plain PyTorch on this machine; the resources of the GPU kernels",
    "info": "versions, devices, the backend of each op, and what is missing",
}


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"siamfast.commands.{command.replace('-', '_')}")


def _joined(words: list[str]) -> list[str]:
    """`--box -5,40,30,30` as `--box=-5,40,30,30`: argparse would take numbers with a leading minus for an option.

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


def _naming_options(line: str, parser: argparse.ArgumentParser) -> str:
    """A message about a function's argument, "box: got ...", with its option instead: "--box: got ..."."""
    name, colon, rest = line.partition(": ")
    for action in parser._actions:  # argparse has no public list of them
        if colon and action.dest == name:
            return f"{action.option_strings[-1] if action.option_strings else action.metavar or name.upper()}: {rest}"
    return line


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line on stderr and exit code 2."""
    words = _joined(list(sys.argv[1:] if argv is None else argv))
    parser = argparse.ArgumentParser(prog="siamfast", description="Siamese tracking, fast.")
    parser.add_argument("--version", action="version", version=f"siamfast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if words[:1] == [name]:
            command.epilog = _module(name).EXAMPLE
            command.formatter_class = argparse.RawDescriptionHelpFormatter  # a command to paste stays on one line
            _module(name).add_arguments(command)
    arguments = parser.parse_args(words)
    try:
        code = int(_module(arguments.command).run(arguments))
        sys.stdout.flush()  # while an error can still be handled
        return code
    except BrokenPipeError:
        # The reader of the output has closed it (`| head`). Output still pending at exit is discarded.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        line = _naming_options(line, commands.choices[arguments.command])
        print(f"siamfast {arguments.command}: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"siamfast {arguments.command}: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
