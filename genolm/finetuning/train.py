"""Rows and a model → a model that learnt from them: by the Trainer, or as a probe.

Both leave what is best on the valid rows in `model`, and return what is known of it for `metrics.json`.
"""

import hashlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from transformers import PrinterCallback

from genolm.config.files import file_sha256
from genolm.config.finetune import FinetuneRecipe, keys_without_effect
from genolm.config.provenance import versions, write_provenance
from genolm.config.recipe import flatten_recipe, recipe_hash, to_dict
from genolm.config.yaml import SettingsError
from genolm.finetuning.best import Best, measure, thresholds
from genolm.finetuning.probe import fit_head, pooled_vectors, set_head
from genolm.finetuning.validate import named_files
from genolm.inference.predict import in_units, predict_rows
from genolm.labels.collate import for_rows
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import LOWER_IS_BETTER, PRIMARY
from genolm.models.loss import label_loss
from genolm.training.arguments import resolved_arguments, set_length
from genolm.training.checkpoint import CheckpointPayload, save_whole_model, write_checkpoint
from genolm.training.loop_callbacks import RunLog, rows_and_speed, samples_per_step
from genolm.training.memory import peak_bytes
from genolm.training.parallelism import requested_parallelism
from genolm.training.resume import on_all_ranks, resume_checkpoint
from genolm.training.run_folder import train_in_folder
from genolm.training.trainer import SampleNumbers, WeightedTrainer


def train_label_model(
    recipe: FinetuneRecipe, arguments, state, rows, model, tokenizer, collator, about: dict[str, Any], stop
) -> dict[str, Any]:
    """Train, keep in `model` what is best on the valid rows, and return what is known of it."""
    run_dir, kind = Path(recipe.run_dir), rows.train.task.kind
    if recipe.method == "lora":
        from genolm.models.lora import with_adapter

        model = with_adapter(model, recipe.lora)
    set_length(arguments, len(rows.train))
    per_step = samples_per_step(arguments)
    every = -(-arguments.max_steps // recipe.stopping.evaluations)
    size = min(64, arguments.per_device_train_batch_size * 2)
    options = {"batch_size": size, "autocast": bool(arguments.bf16), "rank": arguments.process_index}
    options |= {"num_ranks": arguments.world_size, "both_strands": recipe.both_strands}

    def write() -> None:
        weights = trainer.full_state()
        if trainer.is_world_process_zero():
            assert trainer.payload is not None
            save = trainer.payload.save_weights
            write_checkpoint(run_dir / "model", trainer.whole_model(), tokenizer, about, weights, save)
        trainer.accelerator.wait_for_everyone()

    metric = recipe.stopping.metric or PRIMARY[kind]
    predict = partial(predict_rows, collator=for_rows(collator, rows.valid), **options)
    best = Best(predict, rows.valid, metric, recipe.stopping.patience, write, run_dir / "log.jsonl")
    held_out = best if len(rows.valid) else None
    log = RunLog(run_dir / "log.jsonl", rows_and_speed(per_step), held_out, every, len(rows.train))
    trainer = build_label_trainer(recipe, arguments, rows, model, tokenizer, collator, about, stop, [log, best])
    found, manifest = on_all_ranks(lambda: resume_checkpoint(trainer, recipe.resume), main=state.is_main_process)
    total, trained = parameters(model)
    if state.is_main_process:
        write_provenance(run_dir, to_dict(recipe), {"inputs": inputs_of(recipe)}, recipe.seed)
        print_plan(recipe, rows, model, arguments, arguments.world_size)
    state.wait_for_everyone()
    peak = train_in_folder(trainer, found, manifest, recipe.fit_batch)
    if not len(rows.valid):
        write()
    elif trainer.state.global_step % every and not best.done:
        log.measure(arguments, trainer.state, cast(Any, trainer.model))
    if len(rows.valid) and state.is_main_process:
        print(best.told(arguments.max_steps), file=sys.stderr)
    return {
        "parameters": {"total": total, "trained": trained},
        "peak_memory_bytes": peak,
        "steps": {"trained": trainer.state.global_step, "best": best.best_step or trainer.state.global_step},
    }


def build_label_trainer(
    recipe: FinetuneRecipe, arguments, rows, model, tokenizer, collator, about: dict[str, Any], stop, callbacks: list
):
    """Return the trainer, ready to run."""
    run_dir, gamma = Path(recipe.run_dir), recipe.focal_gamma if recipe.imbalance == "focal" else 0.0
    lora = recipe.method == "lora"
    if lora:
        from genolm.models.lora import named_as_in_model, save_adapter
    payload = CheckpointPayload(
        root=run_dir / "checkpoints",
        tokenizer=tokenizer,
        metadata=lambda model: about,
        manifest={
            "recipe": to_dict(recipe),
            "flat_recipe": flatten_recipe(to_dict(recipe) | {"training": resolved_arguments(arguments)}),
            "recipe_hash": recipe_hash(recipe),
            "fingerprints": row_fingerprints(rows, about),
            "versions": versions(),
        },
        log=run_dir / "log.jsonl",
        save_weights=save_adapter if lora else save_whole_model,
        adapter_names=named_as_in_model if lora else None,
    )
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(arguments.max_steps * samples_per_step(arguments)),
        data_collator=collator,
        loss=partial(label_loss, rows.train.task.kind, focal_gamma=gamma),
        payload=payload,
        stop=stop,
        requested=requested_parallelism(),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    # Ours go first, so that trackers are given what they add.
    others = [callback for callback in trainer.callback_handler.callbacks if callback not in callbacks]
    trainer.callback_handler.callbacks = [*callbacks, *others]
    return trainer


def train_probe(
    recipe: FinetuneRecipe, arguments, rows, model, tokenizer, collator, about: dict[str, Any]
) -> dict[str, Any]:
    """Fit a linear head on frozen vectors, and return what is known of it."""
    run_dir, kind = Path(recipe.run_dir), rows.train.task.kind
    if recipe.imbalance == "focal":
        raise SettingsError("imbalance is focal, which a probe's regression does not have; use weights")
    if kind in PER_BASE or recipe.pooling == "attention" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            "method is probe, which fits one vector a sequence, pooled by mean or cls, in one process; for answers at "
            "every base, attention pooling or several ranks take lora or full"
        )
    model.backbone.requires_grad_(False)
    write_provenance(run_dir, to_dict(recipe), {"inputs": inputs_of(recipe)}, recipe.seed)
    print_plan(recipe, rows, model, arguments, 1)
    device = torch.accelerator.current_accelerator()
    model.to(device or "cpu")
    options = {"batch_size": 64, "both_strands": recipe.both_strands, "autocast": about["bf16"], "progress": True}
    key = about["base"]["sha256"]
    vectors = [
        pooled_vectors(model, for_rows(collator, part), run_dir / "embeddings", key, **options)
        for part in (rows.train, rows.valid)
    ]
    metric = recipe.stopping.metric or PRIMARY[kind]
    plain = for_rows(collator, rows.train)
    about |= {"centre": None, "scale": None}

    def score(labelled, outputs: np.ndarray) -> float:
        raw = torch.from_numpy(np.asarray(outputs, dtype=np.float64))
        values = list(raw.numpy() if kind == "regression" else in_units(kind, raw, plain).numpy())
        found = measure(labelled, values, thresholds(labelled, values))
        return found[metric] * (-1 if metric in {"loss", *LOWER_IS_BETTER} else 1)

    weighted = recipe.imbalance in ("weights", "sampling")
    weight, bias, strength = fit_head(rows.train, vectors[0], rows.valid, vectors[1], weighted, score, recipe.seed)
    set_head(model, weight, bias)
    write_checkpoint(run_dir / "model", model, tokenizer, about)
    total, _ = parameters(model)
    return {
        "parameters": {"total": total, "trained": int(weight.size + np.size(bias))},
        "peak_memory_bytes": peak_bytes(),
        "strength": strength,
    }


