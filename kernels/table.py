"""The table of `siamfast bench --static`: one row per call of shipped.py and card, with its predicted time.

    python -m siamfast.kernels.table > docs/performance/gpu-predictions.md

prints it for the documentation, with an empty column for measured times.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from siamfast.kernels.cards import CARDS, NOT_SERVED, Card
from siamfast.kernels.count import Work, counted
from siamfast.kernels.launches import Call, Launch, launches_of
from siamfast.kernels.predict import LAUNCH, Prediction, predict
from siamfast.kernels.shipped import shipped
from siamfast.kernels.static import Usage, floor, usages_for

PAGE = """# Predicted times of the GPU kernels

Made by `python -m siamfast.kernels.table > docs/performance/gpu-predictions.md`; nothing here is measured, and the last
column is for whoever has the card. What whole calls took on an H200, 1.2 to 8.2 times as long as predicted, is in
[gpu-measured.md](gpu-measured.md). `siamfast bench --static` prints the same rows with registers, occupancy and waves,
`--json` every term.

The floor is the larger of bytes / bandwidth and FLOP / rate: each input read once, each output written once, the
definition's products. The prediction is from what the kernels do, counted in Triton's interpreter on a sample of their
programs, from what the compiler makes of them, and from data sheets and published microbenchmarks; how, and what it
leaves out, is written in [kernels/predict.py](../../kernels/predict.py). The launch itself, about {launch} us in a CUDA
graph, comes on top. "Bound" is what takes the time on the first card. A call may be several launches.

{not_served}
"""


@dataclass(frozen=True)
class Row:
    """One call on one card: its launches, what each compiles to, and its predicted time."""

    call: Call
    card: Card
    launches: Sequence[Launch]
    usages: Sequence[Usage]
    works: Sequence[Work]
    predictions: Sequence[Prediction]

    @property
    def floor(self) -> float:
        """Seconds."""
        return floor(self.call, self.card)

    @property
    def predicted(self) -> float:
        """Seconds of the launches in sequence, without LAUNCH; a sample may miss the floor by some percent."""
        return max(self.floor, sum(prediction.seconds for prediction in self.predictions))

    @property
    def share(self) -> float:
        """Floor divided by prediction: 1 is the best possible."""
        return self.floor / self.predicted

    @property
    def longest(self) -> int:
        """The number of the launch that takes most of the time; the table shows its usage."""
        return max(range(len(self.predictions)), key=lambda n: self.predictions[n].seconds)

    @property
    def bound(self) -> str:
        return self.predictions[self.longest].bound

    def as_json(self) -> dict[str, Any]:
        """Times in microseconds; measured_us is for whoever has the card."""
        return {
            "kernel": self.call.name,
            "card": self.card.name,
            "chip": f"sm_{self.card.chip}",
            "bytes": self.call.bytes,
            "flop": self.call.flop,
            "floor_us": round(self.floor * 1e6, 3),
            "predicted_us": round(self.predicted * 1e6, 3),
            "launch_us": round(len(self.launches) * LAUNCH * 1e6, 3),
            "of_floor": round(self.share, 3),
            "bound": self.bound,
            "measured_us": None,
            "launches": [
                {
                    **asdict(usage),
                    "occupancy": round(usage.occupancy(self.card.limits), 3),
                    "waves": prediction.waves,
                    "terms_us": {name: round(seconds * 1e6, 3) for name, seconds in prediction.terms.items()},
                    "work": asdict(work),
                }
                for usage, work, prediction in zip(self.usages, self.works, self.predictions, strict=True)
            ],
        }

    def line(self) -> str:
        """Under HEADER."""
        usage, prediction = self.usages[self.longest], self.predictions[self.longest]
        return (
            f"{self.call.name:46} {self.card.name:>8} {usage.registers:4} {usage.stack:5} {usage.spills:6} "
            f"{usage.shared:6} {usage.warps:5} {usage.occupancy(self.card.limits):6.0%} {prediction.waves:5} "
            f"{usage.tensor_core:4} {usage.load_bytes:6.1f} {self.floor * 1e6:8.2f} {self.predicted * 1e6:9.2f} "
            f"{self.share:8.0%} {self.bound:>7} {len(self.launches):8}"
        )


HEADER = (
    f"{'kernel':46} {'card':>8} {'regs':>4} {'stack':>5} {'spills':>6} {'shared':>6} {'warps':>5} {'occup.':>6} "
    f"{'waves':>5} {'mma':>4} {'B/load':>6} {'floor us':>8} {'predicted':>9} {'of floor':>8} {'bound':>7} "
    f"{'launches':>8}"
)
END = (
    f"{NOT_SERVED}\nPredicted: microseconds without the launches themselves, about {LAUNCH * 1e6:g} each in a CUDA "
    "graph. No figure is measured."
)


def rows(name: str = "", cards: Sequence[Card] = tuple(CARDS.values())) -> Iterator[Row]:
    """Rows of the calls whose name contains `name`, on these cards; each as soon as it is known."""
    warnings.filterwarnings("ignore", message="TRITON_DEFAULT_FP_FUSION")
    calls = {call.name: call for call in shipped() if name in call.name}
    if not calls:
        return
    chips = list(dict.fromkeys(card.chip for card in cards))
    for called, chip, works in counted(chips, name):
        call = calls[called]
        launches = launches_of(call, chip)
        assert [(work.kernel, tuple(work.grid)) for work in works] == [(one.name, one.grid) for one in launches]
        usages = usages_for(launches, chip)
        stages = [launch.options.get("num_stages", 3) for launch in launches]  # 3: Triton's default
        for card in cards:
            if card.chip == chip:
                each = zip(works, usages, stages, strict=True)
                yield Row(call, card, launches, usages, works, [predict(w, u, s, card) for w, u, s in each])


def markdown(rows: Sequence[Row]) -> str:
    """The page of the documentation."""
    by_call: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_call.setdefault(row.call.name, {})[row.card.name] = row
    cards = list(dict.fromkeys(row.card.name for row in rows))
    head = ["call", *(f"{name}: floor, predicted us" for name in cards), f"{cards[0]} of floor", "bound", "measured us"]
    lines = [PAGE.format(launch=f"{LAUNCH * 1e6:g}", not_served=NOT_SERVED), f"| {' | '.join(head)} |"]
    lines.append("|---" * len(head) + "|")
    for name, by_card in by_call.items():
        times = [f"{by_card[card].floor * 1e6:.2f}, {by_card[card].predicted * 1e6:.2f}" for card in cards]
        first = by_card[cards[0]]
        lines.append(f"| {' | '.join([name, *times, f'{first.share:.0%}', first.bound, ''])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(list(rows())))
