"""Check a fine-tuning recipe before anything is read, so that many are checked at once."""

from pathlib import Path
from typing import Any

import torch

from genolm.config.finetune import FinetuneRecipe, LabelsRecipe
from genolm.config.yaml import SettingsError
from genolm.labels.table import HUB_NAME, SUFFIXES, suffix
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import METRICS
from genolm.models.baselines import build_baseline
from genolm.models.label_folder import may_be_hub_name, model_folder
from genolm.training.arguments import training_arguments


def check_finetune_recipe(recipe: FinetuneRecipe) -> None:
    """Refuse a recipe that cannot work; models and tables that may be on the Hub are not looked up.

    Raises:
        ValueError: a wrong training block, adapter, baseline or metric; or a file that does not exist.
    """
    training_arguments(recipe.training | {"use_cpu": True}, Path(recipe.run_dir), recipe.seed)
    check_metric("stopping.metric", recipe.stopping.metric, recipe.labels.task)
    if isinstance(recipe.model, dict):
        _check_baseline(recipe.model, recipe.labels.task in PER_BASE)
    elif not may_be_hub_name(str(recipe.model)):
        model_folder(str(recipe.model))
    if recipe.method == "lora":
        try:
            from genolm.models.lora import check_fields
        except ImportError as error:
            raise SettingsError(f"method is lora, which needs peft ({error}): pip install peft") from error
        check_fields(recipe.lora)
    for path in named_files(recipe.labels):
        if not Path(path).is_file():
            raise SettingsError(f"labels: {path}: no such file")


def check_metric(key: str, metric: str | None, kind: str | None) -> None:
    """Refuse a metric that a kind of task, or any kind where none is given, does not have.

    Args:
        key: of the recipe or option that gives the metric, for the message.
        metric: its name, or None, which is allowed.
        kind: of the task.

    Raises:
        SettingsError: naming the metrics that there are.
    """
    names = list(dict.fromkeys(name for each in ([kind] if kind else METRICS) for name in METRICS[each]))
    if metric not in (None, "loss", *names):
        task = f"a {kind} task has" if kind else "tasks have"
        raise SettingsError(f"{key} is {metric!r}; {task} {', '.join(names)} and loss")


def _check_baseline(model: dict[str, Any], per_base: bool) -> None:
    options = {key: value for key, value in model.items() if key != "baseline"}
    try:
        with torch.device("meta"):  # shapes without weights; the length is only known from the table
            build_baseline(model["baseline"], 1000, 1, per_base=per_base, base_token_ids=[0, 1, 2, 3], **options)
    except Exception as error:  # huggingface_hub has its own for a wrong type, of several lines
        raise SettingsError(f"model: {' '.join(str(error).split())}") from error


def named_files(labels: LabelsRecipe) -> list[str]:
    """Return the table and FASTA files that a recipe names; a table that is a name on the Hub is none."""
    table = labels.table
    hub = isinstance(table, str) and HUB_NAME.fullmatch(table) and suffix(table) not in SUFFIXES
    return ([] if hub and not Path(table).exists() else _leaves(table)) + (
        _leaves(labels.fasta) if labels.fasta else []
    )


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    return [name for inner in value for name in _leaves(inner)] if isinstance(value, list) else [str(value)]
