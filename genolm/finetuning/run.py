"""Fine-tune a model on labelled rows: the story of one run.

table → splits → leakage → model → Trainer, or a probe → best model → predictions → metrics, learning curve

One path for all methods: the same rows, the same splits, the same metrics, the same files.
"""

import json
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import genolm
from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import SettingsError
from genolm.finetuning.best import choose_thresholds, evaluate_predictions
from genolm.finetuning.build import SplitRows, build_setup, check_metric, read_split_rows
from genolm.finetuning.train import train_label_model
from genolm.inference.predict import predict_rows
from genolm.labels.collate import for_rows
from genolm.metrics.runs import write_metrics, write_predictions
from genolm.models.label_folder import open_labelled
from genolm.models.precision import available_device
from genolm.reports.figures import learning_curve
from genolm.reports.tables import print_labelled
from genolm.tokenizers.build import load_tokenizer
from genolm.training.arguments import uses_cpu
from genolm.training.checkpoint import write_checkpoint
from genolm.training.run_folder import open_run
from genolm.training.signals import StopRequest

LEARNING_RATE = {"lora": 3e-4, "full": 5e-5, "scratch": 5e-4, "baseline": 1e-3}
"""Used where the recipe gives none."""


def finetune_once(recipe: FinetuneRecipe, stop: StopRequest, exit_stack: ExitStack) -> dict[str, Any]:
    """Run a recipe to the end and return its metrics, as in `metrics.json`.

    Args:
        recipe: what to train, and on which rows.
        stop: a request to stop after a checkpoint.
        exit_stack: keeps the run folder locked as long as it is open.
    """
    options = {"deterministic": recipe.deterministic, "fit_batch": recipe.fit_batch}
    run_dir = Path(recipe.run_dir)
    arguments, state = open_run(
        run_dir, training_defaults(recipe) | recipe.training, recipe.seed, exit_stack, **options
    )
    if (run_dir / "metrics.json").is_file():  # training anew would lose the run
        raise SettingsError(
            f"{run_dir} holds a finished run; `genolm compare` shows it and `genolm predict` uses it. Set another "
            "run_dir, or remove it"
        )
    rows = read_split_rows(recipe)
    check_metric("stopping.metric", recipe.stopping.metric, rows.train.task.kind)
    setup = build_setup(recipe, rows, bool(arguments.bf16))
    began = time.perf_counter()
    if recipe.method == "probe":
        from genolm.finetuning.probe import train_probe

        trained = train_probe(recipe, arguments, setup)
    else:
        trained = train_label_model(recipe, arguments, state, setup, stop)
    trained["seconds"] = {"train": round(time.perf_counter() - began, 2)}
    predictions, seconds = predict_splits(recipe, state, rows, setup.metadata)
    if not state.is_main_process:
        return {}
    trained["seconds"]["predict"] = seconds
    return write_results(recipe, rows, predictions, trained, setup.metadata)


def training_defaults(recipe: FinetuneRecipe) -> dict[str, Any]:
    """Return the fields of the training block that depend on the method."""
    training: dict[str, Any] = {"learning_rate": LEARNING_RATE.get(recipe.method or "baseline", 1e-3)}
    if recipe.method is None:
        training["bf16"] = False  # small, and float32 as published: a count of k-mers has more digits than bf16
    if recipe.method in (None, "lora"):
        training["ddp_find_unused_parameters"] = False  # every parameter that is trained is used
    return training


def predict_splits(
    recipe: FinetuneRecipe, state: PartialState, rows: SplitRows, metadata: dict[str, Any]
) -> tuple[dict[str, list], float]:
    """Open the model that was kept, predict valid and test rows, and write them to `predictions.parquet`.

    Returns:
        Split → prediction of each row; the seconds it took.
    """
    run_dir = Path(recipe.run_dir)
    unset_hf_deepspeed_config()  # ZeRO-3 would shard what is opened; to predict, each rank holds the whole model
    model, collator, _ = open_labelled(run_dir / "model")
    model.to(available_device(uses_cpu(recipe.training)))
    options: dict[str, Any] = {"both_strands": recipe.both_strands, "autocast": metadata["bf16"]}
    options |= {"rank": state.process_index, "num_ranks": state.num_processes, "progress": state.is_main_process}
    splits = ["valid", "test"] if recipe.predict_test else ["valid"]
    began = time.perf_counter()
    predictions = {
        split: predict_rows(model, for_rows(collator, rows.parts[split]), **options)
        for split in splits
        if len(rows.parts[split])
    }
    seconds = round(time.perf_counter() - began, 2)
    if state.is_main_process:
        parts = [(split, rows.parts[split], values) for split, values in predictions.items()]
        write_predictions(run_dir / "predictions.parquet", parts)
        if recipe.merge and recipe.method == "lora":
            tokenizer = load_tokenizer(run_dir / "model")
            write_checkpoint(run_dir / "merged", model.merge_and_unload(), tokenizer, metadata | {"merged": True})
    return predictions, seconds


def write_results(
    recipe: FinetuneRecipe,
    rows: SplitRows,
    predictions: dict[str, list],
    trained: dict[str, Any],
    metadata: dict[str, Any],
) -> dict[str, Any]:
    """Compute the metrics, and write and print them; `metrics.json` comes last, as it marks the run as finished."""
    run_dir = Path(recipe.run_dir)
    baseline = recipe.model["baseline"] if isinstance(recipe.model, dict) else None
    threshold = choose_thresholds(rows.valid, predictions["valid"]) if "valid" in predictions else None
    metrics = {
        "name": recipe.name or recipe.method or baseline,
        "task_name": recipe.task_name,
        "task": metadata["task"],
        "method": recipe.method or "baseline",
        "model": baseline or recipe.model,
        "seed": recipe.seed,
        "data_fraction": recipe.labels.data_fraction,
        **trained,
        "rows": {split: len(part) for split, part in rows.parts.items()},
        "threshold": threshold,
        "leakage": rows.leakage.to_dict(),
        "genolm_version": genolm.__version__,
    }
    for split, values in predictions.items():
        metrics[split] = evaluate_predictions(rows.parts[split], values, threshold, intervals=split == "test")
    log = run_dir / "log.jsonl"
    if log.is_file():
        learning_curve([json.loads(line) for line in log.read_text().splitlines()], run_dir / "curves.png")
    write_metrics(run_dir / "metrics.json", metrics)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)  # a finished run is not resumed
    print_labelled(metrics)
    print(f"model: {run_dir / 'model'}   predictions: {run_dir / 'predictions.parquet'}")
    return metrics
