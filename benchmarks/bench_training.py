"""Speed of training, end to end: optimizer steps beside the community's, and the time that the trainer waits for data.

pytest benchmarks/bench_training.py [--quick] [--results FILE]
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import OURS, Case, Made, Row, Run, require_close
from benchmarks.peers.siamfc_training import CommunityStep
from siamfast.training.config import SiamFCConfig
from siamfast.training.siamfc import SiamFCTrainer


def config(batch: int, device: str, out: str = "", **fields: Any) -> SiamFCConfig:
    """Labels and optimizer of the community's code; `fields` override them."""
    given: dict[str, Any] = {"steps": 1_000_000, "warmup": 0, "metric": "l1", "workers": 0, "val_pairs": 8}
    return SiamFCConfig(batch_size=batch, device=device, out=out or "never-written", **given | fields)


def make(batch: int, device: str, compiled: bool) -> Made:
    generator = torch.Generator().manual_seed(0)
    template = torch.randint(0, 256, (batch, 3, 127, 127), generator=generator, dtype=torch.uint8)
    search = torch.randint(0, 256, (batch, 3, 255, 255), generator=generator, dtype=torch.uint8)
    middle = torch.tensor([[95.5, 95.5, 64.0, 64.0]]).repeat(batch, 1)  # x, y, w, h: centered in the crop
    batch_on_cpu = {
        "template": template,
        "search": search,
        "box": middle,
        "positive": torch.ones(batch, dtype=torch.bool),
    }
    ours = SiamFCTrainer(config(batch, device))
    exact = SiamFCTrainer(config(batch, device, amp="off"))
    peer = CommunityStep(
        SiamFCTrainer(config(batch, device, amp="off")).model.to(memory_format=torch.contiguous_format)
    )
    near = template.to(device).float(), search.to(device).float()

    def step_of(trainer: SiamFCTrainer) -> torch.Tensor:
        trainer.step += 1
        return trainer._train_step(batch_on_cpu)

    def check(name: str) -> None:
        """Our float32 loss equals the community's for the same weights; bfloat16 is close to it."""
        fresh = SiamFCTrainer(config(batch, device, amp="auto" if name == OURS else "off"))
        send = fresh._to_device(batch_on_cpu)
        fresh.model.train()
        crops = {name: send[name].float() for name in ("template", "search")}
        loss = fresh.loss(send | crops | {"centers": fresh._cells(send["box"])})
        expected = CommunityStep(SiamFCTrainer(config(batch, device)).model).loss(*near)
        require_close(f"the loss of {name}", loss, expected, 0.02 if fresh.amp else 1e-4)

    runs: dict[str, Run] = {
        OURS: functools.partial(step_of, ours),
        f"{OURS} float32": functools.partial(step_of, exact),
        "siamfc-pytorch": functools.partial(peer, *near),
    }
    return Made(runs, check)


def data_wait(batch: int, device: str) -> Row:
    """A real run on synthetic pairs: pairs per second, and the share of time that a step waits for them."""
    with tempfile.TemporaryDirectory() as folder:
        SiamFCTrainer(config(batch, device, folder, steps=16, log_every=8, workers=1, val_every=16)).run()
        rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "train/data_wait_share" in row][-1]
    return {name: round(last[f"train/{name}"], 4) for name in ("pairs_per_second", "data_wait_share")}


def cases(quick: bool = False) -> Iterator[Case]:
    for batch in (2,) if quick else (8, 32):
        yield Case(
            "training",
            f"SiamFC step, B={batch}",
            "call",
            {"z": (batch, 3, 127, 127), "x": (batch, 3, 255, 255)},
            (OURS, f"{OURS} float32", "siamfc-pytorch"),
            functools.partial(make, batch),
            unit="pairs",
            per=batch,
            extra=functools.partial(data_wait, batch) if batch <= 8 else None,
        )


def test_training(timed: None) -> None:
    """Timed by the fixture, its values checked first."""
