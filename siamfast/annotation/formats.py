"""Files of boxes: which formats there are, reading and writing by a format's name or a file's ending.

Inside, frames are counted from 0 and boxes are x, y, w, h in 0-based pixels; each format converts to its own
conventions and back. A new format is registered in FORMATS and nowhere else.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from siamfast.annotation.boxes import Box, Clip, by_target, checked_box
from siamfast.annotation.documents import read_coco, read_cvat, write_coco, write_cvat
from siamfast.io.files import naming, replacing, temporary_beside
from siamfast.io.listing import folders, natural_key

COLUMNS = ("frame", "id", "x", "y", "w", "h", "label", "confidence")


def _encoding(path: Path) -> str:
    """UTF-8, or UTF-16 with its mark, which is Excel's "Unicode text"."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not empty."""
    # split, not splitlines: text may have U+2028 and its like within a line
    for number, line in enumerate(path.read_text(encoding=_encoding(path)).split("\n"), start=1):
        if line.strip():
            yield number, line.strip()


@contextlib.contextmanager
def _in_line(number: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


# ----------------------------------------------------------------------------------------------------------------- csv
def read_csv(path: Path) -> list[Box]:
    """Columns by their names in the first line: frame,x,y,w,h; where they are there, id (else 1), label, confidence."""
    boxes = []
    with path.open(encoding=_encoding(path), newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        missing = [name for name in ("frame", "x", "y", "w", "h") if name not in (rows.fieldnames or [])]
        if missing:
            raise ValueError(f"line 1: no column {', '.join(missing)}, expected a header such as {','.join(COLUMNS)}")
        names = list(rows.fieldnames or [])
        twice = next((name for name in names if name in COLUMNS and names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"line 1: two columns {twice}, expected one")
        for row in rows:
            if not any(str(cell or "").strip() for name, cell in row.items() if name is not None):
                continue  # spreadsheets write rows of commas alone
            with _in_line(rows.line_num):
                if None in row:  # what a decimal comma makes of a row
                    got, expected = len(names) + len(row[None]), len(names)
                    raise ValueError(f"got {got} values, expected {expected}, as the header has")
                sides = [row[name] for name in ("x", "y", "w", "h")]
                boxes.append(
                    checked_box(row["frame"], row.get("id", 1), sides, row.get("label"), row.get("confidence"))
                )
    return boxes


def write_csv(path: Path, boxes: list[Box], clip: Clip) -> None:
    """One row per box; absence is 0,0,0,0."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for box in boxes:
            sides = (f"{side:.2f}" for side in box.sides)
            rows.writerow([box.frame, box.target, *sides, box.label, f"{box.confidence:.4f}"])


# --------------------------------------------------------------------------------------------------------------- jsonl
def read_jsonl(path: Path) -> list[Box]:
    """One object per line: frame, id, box [x, y, w, h] or null where the target is absent, label, confidence."""
    boxes = []
    for number, line in _lines(path):
        with _in_line(number):
            row = json.loads(line)
            if not isinstance(row, dict) or not {"frame", "id", "box"} <= row.keys():
                raise ValueError(f"got {line[:80]!r}, expected an object with frame, id and box")
            sides = [0, 0, 0, 0] if row["box"] is None else row["box"]
            if not isinstance(sides, list):
                raise ValueError(f"box: got {str(sides)[:40]!r}, expected [x, y, w, h] or null")
            boxes.append(checked_box(row["frame"], row["id"], sides, row.get("label"), row.get("confidence")))
    return boxes


def write_jsonl(path: Path, boxes: list[Box], clip: Clip) -> None:
    """One object per line."""
    with path.open("w", encoding="utf-8") as file:
        for box in boxes:
            sides = None if box.absent else [round(side, 2) for side in box.sides]
            row = {"frame": box.frame, "id": box.target, "box": sides, "label": box.label}
            file.write(json.dumps(row | {"confidence": round(box.confidence, 4)}, ensure_ascii=False) + "\n")


# ----------------------------------------------------------------------------------------------------------------- mot
def read_mot(path: Path) -> list[Box]:
    """frame,id,x,y,w,h,confidence,...: frames and pixels from 1, as in `siamfast.data.readers.read_mot`; rows with 0 as
    the seventh number do not count."""
    boxes = []
    for number, line in _lines(path):
        with _in_line(number):
            words = [word for word in line.replace(",", " ").split() if word]
            try:
                frame, target, x, y, w, h, *rest = (float(word) for word in words)
            except ValueError:
                raise ValueError(f"got {line[:80]!r}, expected numbers frame,id,x,y,w,h,...") from None
            counted = rest[0] if rest else 1.0
            if counted != 0:
                sure = min(counted, 1.0) if counted > 0 else 1.0  # detections without a confidence have -1
                if frame < 1:
                    raise ValueError(f"frame: got {frame:g}, expected 1 or more")
                boxes.append(checked_box(frame - 1, target, (x - 1, y - 1, w, h), confidence=sure))
    return boxes


def write_mot(path: Path, boxes: list[Box], clip: Clip) -> None:
    """frame,id,x,y,w,h,confidence,-1,-1,-1; no rows where a target is absent, no labels."""
    with path.open("w", encoding="utf-8") as file:
        for box in boxes:
            if not box.absent:
                sides = f"{box.x + 1:.2f},{box.y + 1:.2f},{box.w:.2f},{box.h:.2f}"
                file.write(f"{box.frame + 1},{box.target},{sides},{max(box.confidence, 1e-4):.4f},-1,-1,-1\n")


# -------------------------------------------------------------------------------------------------------------- got10k
def read_got10k(path: Path) -> list[Box]:
    """A folder with groundtruth.txt, target 1, or a folder of such folders, named by their targets' numbers.

    One row x,y,w,h per frame: nan is a frame without a label; 0,0,0,0, or a box where absence.label has 1, is absence.
    """
    inner = [folder for folder in folders(path) if (folder / "groundtruth.txt").is_file()]
    if (path / "groundtruth.txt").is_file():
        inner = [path]
    if not inner:
        raise ValueError("no groundtruth.txt in this folder or in folders in it")
    boxes = []
    for folder in sorted(inner, key=natural_key):
        target = 1 if folder == path else folder.name
        flags = folder / "absence.label"
        absent = flags.read_text().split() if flags.is_file() else []
        rows = (folder / "groundtruth.txt").read_text(encoding="utf-8-sig").splitlines()
        for frame, row in enumerate(rows):
            with _in_line(frame + 1):
                words = row.replace(",", " ").split()
                if not words or all(word.lower() == "nan" for word in words):
                    continue
                gone = frame < len(absent) and absent[frame] != "0"
                boxes.append(checked_box(frame, target, [0, 0, 0, 0] if gone else words))
    return boxes


def write_got10k(path: Path, boxes: list[Box], clip: Clip) -> None:
    """groundtruth.txt and absence.label, in the folder `path` for a single target 1, else in a folder per target."""
    targets = by_target(boxes)
    for target, own in targets.items():
        folder = path if list(targets) == [1] else path / str(target)
        folder.mkdir(parents=True, exist_ok=True)
        rows, flags = ["nan,nan,nan,nan"] * clip.length, ["1"] * clip.length
        for box in own:
            rows[box.frame] = ",".join(f"{side:.4f}" for side in box.sides)
            flags[box.frame] = str(int(box.absent))
        (folder / "groundtruth.txt").write_text("\n".join(rows) + "\n")
        (folder / "absence.label").write_text("\n".join(flags) + "\n")


# ------------------------------------------------------------------------------------------------------------ registry
class Format(NamedTuple):
    """suffix: of its files; empty for a folder. read: path -> boxes. write: path, boxes by frame, clip."""

    suffix: str
    read: Callable[[Path], list[Box]]
    write: Callable[[Path, list[Box], Clip], None]


FORMATS = {
    "csv": Format(".csv", read_csv, write_csv),
    "jsonl": Format(".jsonl", read_jsonl, write_jsonl),
    "mot": Format(".txt", read_mot, write_mot),
    "coco": Format(".json", read_coco, write_coco),
    "cvat": Format(".xml", read_cvat, write_cvat),
    "got10k": Format("", read_got10k, write_got10k),
}


def format_of(path: str | os.PathLike[str], name: str | None = None) -> Format:
    """The format `name`, or that of the file's ending.

    Raises:
        ValueError: an unknown name or ending.

    >>> format_of("boxes.xml") is FORMATS["cvat"]
    True
    """
    if name is not None:
        if name not in FORMATS:
            raise ValueError(f"format: got {name!r}, expected one of {', '.join(FORMATS)}")
        return FORMATS[name]
    suffix = "" if os.path.isdir(path) else Path(path).suffix.lower()
    for kind in FORMATS.values():
        if kind.suffix == suffix:
            return kind
    known = ", ".join(f"{kind.suffix or 'none (a folder)'}: {name}" for name, kind in FORMATS.items())
    raise ValueError(f"{os.fspath(path)}: its ending does not say the format ({known}); give the format's name")


def read_boxes(path: str | os.PathLike[str], name: str | None = None) -> list[Box]:
    """The boxes of a file, or of GOT-10k's folder, in frames counted from 0 and 0-based pixels.

    Args:
        path: the file. name: one of FORMATS; None: by the file's ending.

    Raises:
        OSError: it cannot be read. ValueError: another format, or a malformed entry; the message names file and place.
    """
    path, kind = Path(path), format_of(path, name)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir() is not (not kind.suffix):
        raise ValueError(f"{path}: is {'a folder' if path.is_dir() else 'a file'}, not what this format is kept in")
    try:
        boxes = kind.read(path)
    except RecursionError:
        raise ValueError(f"{path}: brackets within brackets without end") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8 text") from None
    except (ValueError, csv.Error) as error:  # JSONDecodeError among them
        raise ValueError(f"{path}: {error}") from None
    if not boxes:
        raise ValueError(f"{path}: no boxes in it")
    return boxes


def read_targets(
    path: str | os.PathLike[str], name: str | None = None, *, notice: Callable[[str], object]
) -> dict[int, list[Box]]:
    """`by_target` of `read_boxes`; notice: called with a line for each second box of a target in a frame.

    Raises:
        OSError, ValueError: as `read_boxes`.
    """
    return by_target(read_boxes(path, name), lambda line: notice(f"{os.fspath(path)}: {line}"))


def write_boxes(path: str | os.PathLike[str], boxes: Iterable[Box], clip: Clip, name: str | None = None) -> None:
    """Write boxes completely or not at all; a file is replaced, a folder must be new or empty.

    Args:
        path: the file, or GOT-10k's folder. boxes: in any order, at most one per target and frame. clip: their video.
        name: one of FORMATS; None: by the file's ending.

    Raises:
        OSError: it cannot be written. ValueError: an unknown format, or a box after the clip's end.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_boxes(f"{folder}/a.xml", [Box(0, 1, 2.5, 3, 10, 20)], Clip("a", 64, 48, 1))
    ...     read_boxes(f"{folder}/a.xml")[0].sides
    (2.5, 3.0, 10.0, 20.0)
    """
    path, kind = Path(path), format_of(path, name)
    ordered = sorted(boxes, key=lambda box: (box.frame, box.target))
    if ordered and ordered[-1].frame >= clip.length:
        raise ValueError(f"boxes: got frame {ordered[-1].frame}, expected less than the clip's {clip.length} frames")
    if kind.suffix:
        with replacing(path) as temporary:
            kind.write(temporary, ordered, clip)
        return
    path = path.absolute()  # "." has no name to put a temporary one beside
    temporary = temporary_beside(path)
    try:
        with naming(path):
            kind.write(temporary, ordered, clip)
            os.replace(temporary, path)  # onto a folder only if that is empty
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
