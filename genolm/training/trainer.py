"""The training loop: a subclass of transformers' Trainer with what was measured to be missing there, nothing else.

- The loss of an update is sum(weight · nats) / sum(weight) over *all* its tokens, whatever the number of ranks and
  accumulation steps: 8 × 1 = 1 × 8 = 2 ranks × 4. Trainer counts labels instead, and never sees weights.
- Dropout is a function of (seed, step, rank), so that no generator state needs saving.
- Before every update all ranks agree that loss and gradient are finite, and on whether one of them was asked to stop.
  Cost: one reduction of two numbers, which also waits for the device.
- Checkpoints are written aside, sealed and renamed (`genolm.training.checkpoint`).
"""

import math
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object, save_fsdp_optimizer
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler
from transformers import PreTrainedModel, Trainer

from genolm.config.files import remove
from genolm.data import rng
from genolm.training.checkpoint import (
    CheckpointError,
    CheckpointPayload,
    all_or_none,
    checkpoint_files,
    digests,
    prune,
    seal,
    step_folder,
    write_model,
)
from genolm.training.loop_callbacks import BeforeFirstStep, raise_not_finite, samples_per_step, sync_log
from genolm.training.parallelism import (
    Parallelism,
    check_parallelism,
    check_precision,
    check_state_dict,
    complete_profile,
    ends_in_one_group,
    separate_step_counters,
    wrapper_of,
)
from genolm.training.signals import Stopped, StopRequest, ignore_stop_signals

STREAM_DROPOUT = 64
_TINY = torch.finfo(torch.float32).tiny


class SampleNumbers(Dataset):
    """The Dataset of every run: item i is the sample number i, and the collator makes batches of sample numbers.

    Which window, strand and mask a sample has is a function of the seed and its number (`genolm.data`), so that the
    number of samples consumed is all that resuming the data needs, for any number of workers and ranks.
    """

    def __init__(self, num_samples: int):
        self.num_samples = num_samples

    def __len__(self) -> int:
        return self.num_samples

    def __getitem__(self, index: int) -> int:
        return index


