"""The record of an annotation, a target's box in a frame, and a target's records in order."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

LABEL = "object"  # where a file gives none
_LIMIT = 1 << 63  # of frames and ids


class Box(NamedTuple):
    """A target in a frame.

    frame: counted from 0. target: its number, 0 or more, the same in all frames. x, y, w, h: 0-based pixels; all 0
    where the target is absent: it ends there, until a later box. label: its class. confidence: 0 to 1; 1 by a person.
    """

    frame: int
    target: int
    x: float
    y: float
    w: float
    h: float
    label: str = LABEL
    confidence: float = 1.0

    @property
    def sides(self) -> tuple[float, float, float, float]:
        """x, y, w, h."""
        return self.x, self.y, self.w, self.h

    @property
    def absent(self) -> bool:
        """Whether the record says that the target is not there."""
        return self.w <= 0


class Clip(NamedTuple):
    """The annotated video: its name, the size and the number of its frames, and the names of their files, or none."""

    name: str
    width: int
    height: int
    length: int
    files: Sequence[str] = ()


def _whole(name: str, value: Any) -> int:
    try:
        number = int(value) if isinstance(value, (int, str)) and re.fullmatch(r" *\d+ *", str(value)) else float(value)
        if not 0 <= number < _LIMIT or number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name}: got {str(value)[:40]!r}, expected a whole number from 0 to 9e18") from None
    return int(number)


def _text(label: Any) -> str:
    text = LABEL if label in (None, "") else str(label)
    if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", text):  # XML takes none of these
        raise ValueError(f"label: got {text[:40]!r}, expected text without control characters")
    return text


def checked_box(frame: Any, target: Any, sides: Iterable[Any], label: Any = None, confidence: Any = None) -> Box:
    """A Box from values read from a file, numbers or text; a side of 0, or four nan, is absence.

    Raises:
        ValueError: a value that is not a number in its range; the message names it.

    >>> checked_box("3", 1, ("10", "20", "30", "40")).sides
    (10.0, 20.0, 30.0, 40.0)
    """
    given = list(sides)
    try:
        x, y, w, h = (float(value) for value in given)
        if math.inf in (abs(x), abs(y), abs(w), abs(h)):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"box: got {str(given)[:80]}, expected four finite numbers x, y, w, h") from None
    missing = [math.isnan(side) for side in (x, y, w, h)]
    if w < 0 or h < 0 or any(missing) != all(missing):
        raise ValueError(f"box: got {x:g},{y:g},{w:g},{h:g}, expected w and h above 0, or 0,0,0,0 where it is absent")
    if not (w > 0 and h > 0):
        x = y = w = h = 0.0
    try:
        sure = 1.0 if confidence in (None, "") else float(confidence)
        if not 0 <= sure <= 1:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"confidence: got {str(confidence)[:40]!r}, expected a number from 0 to 1") from None
    return Box(_whole("frame", frame), _whole("id", target), x, y, w, h, _text(label), sure)


def by_target(boxes: Iterable[Box], notice: Callable[[str], object] | None = None) -> dict[int, list[Box]]:
    """Each target's boxes, by frame, whatever their order.

    Args:
        notice: called with a line for each box of a target that has one in that frame already; the first one counts.
            None: that is an error.

    Raises:
        ValueError: two boxes of a target in one frame, without `notice`.

    >>> sorted(by_target([Box(9, 1, 0, 0, 5, 5), Box(0, 1, 0, 0, 5, 5), Box(0, 2, 0, 0, 5, 5)]))
    [1, 2]
    """
    targets: dict[int, list[Box]] = {}
    for box in sorted(boxes, key=lambda box: (box.target, box.frame)):
        own = targets.setdefault(box.target, [])
        if own and own[-1].frame == box.frame:
            problem = f"target {box.target} has two boxes at frame {box.frame} (counted from 0)"
            if notice is None:
                raise ValueError(f"{problem}, expected one")
            notice(f"{problem}; the first one counts")
            continue
        own.append(box)
    return targets
