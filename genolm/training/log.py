"""What a run shows while it goes on, and `log.jsonl`: one JSON object a line, losses in bits per base too."""

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

Show = Callable[[dict[str, Any], float], str]
"""A line of the log and updates a second → what the bar says; it may add to the line."""


def bits_and_speed(tokens_per_step: int, bases_per_token: float, objective: str) -> Show:
    """Return what a language model's log says beside the loss: bits per base, tokens and bases a second of all ranks.

    Args:
        tokens_per_step: tokens of one update, all ranks together.
        bases_per_token: bases a predicted token stands for.
        objective: names the bits: `bits_per_base` is a likelihood, `masked_bits_per_base` is not.
    """
    name = "bits_per_base" if objective == "causal" else "masked_bits_per_base"

    def show(logs: dict[str, Any], steps_per_second: float) -> str:
        rate = steps_per_second * tokens_per_step
        logs[name] = round(logs["loss"] / math.log(2) / bases_per_token, 5)
        logs["tokens_per_second"] = round(rate)
        logs["bases_per_second"] = round(rate * bases_per_token)
        speed = f"{rate:,.0f} tokens/s, {rate * bases_per_token:,.0f} bases/s"
        return f"loss {logs['loss']:.4f}, {logs[name]:.4f} {name.replace('_', ' ')}, {speed}"

    return show


def rows_and_speed(rows_per_step: int) -> Show:
    """Return what the log of labelled rows says beside the loss: rows a second of all ranks."""

    def show(logs: dict[str, Any], steps_per_second: float) -> str:
        logs["rows_per_second"] = round(steps_per_second * rows_per_step, 1)
        return f"loss {logs['loss']:.4f}, {logs['rows_per_second']:,.0f} rows/s"

    return show


class RunLog(TrainerCallback):
    """Shows progress, and writes one JSON object a line to `log.jsonl`.

    Args:
        path: where the log goes.
        show: what a line says beside the loss, and the bar.
        held_out: model → what is measured on held-out data, written with `eval_` before the names; called on every
            rank.
        every_steps: steps from one such measurement to the next; 0 for none.
        samples_per_epoch: where known, `epoch` counts them; Trainer knows no epochs but the whole run.
    """

    def __init__(
        self,
        path: Path,
        show: Show,
        held_out: Callable[[torch.nn.Module], dict[str, float]] | None = None,
        every_steps: int = 0,
        samples_per_epoch: int | None = None,
    ):
        self.path, self.show, self.held_out, self.every_steps = path, show, held_out, every_steps
        self.samples_per_epoch = samples_per_epoch
        self._last = (0, 0.0)
        self._bar: tqdm | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock and the bar."""
        self._last = (state.global_step, time.perf_counter())
        if state.is_world_process_zero:
            # A log file gets a line now and then, a terminal a bar that moves.
            interval = 0.5 if sys.stderr.isatty() else 30.0
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, unit="step", mininterval=interval, dynamic_ncols=True
            )

    def on_step_end(self, args, state, control, **kwargs):
        """Move the bar; measure held-out regions when it is time."""
        if self._bar is not None:
            self._bar.update(state.global_step - self._bar.n)
        if self.held_out is not None and self.every_steps and state.global_step % self.every_steps == 0:
            self.measure(args, state, kwargs["model"])

    def measure(self, args, state, model: torch.nn.Module) -> None:
        """Measure held-out data, and write a line of it; every rank must call it."""
        assert self.held_out is not None
        began = time.perf_counter()
        found = {f"eval_{name}": round(value, 5) for name, value in self.held_out(model).items()}
        self._last = (self._last[0], self._last[1] + time.perf_counter() - began)
        if state.is_world_process_zero:
            self._write(args, state, found)

    def on_train_end(self, args, state, control, **kwargs):
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Add what Trainer does not know, show it and write it."""
        if logs is None or not state.is_world_process_zero:
            return
        if "loss" in logs:
            step, now = state.global_step, time.perf_counter()
            told = self.show(logs, (step - self._last[0]) / max(now - self._last[1], 1e-9))
            self._last = (step, now)
            if self._bar is not None:
                self._bar.set_postfix_str(told, refresh=False)
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


def samples_per_step(args) -> int:
    """Return the global batch: samples that one update consumes over all ranks."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size


def sync_log(path: Path) -> int:
    """Make a log durable and return its length in bytes; 0 where there is none."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


def rewind_log(path: Path, num_bytes: int) -> None:
    """Drop what a run wrote after the checkpoint that it goes on from, which it will write again, and half a line."""
    if not path.is_file():
        if num_bytes:
            print(f"note: {path} is gone; the log begins anew", file=sys.stderr)
        return
    found = path.stat().st_size
    if found < num_bytes:
        print(f"note: {path} has {found:,} bytes, {num_bytes:,} were written; the log has a gap", file=sys.stderr)
        num_bytes = path.read_bytes().rfind(b"\n") + 1
    os.truncate(path, num_bytes)
