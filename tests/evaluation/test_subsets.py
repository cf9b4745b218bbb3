"""The evaluated subset of a data set is never guessed, and the report names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamfast.evaluation.subsets import choose_subset
from tests.evaluation.data_sets import evaluate, make_got10k, make_lasot, make_otb, summary


@pytest.mark.parametrize(
    ("words", "name", "sequences"),
    [
        ([], "test", ["cat-2"]),
        (["--subset", "train"], "train", ["cat-1"]),
        (["--subset", "all"], "all", ["cat-1", "cat-2"]),
    ],
)
def test_lasots_subset_defaults_to_the_test_set(
    words: list[str], name: str, sequences: list[str], tmp_path: Path
) -> None:
    root, out = make_lasot(tmp_path / "data"), tmp_path / "out"
    (root / "testing_set.txt").write_text("cat-2\n")
    assert evaluate("lasot", root, out, *words) == 0
    assert list(summary(out)["trackers"]["mobile"]["sequences"]) == sequences
    assert summary(out)["about"]["subset"] == name
    assert f"subset: {name};" in (out / "report.html").read_text()


def test_missing_listed_sequences_are_reported(tmp_path: Path) -> None:
    root, out = make_lasot(tmp_path / "data"), tmp_path / "out"
    (root / "testing_set.txt").write_text("cat-2\nzebra-1\nzebra-2\n")
    assert evaluate("lasot", root, out) == 1
    assert summary(out)["errors"] == [[".", "2 of 3 listed sequences are not there, such as zebra-1"]]


def test_a_missing_subset_is_refused(tmp_path: Path) -> None:
    lasot, got10k, otb = (make(tmp_path / make.__name__) for make in (make_lasot, make_got10k, make_otb))
    for dataset, root, subset, message in (
        ("lasot", lasot, "test", "testing_set.txt is not there"),
        ("got10k", got10k, "test", "has val"),
        ("got10k", got10k / "val", "test", "but ROOT is"),
        ("otb", otb, "test", "the layout otb has none"),
    ):
        with pytest.raises(ValueError, match=f"--subset: got '{subset}', .*{message}"):
            choose_subset(dataset, root, subset)
    assert choose_subset("got10k", got10k, None) == choose_subset("got10k", got10k / "val", None)
