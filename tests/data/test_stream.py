"""A stream of batches is the same for any number of workers and from any position; mixtures keep their shares."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from siamfast.data.mixed_pairs import MixedPairs
from siamfast.data.stream import PairStream


class Numbers(Dataset[dict[str, torch.Tensor]]):
    """Item i is i plus the data set's own number."""

    def __init__(self, length: int, first: int = 0) -> None:
        self.length, self.first = length, first

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"number": torch.tensor(self.first + index)}


def taken(stream: PairStream, workers: int = 0) -> list[list[int]]:
    return [batch["number"].tolist() for batch in DataLoader(stream, batch_size=None, num_workers=workers)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_do_not_change_batches_or_their_order(workers: int) -> None:
    batches = taken(PairStream(Numbers(17), 4), workers)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16]]


def test_a_stream_resumes_where_another_stopped() -> None:
    whole = taken(PairStream(Numbers(40), 4))
    for start in (0, 3, 9, 10):
        assert taken(PairStream(Numbers(40), 4, start=start), workers=2) == whole[start:]
    assert taken(PairStream(Numbers(40), 4, start=2, stop=5)) == whole[2:5]


def test_ranks_share_the_batches() -> None:
    parts = [taken(PairStream(Numbers(40), 4, start=1, rank=rank, ranks=3), workers=2) for rank in range(3)]
    whole = taken(PairStream(Numbers(40), 4, start=1))
    assert [parts[number % 3][number // 3] for number in range(9)] == whole
    assert [len(PairStream(Numbers(40), 4, start=1, rank=r, ranks=3)) for r in range(3)] == [3, 3, 3]


def test_a_mixtures_items_come_from_their_data_set_and_index() -> None:
    mixed = MixedPairs([Numbers(4000), Numbers(4000, 10_000), Numbers(4000, 20_000)], [3, 0, 1], 4000, seed=2)
    numbers = torch.stack([mixed[index]["number"] for index in range(4000)])
    assert torch.equal(numbers % 10_000, torch.arange(4000))
    shares = torch.bincount(numbers // 10_000, minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.75, 0.0, 0.25]), atol=0.03, rtol=0)
    assert [mixed.which(i) for i in range(50)] == [
        MixedPairs(mixed.datasets, [3, 0, 1], 4000, seed=2).which(i) for i in range(50)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([Numbers(5)], [1, 1], 5), "weights: got 2 for 1"),
        (([Numbers(5)], [-1], 5), "weights: got"),
        (([Numbers(5)], [0], 5), "weights: got"),
        (([Numbers(5)], [1], 6), "datasets: got one of 5 items"),
        (([], [], 6), "weights: got 0"),
    ],
)
def test_bad_mixtures_are_named(arguments: tuple[list[Numbers], list[float], int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixedPairs(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "start"),
        ({"stop": 4}, "stop"),
        ({"rank": 2, "ranks": 2}, "rank"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_streams_are_named(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairStream(Numbers(10), options.pop("batch_size", 4), **options)