class WeightedTrainer(Trainer):
    """Trains on batches of `input_ids`, `labels`, `loss_weight`, and whatever else the model takes.

    Args:
        loss: logits, labels, weights → their weighted sum of losses and the total weight, as `genolm.models.loss` has.
        payload: what goes into checkpoints; None where none are written.
        stop: whether this rank was asked to stop.
        requested: what the launcher was asked for; anything else is refused.
        kwargs: as for transformers.Trainer.

    Attributes:
        stopped: whether training ended because the ranks agreed to stop.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args,
        loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
        payload: CheckpointPayload | None = None,
        stop: StopRequest | None = None,
        requested: Parallelism | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.loss, self.payload, self.stop, self.stopped = loss, payload, stop or StopRequest(), False
        self.requested = requested
        if self.is_fsdp_enabled:
            check_state_dict(self.accelerator.state.fsdp_plugin)
        # We divide by the global weight ourselves, so Trainer must not divide by the accumulation steps again.
        self.model_accepts_loss_kwargs = True
        self.label_names = ["labels"]
        self.last_batches: list[dict[str, torch.Tensor]] = []
        self._resumed: dict[str, Any] | None = None
        self._universal: Path | None = None
        self._group_settings: list[dict[str, Any]] = []
        self.add_callback(BeforeFirstStep(self._before_first_step))
        complete_profile(self)

    # Data: sample numbers come in order; the shuffle is inside the corpus.

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)  # type: ignore[arg-type]

    def get_train_dataloader(self) -> DataLoader:
        """Return the loader; its workers leave signals to the main process."""
        loader = super().get_train_dataloader()
        # accelerate's loader starts the workers of the one it wraps, and copies its own when it skips batches.
        for each in (loader, getattr(loader, "base_dataloader", loader)):
            each.worker_init_fn = ignore_stop_signals
        return loader

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        """Return the batches of an update and their total weight; everything random after this is the step's own."""
        self.last_batches, weight = super().get_batch_samples(epoch_iterator, num_batches, device)
        seed_step(self.args.seed, self.state.global_step, self.args.process_index)
        return self.last_batches, weight

    def _save_rng_state(self, output_dir: str) -> None:
        """Save nothing: `seed_step` needs no state."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Load nothing: `seed_step` needs no state."""

    # Loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor:
        """Return the total weight of an update over its batches and all ranks, at least the smallest float."""
        exact = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs lack
        total = sum(batch["loss_weight"].sum(dtype=exact) for batch in batch_samples)
        weight = torch.as_tensor(total, dtype=torch.float32).to(device)
        if self.accelerator.num_processes > 1:
            weight = self.accelerator.reduce(weight, reduction="sum")
        return weight.clamp_min(_TINY)  # type: ignore[union-attr]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ):
        """Return this batch's part of the update's loss, in nats per unit of weight."""
        labels, weight = inputs["labels"], inputs["loss_weight"]
        outputs = model(**{k: v for k, v in inputs.items() if k not in ("labels", "loss_weight")})
        nats, total = self.loss(outputs.logits, labels, weight)
        if num_items_in_batch is None:
            loss = nats / total.clamp_min(_TINY)
        else:
            # Gradients are averaged over ranks; times their number makes that a sum.
            loss = nats * self.accelerator.num_processes / num_items_in_batch
        self._last_loss = loss.detach()
        return (loss, outputs) if return_outputs else loss

    # Before every update

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        if not self.is_deepspeed_enabled:  # which has updated already, and checked before it did
            self.check_finite_and_stop(norm)
        return norm

    def check_finite_and_stop(self, grad_norm: Any) -> None:
        """Raise on all ranks if a loss or gradient of any is not finite; stop all if any was asked to stop.

        Args:
            grad_norm: of all gradients, the same on all ranks.
        """
        loss = self.loss_since_log()
        finite = torch.isfinite(loss)
        norm = torch.as_tensor(getattr(grad_norm, "full_tensor", lambda: grad_norm)(), device=loss.device)
        if not self.args.fp16:  # whose scaler skips such updates by itself, and means to
            finite = finite & torch.isfinite(norm)
        stop = torch.full_like(loss, float(self.stop.signal is not None))
        flags = torch.stack([(~finite).to(stop.dtype), stop])
        if self.accelerator.num_processes > 1:
            flags = self.accelerator.reduce(flags, reduction="sum")
        num_not_finite, num_stop = flags.tolist()  # type: ignore[union-attr]
        if num_not_finite:
            raise_not_finite(self, float(norm))
        if num_stop:
            self.stopped = self.control.should_save = self.control.should_training_stop = True

    def loss_since_log(self) -> torch.Tensor:
        """Return this rank's part of the loss since the last line of the log."""
        loss = cast(torch.Tensor, self._tr_loss)
        # DeepSpeed updates inside the last backward pass, whose loss Trainer has not added yet.
        return loss + self._last_loss if self.is_deepspeed_enabled else loss

    def _check_within_deepspeed(self) -> None:
        """Check before DeepSpeed's optimizer updates: it does so within the backward pass, out of Trainer's sight."""
        optimizer = cast(Any, self.deepspeed).optimizer
        update = optimizer.step

        def checked_update(*args, **kwargs):
            self.check_finite_and_stop(deepspeed_grad_norm(optimizer))
            return update(*args, **kwargs)

        optimizer.step = checked_update

    def raise_if_asked_to_stop(self) -> None:
        """Raise on all ranks if any was asked to stop; for use outside the training loop."""
        stop = torch.tensor(float(self.stop.signal is not None), device=self.args.device)
        if self.accelerator.num_processes > 1:
            stop = self.accelerator.reduce(stop, reduction="sum")
        if stop:
            raise Stopped("while measuring; the model is saved: the same command, or `genolm evaluate`, measures it")

    # Checkpoints

    def _prepare_for_training(self, *args, **kwargs):
        with ends_in_one_group(self.model) if self.is_fsdp_enabled else nullcontext():
            return super()._prepare_for_training(*args, **kwargs)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Return the optimizer, and note the settings of its groups: a checkpoint replaces them by its own."""
        optimizer = super().create_optimizer(model)
        split_groups_by_decay(optimizer, model or cast(torch.nn.Module, self.model))
        self._group_settings = group_settings(optimizer)
        return optimizer

    def full_state(self) -> dict[str, Any] | None:
        """Return all weights on the main rank, None where its model holds them; every rank must call it."""
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            return None
        return cast(dict[str, Any], self.accelerator.get_state_dict(self.model_wrapped))

    def whole_model(self) -> PreTrainedModel:
        """Return the model without what wraps it."""
        return cast(PreTrainedModel, self.accelerator.unwrap_model(self.model_wrapped, keep_torch_compile=False))

    def _save_checkpoint(self, model, trial) -> None:
        assert self.payload is not None, "a run without a payload writes no checkpoints"
        folder = step_folder(self.payload.root, self.state.global_step)
        aside = folder.with_name(f"{folder.name}.partial")
        self.store_flos()
        losses = gather_object([float(self._tr_loss)])
        state = self.full_state()
        with all_or_none(aside):
            if self.is_world_process_zero():
                remove(aside)
                aside.mkdir(parents=True)
        with all_or_none(aside, alone=self.is_deepspeed_enabled or self.is_fsdp_enabled):
            self._save_optimizer_and_scheduler(str(aside))  # the ranks meet in here
        with all_or_none(aside):
            self._save_scaler(str(aside))
            if self.is_world_process_zero():
                self.state.save_to_json(str(aside / "trainer_state.json"))
                metadata = self.payload.metadata(self.whole_model())
                write_model(
                    aside, self.whole_model(), self.payload.tokenizer, metadata, state, self.payload.save_weights
                )
        # No rank may meet the others within all_or_none, which does so itself.
        mine: dict[str, dict[str, Any]] = {}
        with all_or_none(aside):
            mine = digests(aside, checkpoint_files(aside)[self.args.process_index :: self.args.world_size], sync=True)
        files = dict(gather_object(list(mine.items())))
        with all_or_none(aside):
            if self.is_world_process_zero():
                seal(aside, folder, files, self._manifest(losses))
                prune(self.payload.root, self.args.save_total_limit, self.state.global_step)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save their states; under FSDP2 without the weights, which Trainer would save as a pickle beside the model."""
        if not self.is_fsdp_enabled:
            return super()._save_optimizer_and_scheduler(output_dir)
        plugin = self.accelerator.state.fsdp_plugin
        save_fsdp_optimizer(plugin, self.accelerator, self.optimizer, self.model, output_dir)
        if self.is_world_process_zero():
            torch.save(cast(Any, self.lr_scheduler).state_dict(), Path(output_dir) / "scheduler.pt")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        """Load weights; under FSDP2 from the safetensors, which the main rank reads and hands out."""
        if not self.is_fsdp_enabled:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        assert self.payload is not None
        module, rename = cast(torch.nn.Module, model or self.model), self.payload.adapter_names
        state: dict[str, Any] = {}
        if self.is_world_process_zero():
            for path in sorted(Path(resume_from_checkpoint).glob("*model*.safetensors")):
                state |= load_file(path)
            state = rename(module, state) if rename else state
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        incompatible = set_model_state_dict(module, state, options=options)
        if self.is_world_process_zero() and not rename:
            self._issue_warnings_after_load(incompatible)

    def _manifest(self, losses: list[float]) -> dict[str, Any]:
        assert self.payload is not None
        size = samples_per_step(self.args)
        return self.payload.manifest | {
            "step": self.state.global_step,
            "samples": self.state.global_step * size,
            "samples_per_step": size,
            "world_size": self.args.world_size,
            "wrapper": wrapper_of(self),
            "log_bytes": sync_log(self.payload.log),
            # What has been summed since the last line of the log, so that the next line is the same after a resume.
            "loss_sums": losses,
            "loss_total": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
        }

    def resume(self, folder: Path | None, manifest: dict[str, Any]):
        """Train, from a checkpoint that was verified or from the start."""
        self._resumed = manifest or None
        if folder is not None and folder.suffix == ".universal":
            self._universal = folder
            cast(Any, self.accelerator.state.deepspeed_plugin).deepspeed_config["checkpoint"] = {"load_universal": True}
        return self.train(resume_from_checkpoint=None if folder is None else str(folder))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse weights that do not fit, which Trainer would only mention. Tied weights are saved once."""
        parameters = dict(self.whole_model().named_parameters(remove_duplicate=False))
        loaded = {id(p) for name, p in parameters.items() if name not in load_result.missing_keys}
        missing = [k for k in load_result.missing_keys if k not in parameters or id(parameters[k]) not in loaded]
        if missing or load_result.unexpected_keys:
            raise CheckpointError(
                f"weights do not fit the model: missing {missing}, unknown {load_result.unexpected_keys}"
            )

    def _before_first_step(self) -> None:
        """Compare the wrapper with the profile, and restore what Trainer does not: all is wrapped and loaded now."""
        check_parallelism(self.requested, self.args.world_size, wrapper_of(self))
        check_precision(self)
        if self.is_deepspeed_enabled:
            self._check_within_deepspeed()
        if self._universal is not None:
            separate_step_counters(cast(Any, self.deepspeed).optimizer.optimizer)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                shutil.rmtree(self._universal, ignore_errors=True)
        if self._resumed is None:
            return
        if self._universal is not None or self._resumed.get("changed"):
            restore_group_settings(self.optimizer, self.lr_scheduler, self._group_settings)
        sums = self._resumed["loss_sums"]
        same_ranks = len(sums) == self.args.world_size
        self._tr_loss += sums[self.args.process_index] if same_ranks else math.fsum(sums) / len(sums)
        self._total_loss_scalar = self._resumed["loss_total"]
        self._globalstep_last_logged = self._resumed["last_logged"]
        self._initial_global_step = 0


def decay_factors(model: torch.nn.Module) -> dict[torch.nn.Parameter, float]:
    """Return the factor of the weight decay for each parameter whose name the model's `weight_decay_factors` match."""
    patterns: dict[str, float] = getattr(model, "weight_decay_factors", dict)()
    return {
        parameter: factor
        for name, parameter in model.named_parameters()
        for pattern, factor in patterns.items()
        if re.search(pattern, name)
    }


