"""Predicts the time of a launch from its work, its registers, and the data of a card. Nothing is fitted.

The time is the largest of these, since a full multiprocessor overlaps them:

- memory: bytes of the launch, each read and written once, at the card's bandwidth. Repeated reads come from L2, which
  has room for the data that the table's programs share: only two tensors are larger, and those are read once.
- L2: sectors that programs ask for at L2's bandwidth, and at 64 bytes a clock those of the busiest multiprocessor. A
  program that reads a sector again finds it in the first cache, if what the programs on its multiprocessor touch fits
  beside their shared memory.
- L1: bytes of its loads and stores at 128 bytes a clock, or 32 lanes a clock where a lane takes fewer than 4 bytes.
- tensor: FLOP of products, including the padding of blocks, three products per exact one and what several warps do
  alike (repeats.py), at the rate of the instructions that the compiler chose.
- plain: the slots of other arithmetic.
- latency: a program sends for operands, waits, multiplies, and begins again. Its chain of loads that wait for one
  another takes the latency of where they come from; then there is its own arithmetic, with a multiprocessor to itself.
  With stages, loads are sent for `num_stages - 1` rounds ahead, and of both times the longer one counts. As many blocks
  run at once as fit; the others wait. The chain is taken once per wave.

L1, tensor and plain are those of the busiest multiprocessor, which has ceil(programs / multiprocessors): a grid that
does not fill the card pays for what it leaves idle.

Left out: the launch itself (LAUNCH, listed apart: it is the same for every kernel), arithmetic of addresses and masks,
traffic and bank conflicts of shared memory, barriers, reductions between threads, the end of a grid whose programs
differ, power limits. All of these make a kernel slower than predicted: an H200 took 1.2 to 8.2 times as long
(docs/performance.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from siamfast.kernels.cards import KIB, Card
from siamfast.kernels.count import Work
from siamfast.kernels.integers import cdiv
from siamfast.kernels.static import Usage

LAUNCH = 2.5e-6  # seconds; about what a kernel of a CUDA graph takes to begin and end
_L1_BYTES, _L2_BYTES, _LANES = 128, 64, 32  # of one multiprocessor a clock: published microbenchmarks; load units


@dataclass(frozen=True)
class Prediction:
    """The predicted time of one launch: seconds, without LAUNCH."""

    terms: dict[str, float]
    waves: int

    @property
    def seconds(self) -> float:
        return max(self.terms.values())

    @property
    def bound(self) -> str:
        """The term that is largest."""
        return max(self.terms, key=lambda name: self.terms[name])


def waves(programs: int, blocks: int, card: Card) -> int:
    """How often a card is filled; blocks: that fit a multiprocessor."""
    return cdiv(programs, card.multiprocessors * blocks)


def predict(work: Work, usage: Usage, stages: int, card: Card) -> Prediction:
    """The time of a launch on a card; `usage`: as compiled for its chip."""
    blocks = usage.blocks(card.limits)
    busiest, resident = (
        cdiv(work.programs, card.multiprocessors),
        min(blocks, cdiv(work.programs, card.multiprocessors)),
    )
    left = card.limits.cache - resident * (usage.shared + KIB)
    read = work.asked if work.touched * resident > left else work.touched
    l2 = read + work.written
    lanes = _LANES * min(4.0, usage.load_bytes or 4.0)  # bytes that a load unit's clock moves
    rates = {rate: card.rates[rate] * (1.0 if usage.newest_products else card.older_products) for rate in work.products}
    tensor = sum(flop / rates[rate] for rate, flop in work.products.items()) * usage.repeats * card.multiprocessors
    plain = (work.plain / card.rates["plain"] + work.double / card.rates["fp64"]) * card.multiprocessors
    terms = {
        "memory": work.memory / card.bandwidth,
        "L2": max(l2 * work.programs / card.l2_bandwidth, busiest * l2 / (_L2_BYTES * card.clock)),
        "L1": busiest * (work.loaded + work.stored) / (min(lanes, _L1_BYTES) * card.clock),
        "tensor": busiest * tensor,
        "plain": busiest * plain,
    }
    fresh = min(1.0, work.memory / max(1.0, l2 * work.programs))  # share of the requests to L2 that go to memory
    distance = (fresh * card.far + (1 - fresh) * card.middle) / card.clock
    near = card.near / card.clock
    waited = work.far * distance + work.near * near
    ahead = work.far_pipelined * distance + work.near_pipelined * near
    if usage.async_loads and stages > 1:
        round_trips = max(ahead / (stages - 1), tensor + plain)
    else:
        round_trips = ahead + tensor + plain
    count = waves(work.programs, blocks, card)
    terms["latency"] = count * (waited + round_trips)
    return Prediction(terms, count)
