"""Turn the training block of a recipe into transformers.TrainingArguments, with our defaults."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from genolm.config.console import did_you_mean
from genolm.config.yaml import SettingsError
from genolm.models.precision import has_fast_bf16
from genolm.training.loop_callbacks import samples_per_step

DECIDED = {
    "output_dir": "set run_dir",
    "seed": "set seed",
    "remove_unused_columns": "batches carry loss weights",
    "logging_nan_inf_filter": "a NaN is logged as NaN",
    "disable_tqdm": "genolm shows a bar of its own",
    "full_determinism": "set deterministic",
    "auto_find_batch_size": "set fit_batch, which keeps the global batch",
    "resume_from_checkpoint": "set resume",
    "enable_jit_checkpoint": "SIGTERM and SIGUSR1 always lead to a checkpoint",
    "save_only_model": "a run must be able to resume",
    "ignore_data_skip": "a run resumes with the samples it has not seen",
    "accelerator_config": "it would change which samples make a batch",
    "label_smoothing_factor": "the loss is in nats of the observed base",
    "eval_strategy": "set evaluation.every_steps, or stopping in fine-tuning",
    "eval_on_start": "set evaluation.every_steps, or stopping in fine-tuning",
    "push_to_hub": "use genolm publish",
    "load_best_model_at_end": "there is no best model by a metric here; the last is kept",
    "fsdp": "use --launch with a profile",
    "deepspeed": "use --launch with a profile",
}
"""Fields that the training block cannot set, and why or where to set them."""


AT_LEAST_ONE = {"max_steps": -1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
"""Counts, and the other value they may have: max_steps=-1 is the length of num_train_epochs."""


CHECKPOINTING = [(f"activation_checkpointing{end}", f"gradient_checkpointing{end}") for end in ("", "_kwargs")]
"""Fields and their names before transformers 5.18, which later versions warn of; a recipe may use either."""


def uses_cpu(training: dict[str, Any]) -> bool:
    """Return whether the training block asks for the CPU, or there is nothing else."""
    return bool(training.get("use_cpu", not torch.accelerator.is_available()))


def uses_bf16(training: dict[str, Any]) -> bool:
    """Return whether a training block computes in bf16: as it says, else where this machine is fast at it."""
    return bool(training.get("bf16", has_fast_bf16(uses_cpu(training)) and not training.get("fp16")))


def training_arguments(training: dict[str, Any], run_dir: Path, seed: int) -> TrainingArguments:
    """Check a training block and turn it into TrainingArguments.

    Raises:
        SettingsError: an unknown key, one that is decided elsewhere, or a value that transformers refuses.
    """
    fields = {f.name: f.default for f in dataclasses.fields(TrainingArguments) if f.init}
    for names in CHECKPOINTING:
        name = next(name for name in names if name in fields)
        training = {name if key in names else key: value for key, value in training.items()}
    for key, value in training.items():
        if key in DECIDED:
            raise SettingsError(f"training.{key} cannot be set: {DECIDED[key]}")
        if key not in fields:
            hint = did_you_mean(key, fields, "see its documentation")
            raise SettingsError(f"training.{key} is not a field of transformers.TrainingArguments; {hint}")
        if isinstance(fields[key], (bool, int, float)) and not isinstance(value, (bool, int, float)):
            kind = "true or false" if isinstance(fields[key], bool) else "a number"
            raise SettingsError(f"training.{key} is {value!r}; it must be {kind}")
        if type(fields[key]) is int and value != int(value):
            raise SettingsError(f"training.{key} is {value!r}; it must be a whole number")
        least = AT_LEAST_ONE.get(key)
        if least is not None and not (value >= 1 or value == least):
            raise SettingsError(f"training.{key} is {value!r}; it must be at least 1")
    strategy = training.get("save_strategy", "steps")
    if strategy not in ("steps", "no", False):
        raise SettingsError(f"training.save_strategy is {strategy!r}; allowed: steps, no")
    defaults: dict[str, Any] = {
        "use_cpu": uses_cpu(training),
        "bf16": uses_bf16(training),
        "logging_steps": 10,
        "save_steps": 500,
        "save_total_limit": 2,
        "report_to": "none",
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
    }
    fixed: dict[str, Any] = {
        "output_dir": str(run_dir / "checkpoints"),
        "seed": seed,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "accelerator_config": {"non_blocking": not uses_cpu(training)},  # copies to a GPU do not wait
        "save_strategy": strategy or "no",  # YAML takes a bare no for false
    }
    try:
        return TrainingArguments(**{**defaults, **training, **fixed})
    except Exception as error:  # each field has its own way to refuse a value
        raise SettingsError(f"training: transformers refuses these arguments: {error}") from error


def resolved_arguments(arguments: TrainingArguments) -> dict[str, Any]:
    """Return every training argument, defaults filled in, as plain data."""
    values = {f.name: getattr(arguments, f.name) for f in dataclasses.fields(arguments) if f.init}
    return json.loads(json.dumps(values, default=str))


def set_length(arguments: TrainingArguments, windows_per_epoch: int | None, windows_per_step: int = 0) -> None:
    """Turn epochs into steps, where the recipe gave no steps.

    Args:
        arguments: to be changed.
        windows_per_epoch: None where unknown beforehand.
        windows_per_step: the global batch; by default that of the ranks that run.
    """
    if arguments.max_steps > 0:
        return
    if windows_per_epoch is None:
        raise SettingsError("training.max_steps is not set; the length of a streamed dataset is not known beforehand")
    samples = arguments.num_train_epochs * windows_per_epoch
    arguments.max_steps = max(1, math.ceil(samples / (windows_per_step or samples_per_step(arguments))))
