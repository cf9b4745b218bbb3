"""`siamfast cutouts`: mark the object of each photograph in its alpha channel, for --photos of the trainings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLE = "example:\n  siamfast cutouts photos/ photos-marked/ --backbone backbone.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", metavar="PHOTOS", help="folder of photographs, at any depth")
    parser.add_argument(
        "out", metavar="OUT", help="folder to write: PNGs with an alpha channel where an object was found, else JPEGs"
    )
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        default="",
        help="file of siamfast convert-backbone (default: the packaged tracker's)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Cut out the objects; a stopped run resumes when repeated.

    Raises:
        ValueError, OSError: no photographs, weights of another network, a file that cannot be written.
    """
    import cv2
    import numpy as np
    from tqdm import tqdm

    from siamfast.data.cutouts import cut_out
    from siamfast.data.photos import Photos
    from siamfast.io.files import replacing
    from siamfast.models.mobile import SiamMobile
    from siamfast.models.mobile_weights import start_from

    photos, out = Photos(arguments.photos), Path(arguments.out)
    if out.resolve() == photos.folder.resolve():
        raise ValueError(f"OUT: {out} is PHOTOS; give another folder")
    model = SiamMobile().eval()
    start_from(model, arguments.backbone or "mobile")
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, source in enumerate(tqdm(photos.files, desc="cutouts", unit="photo", file=sys.stderr)):
        name = "-".join(source.relative_to(photos.folder).with_suffix("").parts)
        marked, plain = out / f"{name}.png", out / f"{name}.jpg"
        if not marked.exists() and not plain.exists():
            image = photos.read(number)
            mask = cut_out(image, model.backbone)
            pixels = image if mask is None else np.dstack([image, mask.astype(np.uint8) * 255])
            conversion = cv2.COLOR_RGB2BGR if mask is None else cv2.COLOR_RGBA2BGRA
            with replacing(plain if mask is None else marked) as temporary:
                if not cv2.imwrite(str(temporary), cv2.cvtColor(pixels, conversion)):
                    raise OSError(f"cannot write {temporary}")
        count += marked.exists()
    print(f"{count} of {len(photos)} photographs show an object that could be cut out; {out}")
    return 0
