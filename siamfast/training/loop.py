"""The training loop: batches in, weights out, exact resume after a kill. Subclasses define model, data and loss."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from siamfast.data.draws import Draws
from siamfast.data.stream import PairStream
from siamfast.data.unread import unread_frames
from siamfast.instructions import fast_bfloat16
from siamfast.io.files import only_writer, replacing
from siamfast.models.weights import save_weights
from siamfast.training.batches import Batch, copied_ahead, load
from siamfast.training.checkpoint import naming_damage, read_checkpoint, write_checkpoint
from siamfast.training.config import RunConfig
from siamfast.training.optimizer import learning_rate, make_optimizer, moving_average
from siamfast.training.parallel import compile_networks, parallel, share_batch_norm
from siamfast.training.progress import Progress
from siamfast.training.ranks import is_loss, join, of_process
from siamfast.training.record import Record

_HELD_OUT = 1_000_000_007  # added to the seed of data that is not used for training


class Loop:
    """Trains by `config`; a checkpoint in `config.out` is resumed where it stopped.

    The items of step s are s*batch_size ... of an endless data set, and their augmentation is drawn from (seed, s), so
    a resumed run does exactly the steps of an uninterrupted one. Under torchrun each process trains on an equal share
    of every batch, by DistributedDataParallel; the first one writes the files. Subclasses have `file` (the name of the
    weights), `unit` (the name of an item), `make_model`, `make_data`, `prepare`, `loss` and `validate`.
    """

    file: ClassVar[str]
    unit: ClassVar[str]
    config: RunConfig
    model: Any  # the network from a subclass's `make_model`

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.out = Path(config.out)
        self.ranks, self.device = join(config.device)
        self.parts = self.ranks.count * config.accumulate
        if config.batch_size % self.parts:
            raise ValueError(
                f"batch_size: got {config.batch_size}, expected a multiple of {self.parts}, the number of processes "
                "times --accumulate"
            )
        self.amp = config.amp == "bf16" or (config.amp == "auto" and fast_bfloat16(self.device))
        torch.manual_seed(config.seed)
        self.model = self.make_model()
        self.model.to(self.device, memory_format=torch.channels_last)
        if self.ranks.count > 1 and config.sync_batchnorm:
            share_batch_norm(self.trained().values(), self.device)
        self.optimizer = make_optimizer(self.trained().values(), config, self.device)
        self.average: AveragedModel | None = None
        if config.average:
            self.average = AveragedModel(self.model, multi_avg_fn=moving_average(config.average), use_buffers=True)
        if config.compile:
            compile_networks(self.trained().values())
        self._loss = parallel(self.loss, self.trained(), config.accumulate, self.rests(), self.ranks, self.device)
        self.step, self._saved = 0, 0  # steps that are done, and those of them that the checkpoint has
        self.seconds = 0.0  # training time, over this run and those that it resumed
        # Both are made now, so that a wrong path is an error before anything is written, not at the first validation.
        self._data = self.make_data(config.data, config.steps * config.batch_size, config.seed)
        self._val_data = self.make_data(config.val_data or config.data, config.val_pairs, config.seed + _HELD_OUT)
        self._validation: list[Batch] | None = None

    def make_model(self) -> torch.nn.Module:
        """The model at the start of training, on the CPU."""
        raise NotImplementedError

    def trained(self) -> dict[str, torch.nn.Module]:
        """The modules that the optimizer changes and the checkpoint stores, by name."""
        return {"model": self.model}

    def rests(self) -> bool:
        """Whether some trained parameters have no gradient in some steps."""
        return False

    def make_data(self, source: str, length: int, seed: int) -> Dataset[Any]:
        """`length` items of `source`: "synthetic" or a folder's path."""
        raise NotImplementedError

    def prepare(self, batch: Batch, random: Draws) -> Batch:
        """Everything about a batch from the data set that is done without gradients: augmentation, targets. `random`
        alone draws. Every tensor of the result has a row per item."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of some rows of a prepared batch. The whole batch's is the mean of those of its parts."""
        raise NotImplementedError

    def count_per_part(self, count: torch.Tensor, rows: int) -> torch.Tensor:
        """The mean over the parts of the whole batch of a number that was counted in this process's rows, at least as
        if it was 1 in the batch: (rows,), for a loss to be divided by."""
        total = self.ranks.mean(count.float()) * self.ranks.count
        return (total.clamp_min(1) / self.parts).expand(rows)

    def validate(self, record: Record) -> dict[str, float]:
        """Compute and record figures on `validation_batches`, of all processes together (`Ranks.in_turn`)."""
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
        """Write the checkpoint, in the first process; a kill leaves either the old or the new one."""
        if not self.ranks.first:
            return
        state = {
            **{name: module.state_dict() for name, module in self.trained().items()},
            **({} if self.average is None else {"average": self.average.state_dict()}),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        write_checkpoint(self.checkpoint, self.config, state)
        self._saved = self.step

    def resume(self) -> bool:
        """Load the checkpoint in `out`, which the first process reads for all; returns whether there is one."""
        there = self.ranks.in_turn([self.checkpoint.exists()])
        if any(there) and not there[0]:  # torchrun may choose another machine for the first process when it restarts
            raise ValueError(
                f"out: {self.checkpoint} is there for process {there.index(True)}, but not for the first one, which "
                "reads and writes it: give a folder that all machines share"
            )
        content = self.ranks.from_first(self.checkpoint.read_bytes() if self.ranks.first and there[0] else None)
        if content is None:
            return False
        state = read_checkpoint(content, self.checkpoint, self.config, self.out / self.file)
        with naming_damage(self.checkpoint):
            for name, module in self.trained().items():
                module.load_state_dict(state[name])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
        self._saved = self.step
        return True

    # ------------------------------------------------------------------------------------------------------------- loop
    def run(self) -> dict[str, float]:
        """Train to the last step; returns the last validation's figures."""
        try:
            with only_writer(self.out, "train") if self.ranks.first else nullcontext():
                return self._run()
        except RuntimeError as error:
            if self.ranks.count > 1 and is_loss(error):
                raise OSError("another process of the training has ended; its own message says why") from error
            raise
        finally:
            self.ranks.leave()

    def _run(self) -> dict[str, float]:
        from tqdm import tqdm

        config = self.config
        resumed = self.resume()
        if self.ranks.first:
            with replacing(self.out / "config.json") as temporary:
                temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        finished = self.step == config.steps  # its figures are computed again for the weights' file, not recorded again
        record = Record(self.out if self.ranks.first and not finished else None, self.step)
        figures: dict[str, float] = {}
        total = config.steps * config.batch_size
        bar = tqdm(
            total=total, initial=self.step * config.batch_size, unit=f" {self.unit}", smoothing=0.05,
            dynamic_ncols=True, disable=not self.ranks.first,
        )  # fmt: skip
        if resumed and self.ranks.first:
            done = "; its validation is made again" if finished else ""
            bar.write(f"resumed {self.checkpoint} at step {self.step} of {config.steps}{done}")
        try:
            figures = self._validated(record) if finished else self._steps(bar, record)
        except KeyboardInterrupt:
            if self.ranks.first:
                again = f"the same command resumes at step {self._saved} (--save-every {config.save_every})"
                bar.write(f"stopped after step {self.step} of {config.steps}; {again}")
            raise
        finally:
            unread = unread_frames(self._data) + unread_frames(self._val_data)
            if unread:
                bar.write(f"{unread} times a frame could not be read, and another one was drawn{of_process()}")
            bar.close()
            record.close()
        self.save()
        if self.ranks.first:
            with self.averaged():
                self.export(self.out / self.file, figures)
        return figures

    def _validated(self, record: Record) -> dict[str, float]:
        with self.averaged():
            for module in (self.model, *self.trained().values()):
                self.ranks.copy_first(module.buffers())  # BatchNorm's, if it is not shared
            return self.validate(record)

    def _steps(self, bar: Any, record: Record) -> dict[str, float]:
        config = self.config
        figures: dict[str, float] = {}
        batches = self._batches()
        progress = Progress(config.batch_size, self.unit, self.ranks)
        began = time.perf_counter()
        while self.step < config.steps:
            with progress.waiting():
                batch = next(batches)
            progress.add(self._train_step(batch))
            self.step += 1
            bar.update(config.batch_size)
            last = self.step == config.steps
            log, validate, save = (
                self.step % every == 0 for every in (config.log_every, config.val_every, config.save_every)
            )
            if log or validate or save or last:
                self._check(progress.read())
            if log:
                scalars = progress.scalars(learning_rate(config, self.step))
                record.scalars(self.step, scalars)
                bar.set_postfix(loss=f"{scalars['train/loss']:.3f}", wait=f"{scalars['train/data_wait_share']:.0%}")
            if validate or last:
                with progress.paused():
                    figures = self._validated(record)
                if self.ranks.first:
                    bar.write(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
            if save or last:
                now = time.perf_counter()
                self.seconds, began = self.seconds + now - began, now
                self.save()
        return figures

    def _check(self, losses: list[float]) -> None:
        """Raise an error if one of the losses of the last steps is not finite, before the state is saved."""
        for step, loss in enumerate(losses, start=self.step - len(losses) + 1):
            if not math.isfinite(loss):
                good = f"; {self.checkpoint} holds the last good state" if self.checkpoint.exists() else ""
                raise ValueError(f"the loss is {loss} at step {step}: lower --lr or raise --warmup{good}")

    def _train_step(self, batch: Batch) -> torch.Tensor:
        """One step of the optimizer on this process's share of a batch; returns the share's loss."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step) * group["rate"]
        # Seeded by the step, not by earlier draws, so that a resumed run augments like an uninterrupted one.
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            prepared = self.prepare(batch, Draws(generator, self.ranks.rank, self.ranks.count))
        rows = config.batch_size // self.parts
        total = torch.zeros((), device=self.device)
        for number in range(config.accumulate):
            part = {name: values[number * rows : (number + 1) * rows] for name, values in prepared.items()}
            total += self._loss(part, exchange=number + 1 == config.accumulate)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return total

    # ------------------------------------------------------------------------------------------------------------- data
    def _batches(self) -> Iterator[Batch]:
        """This process's shares of the batches, from the current step on."""
        ranks, size = self.ranks, self.config.batch_size // self.ranks.count
        start = self.step * ranks.count
        batches = self.loader(self._data, size, start=start, rank=ranks.rank, ranks=ranks.count)
        return copied_ahead(batches, self.device) if self.device.type == "cuda" else batches

    def _to_device(self, batch: Batch) -> Batch:
        return {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}

    def loader(self, data: Dataset[Any], size: int, **part: int) -> Iterator[Batch]:
        """Batches of `size` items of `data`. part: of `PairStream`."""
        return load(PairStream(data, size, **part), self.config.workers, self.ranks.local_count, self.device)

    def validation_batches(self) -> Iterator[Batch]:
        """This process's share of the validation's batches, dealt out in turn; drawn once and kept as uint8. With its
        own progress bar, because the training's stands."""
        from tqdm import tqdm

        size, ranks = self.config.batch_size, self.ranks
        batches: Any = self._validation
        if batches is None:
            batches = self.loader(self._val_data, size, rank=ranks.rank, ranks=ranks.count)
        total = len(range(ranks.rank, math.ceil(self.config.val_pairs / size), ranks.count))
        kept = []
        bar = {"leave": False, "unit": "batch", "dynamic_ncols": True, "disable": not ranks.first}
        for batch in tqdm(batches, "validate", total, **bar):
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
