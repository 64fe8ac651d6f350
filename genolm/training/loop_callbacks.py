"""Around the training loop: progress bar, `log.jsonl`, held-out measures, and the stop where a loss is not finite."""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate.utils import gather_object
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import TrainerCallback

from genolm.config.console import progress_bar
from genolm.training.signals import NotFinite

Describe = Callable[[dict[str, Any], float], str]
"""A row of the log and updates a second → text for the progress bar; it may add to the row."""


def samples_per_step(args) -> int:
    """Return the global batch size: samples that one update consumes over all ranks."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def bits_and_speed(tokens_per_step: int, bases_per_token: float, objective: str) -> Describe:
    """Return what adds bits per base and tokens and bases a second, of all ranks, to a row of the log.

    Args:
        tokens_per_step: tokens of one update, all ranks together.
        bases_per_token: bases a predicted token stands for.
        objective: names the bits: `bits_per_base` is a likelihood, `masked_bits_per_base` is not.
    """
    name = "bits_per_base" if objective == "causal" else "masked_bits_per_base"

    def describe(logs: dict[str, Any], steps_per_second: float) -> str:
        rate = steps_per_second * tokens_per_step
        logs[name] = round(logs["loss"] / math.log(2) / bases_per_token, 5)
        logs["tokens_per_second"] = round(rate)
        logs["bases_per_second"] = round(rate * bases_per_token)
        speed = f"{rate:,.0f} tokens/s, {rate * bases_per_token:,.0f} bases/s"
        return f"loss {logs['loss']:.4f}, {logs[name]:.4f} {name.replace('_', ' ')}, {speed}"

    return describe


def rows_and_speed(rows_per_step: int) -> Describe:
    """Return what adds labelled rows a second, of all ranks, to a row of the log."""

    def describe(logs: dict[str, Any], steps_per_second: float) -> str:
        logs["rows_per_second"] = round(steps_per_second * rows_per_step, 1)
        return f"loss {logs['loss']:.4f}, {logs['rows_per_second']:,.0f} rows/s"

    return describe


class RunLog(TrainerCallback):
    """Shows a progress bar, and writes one JSON object a line to `log.jsonl`.

    Args:
        path: of the log.
        describe: completes a row of the log, and gives the text of the bar.
        measure_held_out: model → measures of held-out data, written with `eval_` before their names; called on every
            rank.
        every_steps: steps from one such measurement to the next; 0 for none.
        samples_per_epoch: where given, `epoch` counts them; Trainer knows no epochs but the whole run.
    """

    def __init__(
        self,
        path: Path,
        describe: Describe,
        measure_held_out: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        every_steps: int = 0,
        samples_per_epoch: int | None = None,
    ):
        self.path, self.describe, self.measure_held_out = path, describe, measure_held_out
        self.every_steps, self.samples_per_epoch = every_steps, samples_per_epoch
        self._last = (0, 0.0)
        self._bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock and the bar."""
        self._last = (state.global_step, time.perf_counter())
        if state.is_world_process_zero:
            self._bar = progress_bar(
                desc="training", total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True
            )

    def on_step_end(self, args, state, control, **kwargs):
        """Move the bar; measure held-out data when it is time."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
        if self.measure_held_out is not None and self.every_steps and state.global_step % self.every_steps == 0:
            self.measure(args, state, kwargs["model"])

    def measure(self, args, state, model: torch.nn.Module) -> None:
        """Measure held-out data, and write a row of it; every rank must call it."""
        assert self.measure_held_out is not None
        start = time.perf_counter()
        measures = {f"eval_{name}": round(value, 5) for name, value in self.measure_held_out(model).items()}
        self._last = (self._last[0], self._last[1] + time.perf_counter() - start)
        if state.is_world_process_zero:
            self._write(args, state, measures)

    def on_train_end(self, args, state, control, **kwargs):
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Complete a row of the log, show it and write it."""
        if logs is None or not state.is_world_process_zero:
            return
        if "loss" in logs:
            step, now = state.global_step, time.perf_counter()
            text = self.describe(logs, (step - self._last[0]) / max(now - self._last[1], 1e-9))
            self._last = (step, now)
            if self._bar is not None:
                self._bar.set_postfix_str(text, refresh=False)
        self._write(args, state, logs)

    def _write(self, args, state, values: dict[str, Any]) -> None:
        samples = state.global_step * samples_per_step(args)
        row = {"step": state.global_step, "samples": samples, **values}
        if self.samples_per_epoch:
            row["epoch"] = round(samples / self.samples_per_epoch, 4)
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OSError(f"{self.path}: the log could not be written: {error.strerror or error}") from error


class BeforeFirstStep(TrainerCallback):
    """Calls a function once model and optimizer are wrapped and loaded, before the first step."""

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def on_train_begin(self, args, state, control, **kwargs):
        """Call the function."""
        self.function()


def sync_log(path: Path) -> int:
    """Make a log durable and return its length in bytes; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def rewind_log(path: Path, num_bytes: int) -> None:
    """Cut a log to its length at the resumed checkpoint: the run writes the rest again."""
    if not path.is_file():
        if num_bytes:
            print(f"note: {path} does not exist any more; the log starts anew", file=sys.stderr)
        return
    size = path.stat().st_size
    if size < num_bytes:
        print(f"note: {path} has {size:,} bytes, {num_bytes:,} were written; the log has a gap", file=sys.stderr)
        num_bytes = path.read_bytes().rfind(b"\n") + 1
    os.truncate(path, num_bytes)


def raise_not_finite(trainer: Any, grad_norm: float) -> NoReturn:
    """Write what reproduces the step, and raise; every rank must call it."""
    step, size = trainer.state.global_step, samples_per_step(trainer.args)
    losses = gather_object([str(float(trainer.loss_since_log()))])
    samples = f"samples {step * size:,} to {(step + 1) * size - 1:,}"
    message = f"step {step + 1} ({samples}): loss {', '.join(losses)}, gradient norm {grad_norm}"
    if trainer.payload is not None:
        folder = trainer.payload.root.parent / "not-finite" / f"step-{step + 1}"
        try:
            write_step(folder, trainer, losses, grad_norm)
            message += f"; the batch is in {folder}"
        except Exception as error:  # what happened matters more than that it could not be kept
            message += f"; the batch could not be written to {folder}: {error}"
    trainer.accelerator.wait_for_everyone()
    raise NotFinite(
        f"{message}. Nothing was updated; try a lower training.learning_rate or training.max_grad_norm, from an "
        "earlier checkpoint where the newest has gone astray already"
    )


def write_step(folder: Path, trainer: Any, losses: list[str], grad_norm: float) -> None:
    """Write this rank's batches, and on the main rank `about.json`: samples, seed, losses and recipe of the step."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{i}.{name}": value.contiguous().cpu()
        for i, batch in enumerate(trainer.last_batches)
        for name, value in batch.items()
    }
    save_file(tensors, folder / f"rank-{trainer.args.process_index}.safetensors")
    if trainer.is_world_process_zero():
        step, size = trainer.state.global_step, samples_per_step(trainer.args)
        samples = [step * size, (step + 1) * size]
        metadata = {"step": step + 1, "samples": samples, "seed": trainer.args.seed, "loss": losses}
        metadata |= {"grad_norm": str(grad_norm), "recipe": trainer.payload.manifest.get("recipe")}
        (folder / "about.json").write_text(json.dumps(metadata, indent=1))
