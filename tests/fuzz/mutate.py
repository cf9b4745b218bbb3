"""Damaged copies of good files and texts."""

from __future__ import annotations

import json
import random
from typing import Any

_INTERESTING = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff")
_WORDS = (
    "nan", "inf", "-inf", "1e400", "-1", "0", "99999999999999999999", "", " ", ",", ";", "\t", "\x00", "é", "\ufeff",
    "{", "}", "[", "]", '"', "null", "true", "-0.0", "1e-320", "../..", "/", ":", "=", "%s", "\ud7ff", "1_0", "0x10",
)  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Apply one to eight changes: bits and bytes changed, parts removed, copied, moved, or cut off at the end."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not data:
            return bytes(rng.randbytes(rng.randrange(64)))
        at = rng.randrange(len(data))
        end = min(len(data), at + rng.choice((1, 2, 4, 16, 256)))
        kind = rng.randrange(8)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.randrange(256)
        elif kind == 2:
            word = rng.choice(_INTERESTING)
            data[at : at + len(word)] = word
        elif kind == 3:
            del data[at:end]
        elif kind == 4:
            data[at:at] = data[rng.randrange(len(data)) :][: end - at]
        elif kind == 5:
            del data[at:]
        elif kind == 6:
            data[at:end] = rng.randbytes(end - at)
        else:
            data[at:at] = rng.choice(_WORDS).encode("utf-8", "surrogatepass")
    return bytes(data)


def damaged_json(content: bytes, rng: random.Random) -> bytes:
    """As `damaged`, for the values inside JSON: one is replaced by another kind, or removed."""
    root = [json.loads(content)]
    places: list[tuple[Any, Any]] = [(root, 0)]
    for parent, key in places:  # the list grows during the loop
        value = parent[key]
        if isinstance(value, dict):
            places += [(value, inner) for inner in value]
        elif isinstance(value, list):
            places += [(value, inner) for inner in range(len(value))]
    parent, key = rng.choice(places)
    if rng.random() < 0.2 and parent is not root:
        del parent[key]
    else:
        parent[key] = rng.choice((None, True, -1, 1e300, "", "a", [], {}, [1], {"a": 1}, [[]]))
    return json.dumps(root[0]).encode()


def damaged_text(text: str, rng: random.Random) -> str:
    """As `damaged`, for words and characters."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:at] + rng.choice(_WORDS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.choice((1, 3, 10)) :]
        elif kind == 2:
            text = text[:at] + rng.choice(_WORDS) + text[at + rng.choice((1, 3)) :]
        else:
            text = text[:at] + chr(rng.randrange(1, 0x250)) + text[at:]
    return text
