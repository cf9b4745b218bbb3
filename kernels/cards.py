"""Data of GPUs: the limits of a compute capability, and the speeds of a card."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1 << 10


@dataclass(frozen=True)
class Limits:
    """Limits of one compute capability, from the CUDA C++ programming guide. All have 65,536 registers."""

    shared_block: int  # bytes of dynamic shared memory that a block may ask for
    shared_all: int  # bytes of shared memory of a multiprocessor
    cache: int  # bytes of a multiprocessor's first cache and shared memory together
    warps: int  # of a multiprocessor, at once
    blocks: int


LIMITS = {
    80: Limits(163 * KIB, 164 * KIB, 192 * KIB, 64, 32),
    86: Limits(99 * KIB, 100 * KIB, 128 * KIB, 48, 16),
    89: Limits(99 * KIB, 100 * KIB, 128 * KIB, 48, 24),
    90: Limits(227 * KIB, 228 * KIB, 256 * KIB, 64, 32),
    100: Limits(227 * KIB, 228 * KIB, 256 * KIB, 64, 32),
    120: Limits(99 * KIB, 100 * KIB, 128 * KIB, 48, 24),
}


@dataclass(frozen=True)
class Card:
    """One card. Rates are FLOP per second: plain float32, float64, and dense products by the type of their factors."""

    name: str
    chip: int  # 90 for sm_90
    multiprocessors: int
    clock: float  # Hz
    bandwidth: float  # of its memory, bytes per second
    l2_bandwidth: float
    rates: dict[str, float]
    near: int = 40  # clocks of a load from the first cache
    middle: int = 270  # from L2
    far: int = 480  # from memory
    older_products: float = 1.0  # part of `rates` that `mma.sync` reaches where newer instructions exist

    @property
    def limits(self) -> Limits:
        return LIMITS[self.chip]


# Multiprocessors, clocks, memory and rates: data sheets and white papers; H200's memory and rates: reached by PyTorch's
# own copies and products. Latencies, rounded, and the part of Hopper's rate that `mma.sync` reaches: Luo et
# al., Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking (arXiv 2402.13499). Bytes a
# second of L2 are what published microbenchmarks of read bandwidth reach, rounded: about half of what the clock and the
# width allow. B200 has no such figures that we know of: L2 is assumed a little faster than its memory, the rest
# Hopper's. None of these numbers comes from times of our kernels.
CARDS = {
    card.name: card
    for card in (
        Card("H100", 90, 132, 1.83e9, 3.35e12, 5.5e12,
             {"plain": 67e12, "fp64": 34e12, "fp32": 495e12, "bf16": 989e12}, older_products=0.63),
        Card("H200", 90, 132, 1.83e9, 4.3e12, 5.5e12,
             {"plain": 60e12, "fp64": 34e12, "fp32": 400e12, "bf16": 780e12}, older_products=0.63),
        Card("A100", 80, 108, 1.41e9, 2.0e12, 4.0e12,
             {"plain": 19.5e12, "fp64": 9.7e12, "fp32": 156e12, "bf16": 312e12}),
        Card("RTX 4090", 89, 128, 2.52e9, 1.0e12, 5.0e12,
             {"plain": 82.6e12, "fp64": 1.3e12, "fp32": 82.6e12, "bf16": 165e12}, far=540),
        Card("B200", 100, 148, 1.85e9, 8.0e12, 10e12,
             {"plain": 75e12, "fp64": 37e12, "fp32": 1100e12, "bf16": 2250e12}, older_products=0.5),
    )
}  # fmt: skip
# One for each compute capability that the tests compile for.
CHIPS = {80: CARDS["A100"], 89: CARDS["RTX 4090"], 90: CARDS["H100"], 100: CARDS["B200"]}
NOT_SERVED = (
    "T4 (sm_75), V100 (sm_70): plain PyTorch serves them, since Triton has no tensor-core products below sm_80."
)
