"""`genolm finetune`: from labelled DNA to a model of it, a language model's or a baseline's, and its predictions.

    table → splits → leakage → model → Trainer, or a probe → best model → predictions, metrics, curve

One path for all methods: the same rows, the same splits, the same measures, the same files.
"""

import json
import shutil
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import genolm
from genolm.provenance import versions, write_provenance, write_text
from genolm.recipe import FinetuneRecipe, flat, recipe_hash, to_dict
from genolm.settings import SettingsError, load_settings

LEARNING_RATE = {"lora": 3e-4, "full": 5e-5, "scratch": 5e-4, "baseline": 1e-3}
"""Where the recipe gives none."""


def finetune(
    recipe: Annotated[str, typer.Argument(help="Recipe, a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to the recipe: key=value.")] = None,
    launch: Annotated[
        str,
        typer.Option(help="Start the ranks of a profile of recipes/accelerate, or of a file: 'ddp --num_processes 4'."),
    ] = "",
) -> None:
    """Fine-tune a DNA language model on labelled sequences (LoRA, full, probe, from scratch), or train a baseline.

    Example: genolm finetune recipes/quickstart/baseline.yaml labels.table=promoters.csv run_dir=runs/danq
    """
    if launch:
        from genolm.training.profiles import launch as start_ranks

        load_settings(FinetuneRecipe, recipe, overrides or [])
        raise SystemExit(start_ranks(launch, ["finetune", recipe, *(overrides or [])]))
    from genolm.training.stops import with_exit_code

    with_exit_code(lambda: run(load_settings(FinetuneRecipe, recipe, overrides or [])))


