"""The one subclass of transformers' Trainer: a globally weighted loss, and logs in bases.

The loss of an update is sum(weight · nats) / sum(weight) over *all* its tokens, whatever the number of ranks and
accumulation steps: 8 × 1 = 1 × 8 = 2 ranks × 4. Trainer counts labels instead, and never sees weights.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler, SequentialSampler
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback

from genolm.models.loss import weighted_token_loss


class SampleNumbers(Dataset):
    """The dataset: item i is the number i. The collator knows the rest."""

    def __init__(self, num_samples: int, first: int = 0):
        self.num_samples, self.first = num_samples, first

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> int:
        return self.first + index


class LanguageModelTrainer(Trainer):
    """Trains on batches of `input_ids`, `labels` and `loss_weight`, all (B, L).

    Args:
        causal: logits at t predict the label at t + 1.
        kwargs: as for transformers.Trainer.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args, causal: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.causal = causal
        # We divide by the global weight ourselves, so Trainer must not divide by the accumulation steps again.
        self.model_accepts_loss_kwargs = True
        self.label_names = ["labels"]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        # Sample numbers come in order; the shuffle is inside the corpus.
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)  # type: ignore[arg-type]

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Return the total weight of an update over its batches and all ranks, at least the smallest float."""
        total = sum(batch["loss_weight"].sum(dtype=torch.float64) for batch in batch_samples)
        weight = torch.as_tensor(total, dtype=torch.float32).to(device)
        if self.accelerator.num_processes > 1:
            weight = self.accelerator.reduce(weight, reduction="sum")
        return weight.clamp_min(torch.finfo(torch.float32).tiny)  # type: ignore[union-attr]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ):
        """Return this batch's share of the update's loss, in nats per unit of weight."""
        labels, weight = inputs["labels"], inputs["loss_weight"]
        outputs = model(**{k: v for k, v in inputs.items() if k not in ("labels", "loss_weight")})
        nats, total = weighted_token_loss(outputs.logits, labels, weight, causal=self.causal)
        if num_items_in_batch is None:
            loss = nats / total.clamp_min(torch.finfo(torch.float32).tiny)
        else:
            # Gradients are averaged over ranks; times their number makes that a sum.
            loss = nats * self.accelerator.num_processes / num_items_in_batch
        return (loss, outputs) if return_outputs else loss


class RunLog(TrainerCallback):
    """Shows progress, and writes one JSON object a line to `log.jsonl`.

    Speed is in tokens and bases of all ranks; the loss is also given in bits per base.

    Args:
        path: where the log goes.
        tokens_per_step: tokens of one update, all ranks together.
        bases_per_token: bases a predicted token stands for.
        objective: names the bits: `bits_per_base` is a likelihood, `masked_bits_per_base` is not.
        held_out: model → bits per base of held-out regions, written with `eval_` before the name.
        every_steps: steps from one such measurement to the next; 0 for none.
    """

    def __init__(
        self,
        path: Path,
        tokens_per_step: int,
        bases_per_token: float,
        objective: str,
        held_out: Callable[[torch.nn.Module], float] | None = None,
        every_steps: int = 0,
    ):
        self.held_out, self.every_steps = held_out, every_steps
        self.path, self.tokens_per_step, self.bases_per_token = path, tokens_per_step, bases_per_token
        self.bits_name = "bits_per_base" if objective == "causal" else "masked_bits_per_base"
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
        if self._bar is None:
            return
        self._bar.update(state.global_step - self._bar.n)
        if self.held_out is not None and self.every_steps and state.global_step % self.every_steps == 0:
            began = time.perf_counter()
            bits = round(self.held_out(kwargs["model"]), 5)
            self._write(args, state, {f"eval_{self.bits_name}": bits})
            self._last = (self._last[0], self._last[1] + time.perf_counter() - began)

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
            rate = (step - self._last[0]) / max(now - self._last[1], 1e-9) * self.tokens_per_step
            self._last = (step, now)
            logs[self.bits_name] = round(logs["loss"] / math.log(2) / self.bases_per_token, 5)
            logs["tokens_per_second"] = round(rate)
            logs["bases_per_second"] = round(rate * self.bases_per_token)
            if self._bar is not None:
                speed = f"{rate:,.0f} tokens/s, {rate * self.bases_per_token:,.0f} bases/s"
                bits = f"{logs[self.bits_name]:.4f} {self.bits_name.replace('_', ' ')}"
                self._bar.set_postfix_str(f"loss {logs['loss']:.4f}, {bits}, {speed}", refresh=False)
        self._write(args, state, logs)

    def _write(self, args, state, values: dict[str, Any]) -> None:
        row = {"step": state.global_step, "samples": state.global_step * samples_per_step(args), **values}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def samples_per_step(args) -> int:
    """Return the global batch: samples that one update consumes over all ranks."""
    return args.train_batch_size * args.gradient_accumulation_steps * args.world_size