def split_groups_by_decay(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> None:
    """Move parameters that decay more, less or not at all to groups of their own."""
    factors = decay_factors(model)
    for group in list(optimizer.param_groups):
        for factor in sorted(set(factors.values()) if group["weight_decay"] else ()):
            moved = [p for p in group["params"] if factors.get(p) == factor]
            if moved:
                group["params"] = [p for p in group["params"] if factors.get(p) != factor]
                rest = {k: v for k, v in group.items() if k != "params"}
                optimizer.add_param_group(rest | {"params": moved, "weight_decay": factor * group["weight_decay"]})


def group_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return learning rate, betas and weight decay of each parameter group."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def restore_group_settings(optimizer: Any, schedule: Any, settings: list[dict[str, Any]]) -> None:
    """Set what `group_settings` returned, which loading a checkpoint replaced, and the scheduled learning rate."""
    groups = optimizer.param_groups
    for group, own in zip(groups, settings, strict=True):
        group.update(own)
    if isinstance(schedule, LambdaLR):
        schedule.base_lrs = [own["lr"] for own in settings]
        for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group.update(initial_lr=base, lr=base * factor(schedule.last_epoch))


def deepspeed_grad_norm(optimizer) -> float:
    """Return the norm of all gradients over all ranks, before a ZeRO optimizer updates; every rank must call it."""
    if hasattr(optimizer, "_get_norm_groups"):  # ZeRO-3
        from deepspeed.runtime.utils import combine_grad_norm_groups

        return float(combine_grad_norm_groups(optimizer._get_norm_groups()))
    return float(optimizer.scaled_global_norm())


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed every generator that a forward pass may draw from, by (seed, step, rank)."""
    word = int(rng.words(seed, STREAM_DROPOUT, np.array([step]), rank + 1)[0, rank])
    torch.manual_seed(word)
    np.random.seed(word % 2**32)
    random.seed(word)
