"""The training loop: batches in, weights out, exact resume after a kill. Subclasses define model, data and loss."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from siamfast.data.stream import PairStream, plain_errors
from siamfast.data.unread import unread_frames
from siamfast.io.files import differences, only_writer, replacing
from siamfast.models.inference import choose_device, fast_bfloat16
from siamfast.models.weights import save_weights
from siamfast.training.config import RunConfig, with_new_names
from siamfast.training.optimizer import learning_rate, make_optimizer, moving_average
from siamfast.training.record import Record
from siamfast.workers import begin_worker

# Fields of the configuration that may differ when a run is resumed.
_FREE = {"out", "device", "workers", "log_every", "val_every", "val_pairs", "val_data", "save_every"}
_HELD_OUT = 1_000_000_007  # added to the seed of data that is not used for training


class Loop:
    """Trains by `config`; a checkpoint in `config.out` is resumed where it stopped.

    The items of step s are s*batch_size ... of an endless data set, and their augmentation is drawn from (seed, s), so
    a resumed run does exactly the steps of an uninterrupted one. Subclasses have `file` (the name of the weights),
    `unit` (the name of an item), `make_model`, `make_data`, `loss` and `validate`.
    """

    file: ClassVar[str]
    unit: ClassVar[str]
    config: RunConfig
    model: Any  # the network from a subclass's `make_model`

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.out = Path(config.out)
        self.device = choose_device(config.device)
        self.amp = config.amp == "bf16" or (config.amp == "auto" and fast_bfloat16(self.device))
        torch.manual_seed(config.seed)
        self.model = self.make_model()
        self.model.to(self.device, memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.trained().values(), config)
        self.average: AveragedModel | None = None
        if config.average:
            self.average = AveragedModel(self.model, multi_avg_fn=moving_average(config.average), use_buffers=True)
        self.step = 0
        self.seconds = 0.0  # training time, over this run and those that it resumed
        # Both are made now, so that a wrong path is an error before anything is written, not at the first validation.
        self._data = self.make_data(config.data, config.steps * config.batch_size, config.seed)
        self._val_data = self.make_data(config.val_data or config.data, config.val_pairs, config.seed + _HELD_OUT)
        self._validation: list[dict[str, torch.Tensor]] | None = None

    def make_model(self) -> torch.nn.Module:
        """The model at the start of training, on the CPU."""
        raise NotImplementedError

    def trained(self) -> dict[str, torch.nn.Module]:
        """The modules that the optimizer changes and the checkpoint stores, by name."""
        return {"model": self.model}

    def make_data(self, source: str, length: int, seed: int) -> Dataset[Any]:
        """`length` items of `source`: "synthetic" or a folder's path."""
        raise NotImplementedError

    def loss(self, batch: dict[str, torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        """The loss of a batch from the data set; `generator` alone draws the augmentation."""
        raise NotImplementedError

    def validate(self, record: Record) -> dict[str, float]:
        """Compute and record figures on `validation_batches`."""
        raise NotImplementedError

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A context in which `model` has the moving average of the weights, if there is one."""
        model = self.model
        try:
            if self.average is not None and self.average.n_averaged:
                self.model = self.average.module
            yield
        finally:
            self.model = model

    # ------------------------------------------------------------------------------------------------------- checkpoint
    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def save(self) -> None:
        """Write the checkpoint; a kill leaves either the old or the new one."""
        state = {
            "config": dataclasses.asdict(self.config),
            **{name: module.state_dict() for name, module in self.trained().items()},
            **({} if self.average is None else {"average": self.average.state_dict()}),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        buffer = io.BytesIO()  # so that a full disk is our OSError, not a RuntimeError from torch's writer
        torch.save(state, buffer)
        with replacing(self.checkpoint) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def resume(self) -> bool:
        """Load the checkpoint in `out`; returns whether there is one."""
        if not self.checkpoint.exists():
            return False
        with self._naming_damage():
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            recorded = {k: v for k, v in with_new_names(state["config"]).items() if k not in _FREE}
            current = dataclasses.asdict(self.config)
            changes = differences(recorded, {name: current.get(name) for name in recorded})
        if changes:
            further = ""
            if recorded.get("steps") not in (None, current["steps"]):
                further = (
                    f"; the learning rate of that run ends with its {recorded['steps']} steps: to train further, give "
                    f"--init {self.out / self.file} and another --out"
                )
            raise ValueError(
                f"out: {self.checkpoint} is of a run with another configuration ({changes}); give the same flags to "
                f"resume it, or another --out{further}"
            )
        with self._naming_damage():
            for name, module in self.trained().items():
                module.load_state_dict(state[name])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
        return True

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """A damaged file makes the unpickler and the modules raise anything; too little memory is no damage."""
        try:
            yield
        except (OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"out: {self.checkpoint} is damaged ({type(error).__name__}: {reason}); remove it to begin anew"
            ) from error

    # ------------------------------------------------------------------------------------------------------------- loop
    def run(self) -> dict[str, float]:
        """Train to the last step; returns the last validation's figures."""
        with only_writer(self.out, "train"):
            return self._run()

    def _run(self) -> dict[str, float]:
        from tqdm import tqdm

        config = self.config
        resumed = self.resume()
        with replacing(self.out / "config.json") as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        record = Record(self.out, self.step)
        figures: dict[str, float] = {}
        total = config.steps * config.batch_size
        bar = tqdm(
            total=total, initial=self.step * config.batch_size, unit=f" {self.unit}", smoothing=0.05, dynamic_ncols=True
        )
        if resumed:
            bar.write(f"resumed {self.checkpoint} at step {self.step} of {config.steps}")
        try:
            figures = self._steps(bar, record) or self._validated(record)  # a finished run has no steps left to do
        finally:
            unread = unread_frames(self._data) + unread_frames(self._val_data)
            if unread:
                bar.write(f"{unread} times a frame could not be read, and another one was drawn")
            bar.close()
            record.close()
        self.save()
        with self.averaged():
            self.export(self.out / self.file, figures)
        return figures

    def _validated(self, record: Record) -> dict[str, float]:
        with self.averaged():
            return self.validate(record)

    def _steps(self, bar: Any, record: Record) -> dict[str, float]:
        config = self.config
        figures: dict[str, float] = {}
        batches = self._batches()
        waited, losses, began = 0.0, 0.0, time.perf_counter()
        logged_at, logged_step = began, self.step
        while self.step < config.steps:
            step_began = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - step_began
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
                    f"train/{self.unit}_per_second": steps * config.batch_size / (now - logged_at),
                    "train/data_wait_share": waited / (now - logged_at),
                }
                record.scalars(self.step, scalars)
                bar.set_postfix(loss=f"{losses / steps:.3f}", wait=f"{scalars['train/data_wait_share']:.0%}")
                logged_at, logged_step, waited, losses = now, self.step, 0.0, 0.0
            last = self.step == config.steps
            if self.step % config.val_every == 0 or last:
                figures = self._validated(record)
                bar.write(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
                logged_at = logged_at + (time.perf_counter() - step_began)  # validation is not training time
            if self.step % config.save_every == 0 or last:
                now = time.perf_counter()
                self.seconds, began = self.seconds + now - began, now
                self.save()
        return figures

    def _train_step(self, batch: dict[str, torch.Tensor]) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step) * group["rate"]
        # Seeded by the step, not by earlier draws, so that a resumed run augments like an uninterrupted one.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch, generator)
        loss.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return float(loss.detach())

    # ------------------------------------------------------------------------------------------------------------- data
    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        return self._loader(self._data, self._workers(), start=self.step)

    def _loader(self, data: Dataset[Any], workers: int, **part: int) -> Iterator[dict[str, torch.Tensor]]:
        loader: DataLoader[Any] = DataLoader(
            PairStream(data, self.config.batch_size, **part),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=begin_worker,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=4 if workers else None,
        )
        return plain_errors(loader)

    def _to_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def _workers(self) -> int:
        if self.config.workers >= 0:
            return self.config.workers
        return max(1, min(8, len(os.sched_getaffinity(0)) - 1))

    def validation_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """The validation data, drawn once and kept as uint8; with its own progress bar, because the training's
        stands."""
        from tqdm import tqdm

        batches = self._loader(self._val_data, self._workers()) if self._validation is None else self._validation
        total = math.ceil(self.config.val_pairs / self.config.batch_size)
        kept = []
        for batch in tqdm(batches, "validate", total, leave=False, unit="batch", dynamic_ncols=True):
            kept.append(batch)
            yield batch
        self._validation = kept

    def export(self, path: Path, figures: dict[str, float]) -> None:
        """Write the weights alone as safetensors, with their recipe."""
        recipe = dataclasses.asdict(self.config)
        del recipe["out"]
        # Weights are shared: store the names of the inputs, not their paths on this machine.
        recipe |= {name: Path(recipe[name]).name for name in ("data", "val_data", "init", "photos")}
        recipe |= {"step": self.step, "seconds": round(self.seconds)}
        save_weights(self.model, path, recipe=recipe, figures=figures)
