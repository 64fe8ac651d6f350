"""Train a label model with the Trainer: an adapter, all weights, or a baseline; the best on the valid rows is kept."""

import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

from accelerate import PartialState
from transformers import PrinterCallback, TrainingArguments

from genolm.config.finetune import FinetuneRecipe
from genolm.config.provenance import versions
from genolm.config.recipe import flatten_recipe, recipe_hash, to_dict
from genolm.finetuning.best import BestModel
from genolm.finetuning.build import FinetuningSetup, begin_run, num_parameters
from genolm.inference.predict import predict_rows
from genolm.labels.collate import for_rows
from genolm.metrics.prediction_metrics import PRIMARY
from genolm.models.loss import label_loss
from genolm.training.arguments import resolved_arguments, set_length
from genolm.training.checkpoint import CheckpointPayload, save_whole_model, write_checkpoint
from genolm.training.loop_callbacks import RunLog, rows_and_speed, samples_per_step
from genolm.training.parallelism import requested_parallelism
from genolm.training.run_folder import on_all_ranks, resume_checkpoint, train_in_folder
from genolm.training.signals import StopRequest
from genolm.training.trainer import SampleNumbers, WeightedTrainer


def train_label_model(
    recipe: FinetuneRecipe,
    arguments: TrainingArguments,
    state: PartialState,
    setup: FinetuningSetup,
    stop: StopRequest,
) -> dict[str, Any]:
    """Train, write the model that is best on the valid rows, and return its entries of `metrics.json`."""
    run_dir, rows = Path(recipe.run_dir), setup.rows
    set_length(arguments, len(rows.train))
    every = -(-arguments.max_steps // recipe.stopping.evaluations)

    def save() -> None:
        weights = trainer.full_state()
        if trainer.is_world_process_zero():
            assert trainer.payload is not None
            model, how = trainer.whole_model(), trainer.payload.save_weights
            write_checkpoint(run_dir / "model", model, setup.tokenizer, setup.metadata, weights, how)
        trainer.accelerator.wait_for_everyone()

    best = best_model_callback(recipe, arguments, setup, save)
    speed = rows_and_speed(samples_per_step(arguments))
    log = RunLog(run_dir / "log.jsonl", speed, best if len(rows.valid) else None, every, len(rows.train))
    trainer = build_label_trainer(recipe, arguments, setup, stop, [log, best])
    checkpoint, manifest = on_all_ranks(lambda: resume_checkpoint(trainer, recipe.resume), main=state.is_main_process)
    total, trained = num_parameters(trainer.model)
    if state.is_main_process:
        begin_run(recipe, rows, trainer.model, arguments)
    state.wait_for_everyone()
    peak = train_in_folder(trainer, checkpoint, manifest, recipe.fit_batch)
    if not len(rows.valid):
        save()
    elif trainer.state.global_step % every and not best.done:
        log.measure(arguments, trainer.state, cast(Any, trainer.model))
    if len(rows.valid) and state.is_main_process:
        print(best.summary(arguments.max_steps), file=sys.stderr)
    return {
        "parameters": {"total": total, "trained": trained},
        "peak_memory_bytes": peak,
        "steps": {"trained": trainer.state.global_step, "best": best.best_step or trainer.state.global_step},
    }


def best_model_callback(
    recipe: FinetuneRecipe, arguments: TrainingArguments, setup: FinetuningSetup, save
) -> BestModel:
    """Return the callback that evaluates the valid rows and saves the best model."""
    valid, stopping = setup.rows.valid, recipe.stopping
    predict = partial(
        predict_rows,
        collator=for_rows(setup.collator, valid),
        batch_size=min(64, arguments.per_device_train_batch_size * 2),
        autocast=bool(arguments.bf16),
        rank=arguments.process_index,
        num_ranks=arguments.world_size,
        both_strands=recipe.both_strands,
    )
    metric = stopping.metric or PRIMARY[valid.task.kind]
    return BestModel(predict, valid, metric, stopping.patience, save, Path(recipe.run_dir) / "log.jsonl")


def build_label_trainer(
    recipe: FinetuneRecipe,
    arguments: TrainingArguments,
    setup: FinetuningSetup,
    stop: StopRequest | None,
    callbacks: list,
) -> WeightedTrainer:
    """Return the trainer of a label model, its adapter added where the method is LoRA."""
    run_dir, rows, metadata = Path(recipe.run_dir), setup.rows, setup.metadata
    model, save_weights, adapter_names = setup.model, save_whole_model, None
    if recipe.method == "lora":
        from genolm.models.lora import named_as_in_model, save_adapter, with_adapter

        model, save_weights, adapter_names = with_adapter(model, recipe.lora), save_adapter, named_as_in_model
    base = {"model": metadata["base"]["sha256"]} if metadata["base"] else {}
    payload = CheckpointPayload(
        root=run_dir / "checkpoints",
        tokenizer=setup.tokenizer,
        metadata=lambda model: metadata,
        manifest={
            "recipe": to_dict(recipe),
            "flat_recipe": flatten_recipe(to_dict(recipe) | {"training": resolved_arguments(arguments)}),
            "recipe_hash": recipe_hash(recipe),
            "fingerprints": rows.fingerprints() | base,
            "versions": versions(),
        },
        log=run_dir / "log.jsonl",
        save_weights=save_weights,
        adapter_names=adapter_names,
    )
    gamma = recipe.focal_gamma if recipe.imbalance == "focal" else 0.0
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(arguments.max_steps * samples_per_step(arguments)),
        data_collator=setup.collator,
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