def print_plan(recipe: FinetuneRecipe, rows, model, arguments, num_ranks: int) -> None:
    """Print what is about to be learnt, before anything is spent."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in rows.notes:
        console.print(note)
    task = rows.train.task
    names = ", ".join(task.names[:8]) + (" …" if len(task.names) > 8 else "")
    parts = (("train", rows.train), ("valid", rows.valid), ("test", rows.test))
    console.print(f"task       {task.kind}: {names}")
    console.print("rows       " + ", ".join(f"{name} {len(part):,}" for name, part in parts))
    total, trained = parameters(model)
    how = recipe.method or recipe.model["baseline"]
    console.print(f"model      {how}: {total:,} parameters, {trained:,} of them trained")
    if idle := keys_without_effect(recipe):
        console.print(f"note       without effect on {recipe.method or 'a baseline'}: {', '.join(idle)}")
    if recipe.method != "probe":
        size = arguments.train_batch_size * arguments.gradient_accumulation_steps * num_ranks
        console.print(f"steps      {arguments.max_steps:,} of {size:,} rows; {num_ranks} on {arguments.device.type}")


def parameters(model) -> tuple[int, int]:
    """Return how many parameters a model has, and how many of them are trained."""
    total = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
    return total, sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters() if p.requires_grad)


def inputs_of(recipe: FinetuneRecipe) -> list[dict[str, Any]]:
    """Return the files that a recipe names, each with its sha256."""
    block = recipe.labels
    named = named_files(block.table) + (named_files(block.fasta) if block.fasta else [])
    return [{"path": name, "sha256": file_sha256(Path(name))} for name in named if Path(name).is_file()]


def row_fingerprints(rows, about: dict[str, Any]) -> dict[str, str]:
    """Return sha256 of what is learnt from: train and valid rows with their labels, and the pretrained weights."""
    found = {}
    for name, part in (("train rows", rows.train), ("valid rows", rows.valid)):
        digest = hashlib.sha256()
        for identity, sequence, label in zip(part.ids, part.sequences, part.labels, strict=True):
            digest.update(f"{identity}\t{sequence}\t".encode() + label.tobytes())
        found[name] = digest.hexdigest()
    return found | ({"model": about["base"]["sha256"]} if about["base"] else {})