def run(recipe: FinetuneRecipe) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`."""
    from genolm.training.stops import until_it_fits

    return until_it_fits(lambda stop, held: attempt(recipe, stop, held))


def attempt(recipe: FinetuneRecipe, stop, held: ExitStack) -> dict[str, Any]:
    """Read rows, fit, predict, measure."""
    from genolm.labelled_parts import about_labels, check_lengths, make_collator, make_model, open_rows
    from genolm.training.run import open_run

    run_dir = Path(recipe.run_dir)
    training = {"learning_rate": LEARNING_RATE.get(recipe.method or "baseline", 1e-3)}
    if recipe.method is None:
        training["bf16"] = False  # small, and float32 as published: a count of k-mers has more digits than bf16
    if recipe.method in (None, "lora"):
        training["ddp_find_unused_parameters"] = False  # all that is trained is used: a baseline, or maps that learn
    training |= recipe.training
    options = {"deterministic": recipe.deterministic, "fit_batch": recipe.fit_batch}
    arguments, state = open_run(run_dir, training, recipe.seed, held, **options)
    refuse_finished(run_dir)
    rows = open_rows(recipe)
    check_metric(recipe, rows.train.task.kind)
    model, tokenizer, encoder, folder = make_model(recipe, rows)
    collator = make_collator(recipe, rows, encoder)
    for part in (rows.train, rows.valid, rows.test):
        check_lengths(encoder, part)
    about = about_labels(recipe, collator, folder) | {"bf16": bool(arguments.bf16)}
    began = time.perf_counter()
    if recipe.method == "probe":
        model.backbone.requires_grad_(False)
        describe(recipe, rows, model, arguments, 1)
        numbers = probe(recipe, rows, model, tokenizer, collator, about)
    else:
        numbers = train(recipe, arguments, state, rows, model, tokenizer, collator, about, stop)
    numbers["seconds"] = {"train": round(time.perf_counter() - began, 2)}
    return finish(recipe, state, rows, collator, about, numbers)


def refuse_finished(run_dir: Path) -> None:
    """Refuse a folder that holds a finished run: training anew would lose it."""
    if (run_dir / "metrics.json").is_file():
        raise SettingsError(
            f"{run_dir} holds a finished run; `genolm compare` shows it and `genolm predict` uses it. Set another "
            "run_dir, or remove it"
        )


def check_metric(recipe: FinetuneRecipe, kind: str) -> None:
    """Refuse a metric to stop by that the task does not have."""
    from genolm.evaluation.metrics import METRICS

    if recipe.stopping.metric not in (None, "loss", *METRICS[kind]):
        raise SettingsError(
            f"stopping.metric is {recipe.stopping.metric!r}; a {kind} task has {', '.join(METRICS[kind])} and loss"
        )


def describe(recipe: FinetuneRecipe, rows, model, arguments, num_ranks: int) -> None:
    """Print what is about to be learnt, before anything is spent."""
    from rich.console import Console

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
    if recipe.method != "probe":
        size = arguments.train_batch_size * arguments.gradient_accumulation_steps * num_ranks
        console.print(f"steps      {arguments.max_steps:,} of {size:,} rows; {num_ranks} on {arguments.device.type}")


def parameters(model) -> tuple[int, int]:
    """Return how many parameters a model has, and how many of them are trained."""
    total = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
    return total, sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters() if p.requires_grad)


def train(
    recipe: FinetuneRecipe, arguments, state, rows, model, tokenizer, collator, about: dict[str, Any], stop
) -> dict[str, Any]:
    """Train, keep in `model` what is best on the valid rows, and return what is known of it."""
    from genolm.data.batches import for_rows
    from genolm.evaluation.metrics import PRIMARY
    from genolm.training import run as running
    from genolm.training.arguments import set_length
    from genolm.training.best import Best
    from genolm.training.checkpoint import write_checkpoint
    from genolm.training.log import RunLog, rows_and_speed, samples_per_step
    from genolm.training.predictions import predict_rows
    from genolm.training.resume import on_all_ranks

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
            write_checkpoint(run_dir / "model", trainer.whole_model(), tokenizer, about, weights)
        trainer.accelerator.wait_for_everyone()

    metric = recipe.stopping.metric or PRIMARY[kind]
    predict = partial(predict_rows, collator=for_rows(collator, rows.valid), **options)
    best = Best(predict, rows.valid, metric, recipe.stopping.patience, write, run_dir / "log.jsonl")
    held_out = best if len(rows.valid) else None
    log = RunLog(run_dir / "log.jsonl", rows_and_speed(per_step), held_out, every, len(rows.train))
    trainer = make_trainer(recipe, arguments, rows, model, tokenizer, collator, about, stop, [log, best])
    found, manifest = on_all_ranks(lambda: running.find_checkpoint(trainer, recipe.resume), main=state.is_main_process)
    total, trained = parameters(model)
    if state.is_main_process:
        write_provenance(run_dir, to_dict(recipe), {"inputs": inputs_of(recipe)}, recipe.seed)
        describe(recipe, rows, model, arguments, arguments.world_size)
    state.wait_for_everyone()
    peak = running.train(trainer, found, manifest, recipe.fit_batch)
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


def make_trainer(
    recipe: FinetuneRecipe, arguments, rows, model, tokenizer, collator, about: dict[str, Any], stop, callbacks: list
):
    """Return the trainer, ready to run."""
    from transformers import PrinterCallback

    from genolm.models.loss import label_loss
    from genolm.training.arguments import resolved
    from genolm.training.log import samples_per_step
    from genolm.training.profiles import asked
    from genolm.training.trainer import SampleNumbers, Saving, WeightedTrainer

    run_dir, gamma = Path(recipe.run_dir), recipe.focal_gamma if recipe.imbalance == "focal" else 0.0
    saving = Saving(
        root=run_dir / "checkpoints",
        tokenizer=tokenizer,
        about=lambda model: about,
        manifest={
            "recipe": to_dict(recipe),
            "flat_recipe": flat(to_dict(recipe) | {"training": resolved(arguments)}),
            "recipe_hash": recipe_hash(recipe),
            "fingerprints": fingerprints(rows, about),
            "versions": versions(),
        },
        log=run_dir / "log.jsonl",
    )
    trainer = WeightedTrainer(
        model=model,
        args=arguments,
        train_dataset=SampleNumbers(arguments.max_steps * samples_per_step(arguments)),
        data_collator=collator,
        loss=partial(label_loss, rows.train.task.kind, focal_gamma=gamma),
        saving=saving,
        stop=stop,
        asked=asked(),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    # Ours go first, so that trackers are given what they add.
    others = [callback for callback in trainer.callback_handler.callbacks if callback not in callbacks]
    trainer.callback_handler.callbacks = [*callbacks, *others]
    return trainer


def probe(recipe: FinetuneRecipe, rows, model, tokenizer, collator, about: dict[str, Any]) -> dict[str, Any]:
    """Fit a linear head on frozen vectors, and return what is known of it."""
    import os

    import numpy as np
    import torch

    from genolm.data.batches import for_rows
    from genolm.evaluation.metrics import LOWER_IS_BETTER, PRIMARY
    from genolm.labelled_parts import PER_BASE
    from genolm.training.best import measure, thresholds
    from genolm.training.checkpoint import write_checkpoint
    from genolm.training.memory import peak_bytes
    from genolm.training.predictions import in_units
    from genolm.training.probe import embed, fit_head, set_head

    run_dir, kind = Path(recipe.run_dir), rows.train.task.kind
    if recipe.imbalance == "focal":
        raise SettingsError("imbalance is focal, which a probe's regression does not have; use weights")
    if kind in PER_BASE or recipe.pooling == "attention" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError(
            "method is probe, which fits one vector a sequence, pooled by mean or cls, in one process; for answers at "
            "every base, attention pooling or several ranks take lora or full"
        )
    write_provenance(run_dir, to_dict(recipe), {"inputs": inputs_of(recipe)}, recipe.seed)
    device = torch.accelerator.current_accelerator()
    model.to(device or "cpu")
    options = {"batch_size": 64, "both_strands": recipe.both_strands, "autocast": about["bf16"], "progress": True}
    key = about["base"]["sha256"]
    vectors = [
        embed(model, for_rows(collator, part), run_dir / "embeddings", key, **options)
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


def finish(
    recipe: FinetuneRecipe, state, rows, collator, about: dict[str, Any], numbers: dict[str, Any]
) -> dict[str, Any]:
    """Open the model that was kept, predict, measure, and write everything down."""
    import numpy as np
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from genolm.data.batches import for_rows
    from genolm.evaluation.figures import learning_curve
    from genolm.evaluation.metrics import with_intervals
    from genolm.evaluation.predictions import write_predictions
    from genolm.evaluation.tables import print_labelled
    from genolm.labelled_parts import open_labelled
    from genolm.training.best import measure, thresholds
    from genolm.training.predictions import predict_rows

    run_dir = Path(recipe.run_dir)
    unset_hf_deepspeed_config()  # ZeRO-3 would spread what is opened; to predict, each rank holds it whole
    model, read, _ = open_labelled(run_dir / "model")
    model.to(torch.accelerator.current_accelerator() or "cpu")
    options = {"both_strands": recipe.both_strands, "autocast": about["bf16"]}
    options |= {"rank": state.process_index, "num_ranks": state.num_processes}
    began, predicted = time.perf_counter(), {}
    for name, part in (("valid", rows.valid), ("test", rows.test)):
        if len(part) and (name == "valid" or recipe.predict_test):
            predicted[name] = predict_rows(model, for_rows(read, part), progress=state.is_main_process, **options)
    seconds = round(time.perf_counter() - began, 2)
    if not state.is_main_process:
        return {}
    kind, task = rows.train.task.kind, rows.train.task
    threshold = thresholds(rows.valid, predicted["valid"]) if "valid" in predicted else None
    parts = {"valid": rows.valid, "test": rows.test}
    metrics = {
        "name": recipe.name or recipe.method or recipe.model["baseline"],
        "task_name": recipe.task_name,
        "task": about["task"],
        "method": recipe.method or "baseline",
        "model": recipe.model["baseline"] if isinstance(recipe.model, dict) else recipe.model,
        "seed": recipe.seed,
        "data_fraction": recipe.labels.data_fraction,
        **numbers,
        "seconds": numbers["seconds"] | {"predict": seconds},
        "rows": {"train": len(rows.train), "valid": len(rows.valid), "test": len(rows.test)},
        "threshold": threshold,
        "leakage": rows.leakage.to_dict(),
        "genolm_version": genolm.__version__,
    }
    for name, values in predicted.items():
        stacked: Any = values if kind in ("per-base", "tracks") else np.stack(values)
        names = task.names if kind in ("regression", "tracks") else None
        if name == "test":
            metrics[name] = with_intervals(kind, parts[name].labels, stacked, threshold, names)
        else:
            metrics[name] = measure(parts[name], values, threshold)
    write_predictions(
        run_dir / "predictions.parquet", [(name, parts[name], values) for name, values in predicted.items()]
    )
    if recipe.merge and recipe.method == "lora":
        write_merged(run_dir, model, about)
    log = run_dir / "log.jsonl"
    if log.is_file():
        learning_curve([json.loads(line) for line in log.read_text().splitlines()], run_dir / "curves.png")
    write_text(run_dir / "metrics.json", json.dumps(finite(metrics), indent=1))  # the last: with it a run is finished
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)  # the run is done: nothing goes on from them
    print_labelled(metrics)
    print(f"model: {run_dir / 'model'}   predictions: {run_dir / 'predictions.parquet'}")
    return metrics


def write_merged(run_dir: Path, model, about: dict[str, Any]) -> None:
    """Write the model with its adapter merged into the weights, to `merged`."""
    from genolm.tokenizers.build import load_tokenizer
    from genolm.training.checkpoint import write_checkpoint

    whole = model.merge_and_unload()
    write_checkpoint(run_dir / "merged", whole, load_tokenizer(run_dir / "model"), about | {"merged": True})


def finite(value: Any) -> Any:
    """Return plain data for JSON, which has no NaN: null in its place."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


def inputs_of(recipe: FinetuneRecipe) -> list[dict[str, Any]]:
    """Return the files that a recipe names, each with its sha256."""
    from genolm.labelled_parts import file_sha256
    from genolm.recipe_check import files_of

    block = recipe.labels
    named = files_of(block.table) + (files_of(block.fasta) if block.fasta else [])
    return [{"path": name, "sha256": file_sha256(Path(name))} for name in named if Path(name).is_file()]


def fingerprints(rows, about: dict[str, Any]) -> dict[str, str]:
    """Return sha256 of what is learnt from: train and valid rows with their labels, and the pretrained weights."""
    import hashlib

    found = {}
    for name, part in (("train rows", rows.train), ("valid rows", rows.valid)):
        digest = hashlib.sha256()
        for identity, sequence, label in zip(part.ids, part.sequences, part.labels, strict=True):
            digest.update(f"{identity}\t{sequence}\t".encode() + label.tobytes())
        found[name] = digest.hexdigest()
    return found | ({"model": about["base"]["sha256"]} if about["base"] else {})
