"""The training loop of SiamFC: pairs in, weights out, exact resume after a kill."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from siamfast.data.augmentation import augment_pair
from siamfast.models.inference import choose_device
from siamfast.models.siamfc import SiamFC
from siamfast.models.weights import load_weights, save_weights
from siamfast.ops.xcorr_balanced_loss import xcorr_balanced_loss
from siamfast.training.config import TrainConfig
from siamfast.training.optimizer import learning_rate, make_optimizer
from siamfast.training.pairs import make_pairs
from siamfast.training.record import Record

STRIDE = 8
INPUT_MEAN, INPUT_STD = 118.0, 60.0  # of the synthetic pairs, roughly: the network sees numbers around 0
HIT_RADIUS = 16.0  # pixels of the search crop: the response peaked on the target


class Trainer:
    """Train SiamFC as `config` says; a checkpoint in `config.out` is taken up where it stopped.

    The pairs of step s are items s*batch_size ... of an endless data set and its augmentation is drawn from
    (seed, s), so a resumed run does, step for step, what an uninterrupted one does.

    >>> from siamfast.training.config import TrainConfig
    >>> Trainer(TrainConfig(steps=2, batch_size=2, out="/tmp/run", workers=0)).run()  # doctest: +SKIP
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.out = Path(config.out)
        self.device = choose_device(config.device)
        self.amp = config.amp == "bf16" or (config.amp == "auto" and _fast_bfloat16(self.device))
        torch.manual_seed(config.seed)
        self.model = SiamFC(
            scale=config.scale,
            learn_scale=config.learn_scale,
            learn_bias=config.learn_bias,
            input_mean=INPUT_MEAN,
            input_std=INPUT_STD,
        )
        if config.init:
            load_weights(self.model, config.init)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.model, config)
        self.step = 0
        self.seconds = 0.0  # of training, over all runs that led here
        # Both made now: a wrong path is told before anything is written, not at the first validation.
        self._pairs = make_pairs(config, config.data, config.steps * config.batch_size, seed=config.seed)
        held_out = config.val_data or config.data
        self._val_pairs = make_pairs(config, held_out, config.val_pairs, seed=config.seed + 1_000_000_007)
        self._validation: list[dict[str, torch.Tensor]] | None = None

    # ------------------------------------------------------------------------------------------------------- checkpoint
    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint under a temporary name, then rename: a kill leaves the old one or the new one."""
        state = {
            "config": dataclasses.asdict(self.config),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def resume(self) -> bool:
        """Take up the checkpoint in `out`, if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        mine = dataclasses.asdict(self.config)
        free = {"out", "device", "workers", "log_every", "val_every", "val_pairs", "val_data", "save_every"}
        other = [f"{k}: {v!r} there, {mine.get(k)!r} here" for k, v in state["config"].items() if mine.get(k) != v]
        other = [text for text in other if text.partition(":")[0] not in free]
        if other:
            raise ValueError(
                f"out: {self.checkpoint} is of a run with another configuration ({'; '.join(other)}); "
                "give the same flags to resume it, or another --out"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        return True

    # ------------------------------------------------------------------------------------------------------------- loop
    def run(self) -> dict[str, float]:
        """Train to the last step; returns the last validation's figures."""
        from tqdm import tqdm

        config = self.config
        self.out.mkdir(parents=True, exist_ok=True)
        resumed = self.resume()
        (self.out / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        record = Record(self.out, self.step)
        figures: dict[str, float] = {}
        total = config.steps * config.batch_size
        bar = tqdm(
            total=total, initial=self.step * config.batch_size, unit=" pairs", smoothing=0.05, dynamic_ncols=True
        )
        if resumed:
            bar.write(f"resumed {self.checkpoint} at step {self.step} of {config.steps}")
        try:
            figures = self._steps(bar, record) or self.validate(record)  # a finished run has no steps left
        finally:
            bar.close()
            record.close()
        self.save()
        self.export(self.out / "siamfc.safetensors", figures)
        return figures

    def _steps(self, bar: Any, record: Record) -> dict[str, float]:
        config = self.config
        figures: dict[str, float] = {}
        batches = self._batches()
        waited, losses, began = 0.0, 0.0, time.perf_counter()
        logged_at, logged_step = began, self.step
        while self.step < config.steps:
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            loss = self._train_step(batch)
            self.step += 1
            losses += loss
            bar.update(config.batch_size)
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss is {loss} at step {self.step}: lower --lr or raise --warmup; "
                    f"{self.checkpoint} holds the last good state"
                )
            if self.step % config.log_every == 0:
                now, steps = time.perf_counter(), self.step - logged_step
                scalars = {
                    "train/loss": losses / steps,
                    "train/learning_rate": learning_rate(config, self.step),
                    "train/pairs_per_second": steps * config.batch_size / (now - logged_at),
                    "train/data_wait_share": waited / (now - logged_at),
                }
                record.scalars(self.step, scalars)
                bar.set_postfix(loss=f"{losses / steps:.3f}", wait=f"{scalars['train/data_wait_share']:.0%}")
                logged_at, logged_step, waited, losses = now, self.step, 0.0, 0.0
            last = self.step == config.steps
            if self.step % config.val_every == 0 or last:
                figures = self.validate(record)
                bar.write(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
                logged_at = logged_at + (time.perf_counter() - asked)  # validation is not training time
            if self.step % config.save_every == 0 or last:
                now = time.perf_counter()
                self.seconds, began = self.seconds + now - began, now
                self.save()
        return figures

    def _train_step(self, batch: dict[str, torch.Tensor]) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step) * group["rate"]
        template, search, centers, positive = self._to_device(batch)
        # Seeded by the step, not by what ran before: a resumed run augments as an uninterrupted one.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        template, search = augment_pair(
            template, search, generator, color_jitter=config.color_jitter, gray=config.gray, blur=config.blur
        )
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss, _ = self._loss(template, search, centers, positive)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def _loss(
        self, template: torch.Tensor, search: torch.Tensor, centers: torch.Tensor, positive: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the responses (N, 1, H, W), which have no gradient."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            found = xcorr_balanced_loss(
                self.model.embed(template), self.model.embed(search), scale=self.model.scale, bias=self.model.bias,
                stride=STRIDE, r_pos=self.config.r_pos, r_neg=self.config.r_neg, metric=self.config.metric,
                balance=self.config.balance, return_scores=True,
                # A centre far outside labels every cell negative: what a pair without its target is.
                centers=torch.where(positive[:, None], centers, 1e6),
            )  # fmt: skip
        assert isinstance(found, tuple)
        return found

    # ------------------------------------------------------------------------------------------------------------- data
    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        config = self.config
        todo = range(self.step * config.batch_size, config.steps * config.batch_size)
        return iter(self._loader(self._pairs, todo, self._workers()))

    def _loader(self, pairs: Dataset[Any], indices: range, workers: int) -> DataLoader[Any]:
        return DataLoader(
            pairs,
            batch_size=self.config.batch_size,
            sampler=indices,  # type: ignore[arg-type]
            num_workers=workers,
            worker_init_fn=_quiet_worker,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=4 if workers else None,
        )

    def _workers(self) -> int:
        if self.config.workers >= 0:
            return self.config.workers
        return max(1, min(8, len(os.sched_getaffinity(0)) - 1))

    def _to_device(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        send = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        centers = target_cells(send["box"], send["search"].shape[-1], self.config.exemplar)
        return send["template"], send["search"], centers, send["positive"]

    # ------------------------------------------------------------------------------------------------------- validation
    @torch.no_grad()
    def validate(self, record: Record) -> dict[str, float]:
        """Loss, and how near the response's peak comes to the target, on pairs that training never sees."""
        config = self.config
        if self._validation is None:  # drawn once, kept as uint8
            self._validation = list(self._loader(self._val_pairs, range(config.val_pairs), self._workers()))
        self.model.eval()
        losses, errors = [], []
        for number, batch in enumerate(self._validation):
            template, search, centers, positive = self._to_device(batch)
            loss, response = self._loss(template.float(), search.float(), centers, positive)
            response = response.float()
            losses.append(float(loss) * len(search))
            errors.append(peak_distance(response, centers)[positive] * STRIDE)
            if number == 0:
                record.responses(self.step, search, response)
        distance = torch.cat(errors)
        figures = {
            "loss": sum(losses) / config.val_pairs,
            "hit_rate": float((distance <= HIT_RADIUS).float().mean()),
            "peak_distance_px": float(distance.mean()),
        }
        record.scalars(self.step, {f"validation/{name}": value for name, value in figures.items()})
        return figures

    def export(self, path: Path, figures: dict[str, float]) -> None:
        """Write the weights alone, with how they came about, as safetensors."""
        recipe = dataclasses.asdict(self.config)
        del recipe["out"]
        # Weights travel: the names of what went in, not where it lay on this machine.
        recipe |= {name: Path(recipe[name]).name for name in ("data", "val_data", "init")}
        recipe |= {"step": self.step, "seconds": round(self.seconds)}
        save_weights(self.model, path, recipe=recipe, figures=figures)


def target_cells(box: torch.Tensor, instance: int, exemplar: int) -> torch.Tensor:
    """box: (N, 4) x, y, w, h in search-crop pixels -> (N, 2) its centre as (x, y) in cells of the response.

    The middle of the crop is the middle of the response, and one cell is one stride of the network.
    """
    middle = ((instance - exemplar) / STRIDE) / 2
    return middle + (box[:, :2] + box[:, 2:] / 2 - instance / 2) / STRIDE


def peak_distance(response: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
    """response: (N, 1, H, W), centers: (N, 2) x, y in cells -> (N,) distance in cells of the peak to the centre."""
    width = response.shape[-1]
    peak = response.flatten(1).argmax(1)
    found = torch.stack((peak % width, peak.div(width, rounding_mode="floor")), 1)
    return torch.linalg.vector_norm(found - centers, dim=1)


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether convolutions gain from bfloat16: twice as fast on AVX512-BF16 and AMX, slower where it is emulated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    fast = (getattr(torch.cpu, name, lambda: False) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device.type == "cpu" and any(supported() for supported in fast)


def _quiet_worker(_: int) -> None:
    """One thread a worker: the workers are the parallelism."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
