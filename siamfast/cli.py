"""The command line: `siamfast track | propagate | train | ...`. Each command is a file in commands/ with its name."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Generator, Sequence
from types import ModuleType

from siamfast.commands.termination import noted_interrupts
from siamfast.version import __version__

# The commands by task. A command is a module of its name in siamfast.commands, with EXAMPLE, add_arguments and run,
# imported when needed.
_GROUPS = {
    "track": {
        "track": "track one target, or several, through a video, a folder of images or a camera",
        "annotate": "boxes in all frames of a video from boxes in some",
        "propagate": "carry the masks of the first frame through a video",
        "show-correspondence": "draw the matches of one image's cells in another",
        "export": "write a tracker for use without PyTorch: graphs, constants, an example",
    },
    "train": {
        "train": "train the mobile tracker, SiamFC, a guided tracker or a correspondence encoder",
        "curate": "crop the targets of a data set into a store for training",
        "cutouts": "mark the objects of photographs, for synthetic video",
        "convert-backbone": "convert ImageNet weights of MobileNetV2 for `train --task mobile`",
    },
    "evaluate": {
        "eval": "evaluate trackers on OTB, GOT-10k, LaSOT or a folder of sequences",
        "synthesize": "write synthetic clips with exact boxes, to evaluate on",
        "vot": "serve the VOT toolkit over TraX",
    },
    "this machine": {
        "demo": "render a synthetic clip, track it, show the result",
        "bench": "our ops beside plain PyTorch on this machine; the resources of the GPU kernels",
        "info": "versions, devices, the backend of each op, and what is missing",
    },
}
COMMANDS = {name: text for group in _GROUPS.values() for name, text in group.items()}


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


class _Help(argparse.RawDescriptionHelpFormatter):
    """Leaves the commands to the text below the options, where they are grouped."""

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from ()


def make_parser(*only: str) -> argparse.ArgumentParser:
    """The parser of the command line.

    Args:
        only: the commands whose options are added; none: all, as `shtab siamfast.cli.make_parser` needs them.
    """
    parser = argparse.ArgumentParser(
        prog="siamfast",
        description="Siamese tracking, fast.",
        formatter_class=_Help,
        epilog=_listing() + "\n\nsiamfast COMMAND --help has the options of a command, and an example.",
    )
    parser.add_argument("--version", action="version", version=f"siamfast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", help="see below")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if not only or name in only:
            command.epilog = _module(name).EXAMPLE
            command.formatter_class = argparse.RawDescriptionHelpFormatter  # a command to paste stays on one line
            _module(name).add_arguments(command)
            command.set_defaults(parser=command)
    return parser


def _listing() -> str:
    """The commands, grouped by task, one line each."""
    wide = max(map(len, COMMANDS))
    lines = [
        line
        for task, group in _GROUPS.items()
        for line in ("", f"{task}:", *(f"  {name:{wide}}  {text}" for name, text in group.items()))
    ]
    return "\n".join(lines[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends in one line on stderr and exit code 2."""
    words = _joined(list(sys.argv[1:] if argv is None else argv))
    parser = make_parser(words[0] if words else "")
    arguments = parser.parse_args(words)
    with noted_interrupts() as interrupts:
        try:
            code = int(_module(arguments.command).run(arguments))
            sys.stdout.flush()  # while an error can still be handled
            return code
        except BrokenPipeError:
            # The reader of the output has closed it (`| head`). Output still pending at exit is discarded.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except KeyboardInterrupt:
            return _stopped(arguments.command)
        except Exception as error:
            if interrupts:
                return _stopped(arguments.command)
            if not isinstance(error, (ValueError, OSError)):
                raise
            line = " ".join(str(error).split()) or type(error).__name__
            line = _naming_options(line, arguments.parser)
            print(f"siamfast {arguments.command}: error: {line}", file=sys.stderr)
            return 2


def _stopped(command: str) -> int:
    print(f"siamfast {command}: stopped", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
