"""What the results in a folder are of: tracker, weights and data of every label, so that others are never mixed in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from siamfast.data.sequences import Sequence
from siamfast.evaluation.one_pass import Entry
from siamfast.evaluation.protocols import Protocol
from siamfast.io.files import differences, replacing

FILE = "runs.json"


def sequence_digest(sequence: Sequence) -> str:
    """Tells a sequence from another one of its name: by names and sizes of its frames, the first one's content and the
    truth. The content of all frames would take as long to read as to track."""
    digest = hashlib.sha256()
    for path in sequence.frames:
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    digest.update(sequence.frames[0].read_bytes())
    for truth in (sequence.boxes, sequence.visibility):
        digest.update(b"" if truth is None else np.asarray(truth, np.float64).tobytes())
    return digest.hexdigest()[:16]


def claim_results(
    protocol: Protocol, out: Path, root: Path, frames: int | None, entries: list[Entry], sequences: list[Sequence]
) -> None:
    """Write OUT/runs.json; refuse where OUT has results of a label that stands for something else now.

    Args:
        protocol: of the data set. out: where results are. root: where the data set is. frames: the first frames of each
            sequence alone; None: all. entries: the trackers. sequences: what they are evaluated on.

    Raises:
        ValueError: results of another tracker, other weights, options, frames or data under one label.
    """
    path = out / FILE
    known = _read(path)
    digests = {sequence.name: sequence_digest(sequence) for sequence in sequences}
    for entry in entries:
        mine = entry.signature() | {"dataset": protocol.kind, "root": str(root.resolve()), "frames": frames}
        recorded = dict(known.get(entry.label, {}))
        theirs: dict[str, str] = recorded.pop("sequences", {})
        other = differences(recorded, mine) if recorded else ""
        if other:
            raise ValueError(_refusal(path, entry, f"of something else ({other})"))
        for name, digest in digests.items():
            done = protocol.files(out / "results", entry.label, name).boxes.is_file()
            if done and theirs.get(name) != digest:
                raise ValueError(_refusal(path, entry, f"on a sequence {name!r} of other frames or another truth"))
        known[entry.label] = mine | {"sequences": theirs | digests}
    out.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(known, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """What was claimed before, by label."""
    if not path.is_file():
        return {}
    try:
        known = {label: dict(claim) for label, claim in dict(json.loads(path.read_text())).items()}
        if not all(isinstance(claim.get("sequences", {}), dict) for claim in known.values()):
            raise TypeError("sequences are no mapping")
    except (ValueError, TypeError) as error:
        raise ValueError(f"--out: {path} is damaged ({error}): give another folder") from None
    return known


def _refusal(path: Path, entry: Entry, what: str) -> str:
    return f"--out: {path} has results of {entry.label!r} {what}: give another --out, or another label"
