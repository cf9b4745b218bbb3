"""The identity of the results in a folder: tracker, weights and data per label, so that others are never mixed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from siamfast.data.sequences import Sequence
from siamfast.evaluation.one_pass import Entry
from siamfast.evaluation.protocols import Protocol
from siamfast.io.files import differences, replacing

FILE = "runs.json"


def claim_results(
    protocol: Protocol, out: Path, root: Path, frames: int | None, entries: list[Entry], sequences: list[Sequence]
) -> dict[str, str]:
    """Write OUT/runs.json; refuse if OUT has results of a label that now means something else.

    Args:
        protocol: of the data set. out: folder of the results. root: folder of the data set. frames: number of first
            frames of each sequence; None: all. entries: the trackers. sequences: those to evaluate on.

    Returns:
        The digests of the sequences, by name.

    Raises:
        ValueError: results of another tracker, other weights, options, frames or data under one label.
    """
    path = out / FILE
    claims = _read(path)
    digests = {sequence.name: sequence.digest() for sequence in sequences}
    for entry in entries:
        claim = entry.signature() | {"dataset": protocol.kind, "root": str(root.resolve()), "frames": frames}
        recorded = dict(claims.get(entry.label, {}))
        recorded_digests: dict[str, str] = recorded.pop("sequences", {})
        changes = differences(recorded, claim) if recorded else ""
        if changes:
            raise ValueError(_refusal(path, entry, f"of something else ({changes})"))
        for name, digest in digests.items():
            done = protocol.files(out / "results", entry.label, name).boxes.is_file()
            if done and recorded_digests.get(name) != digest:
                raise ValueError(_refusal(path, entry, f"on a sequence {name!r} of other frames or another truth"))
        claims[entry.label] = claim | {"sequences": recorded_digests | digests}
    out.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(claims, indent=1) + "\n")
    return digests


def _read(path: Path) -> dict[str, Any]:
    """Earlier claims, by label."""
    if not path.is_file():
        return {}
    try:
        claims = {label: dict(claim) for label, claim in dict(json.loads(path.read_text())).items()}
        if not all(isinstance(claim.get("sequences", {}), dict) for claim in claims.values()):
            raise TypeError("sequences are no mapping")
    except (ValueError, TypeError) as error:
        raise ValueError(f"--out: {path} is damaged ({error}): give another folder") from None
    return claims


def _refusal(path: Path, entry: Entry, difference: str) -> str:
    return f"--out: {path} has results of {entry.label!r} {difference}: give another --out, or another label"
