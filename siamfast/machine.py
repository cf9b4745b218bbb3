"""The machine's description, for reports and rows of benchmarks."""

from __future__ import annotations

import platform

# By the flags of /proc/cpuinfo, the widest first: virtual machines hide the model behind a family's name, and AMD EPYC
# is several kinds of CPU.
_VECTORS = (
    ("AVX-512, BF16", ("avx512f", "avx512_bf16")),
    ("AVX-512", ("avx512f",)),
    ("AVX2", ("avx2",)),
)


def cpu_name() -> str:
    """The processor's model and widest vector instructions: `AMD EPYC (AVX2)`.

    Its architecture where the system does not report the model.
    """
    try:
        with open("/proc/cpuinfo") as lines:
            facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    except OSError:
        facts = {}
    model = facts.get("model name") or platform.processor() or platform.machine()
    flags = set(facts.get("flags", "").split())
    vectors = next((name for name, needed in _VECTORS if flags.issuperset(needed)), None)
    return model if vectors is None else f"{model} ({vectors})"
