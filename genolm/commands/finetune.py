"""`genolm finetune`: from labelled DNA to a model of it, a language model's or a baseline's, and its predictions.

    table → splits → leakage → model → Trainer, or a probe → best model → predictions, metrics, curve

One path for all methods: the same rows, the same splits, the same measures, the same files.
"""

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

import genolm
from genolm.config.files import write_text
from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import SettingsError, load_settings
from genolm.training.signals import StopRequest, exit_codes, retry_with_smaller_batch

LEARNING_RATE = {"lora": 3e-4, "full": 5e-5, "scratch": 5e-4, "baseline": 1e-3}
"""Where the recipe gives none."""


@exit_codes
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
        from genolm.training.launch import launch as start_ranks

        load_settings(FinetuneRecipe, recipe, overrides or [])
        raise SystemExit(start_ranks(launch, ["finetune", recipe, *(overrides or [])]))
    run(load_settings(FinetuneRecipe, recipe, overrides or []))


@retry_with_smaller_batch
def run(stop: StopRequest, exit_stack: ExitStack, recipe: FinetuneRecipe) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`."""
    from genolm.finetuning.build import (
        build_collator,
        build_label_model,
        check_lengths,
        label_metadata,
        read_split_rows,
    )
    from genolm.finetuning.train import train_label_model, train_probe
    from genolm.training.run_folder import open_run

    run_dir = Path(recipe.run_dir)
    training = {"learning_rate": LEARNING_RATE.get(recipe.method or "baseline", 1e-3)}
    if recipe.method is None:
        training["bf16"] = False  # small, and float32 as published: a count of k-mers has more digits than bf16
    if recipe.method in (None, "lora"):
        training["ddp_find_unused_parameters"] = False  # all that is trained is used: a baseline, or maps that learn
    training |= recipe.training
    options = {"deterministic": recipe.deterministic, "fit_batch": recipe.fit_batch}
    arguments, state = open_run(run_dir, training, recipe.seed, exit_stack, **options)
    refuse_finished(run_dir)
    rows = read_split_rows(recipe)
    check_metric(recipe, rows.train.task.kind)
    model, tokenizer, encoder, folder = build_label_model(recipe, rows)
    collator = build_collator(recipe, rows, encoder)
    for part in (rows.train, rows.valid, rows.test):
        check_lengths(encoder, part)
    about = label_metadata(recipe, collator, folder) | {"bf16": bool(arguments.bf16)}
    began = time.perf_counter()
    if recipe.method == "probe":
        numbers = train_probe(recipe, arguments, rows, model, tokenizer, collator, about)
    else:
        numbers = train_label_model(recipe, arguments, state, rows, model, tokenizer, collator, about, stop)
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
    from genolm.metrics.prediction_metrics import METRICS

    if recipe.stopping.metric not in (None, "loss", *METRICS[kind]):
        raise SettingsError(
            f"stopping.metric is {recipe.stopping.metric!r}; a {kind} task has {', '.join(METRICS[kind])} and loss"
        )


def finish(
    recipe: FinetuneRecipe, state, rows, collator, about: dict[str, Any], numbers: dict[str, Any]
) -> dict[str, Any]:
    """Open the model that was kept, predict, measure, and write everything down."""
    import numpy as np
    import torch
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from genolm.finetuning.best import measure, thresholds
    from genolm.inference.predict import predict_rows
    from genolm.labels.collate import for_rows
    from genolm.labels.task import PER_BASE
    from genolm.metrics.comparison import without_nan
    from genolm.metrics.prediction_metrics import bootstrap_metrics
    from genolm.metrics.predictions import write_predictions
    from genolm.models.label_folder import open_labelled
    from genolm.reports.figures import learning_curve
    from genolm.reports.tables import print_labelled

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
        stacked: Any = values if kind in PER_BASE else np.stack(values)
        names = task.names if kind in ("regression", "tracks") else None
        if name == "test":
            metrics[name] = bootstrap_metrics(kind, parts[name].labels, stacked, threshold, names).intervals()
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
    # Written last: a run that has it is finished.
    write_text(run_dir / "metrics.json", json.dumps(without_nan(metrics), indent=1))
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
