"""What can be known to be wrong with a fine-tuning recipe before anything is read, so that many are checked at once."""

from pathlib import Path
from typing import Any

import torch

from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import SettingsError
from genolm.labels.table import HUB_NAME, SUFFIXES, suffix
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import METRICS
from genolm.models.baselines import build_baseline
from genolm.models.label_folder import may_be_hub_name, model_folder
from genolm.training.arguments import training_arguments


def check_finetune_recipe(recipe: FinetuneRecipe) -> None:
    """Refuse a recipe that cannot work; what the Hub may have is not looked up.

    Raises:
        ValueError: a wrong training block, adapter, baseline or metric; or a file that is not there.
    """
    training_arguments(recipe.training | {"use_cpu": True}, Path(recipe.run_dir), recipe.seed)
    kinds = [recipe.labels.task] if recipe.labels.task else list(METRICS)
    metrics = dict.fromkeys(metric for kind in kinds for metric in METRICS[kind])
    if recipe.stopping.metric not in (None, "loss", *metrics):
        raise SettingsError(f"stopping.metric is {recipe.stopping.metric!r}; allowed: {', '.join(metrics)}, loss")
    if isinstance(recipe.model, dict):
        options = {key: value for key, value in recipe.model.items() if key != "baseline"}
        per_base = recipe.labels.task in PER_BASE
        try:
            with torch.device("meta"):  # shapes without weights; the length is not known yet
                build_baseline(
                    recipe.model["baseline"], 1000, 1, per_base=per_base, base_token_ids=[0, 1, 2, 3], **options
                )
        except Exception as error:  # huggingface_hub has its own for a wrong type, of several lines
            raise SettingsError(f"model: {' '.join(str(error).split())}") from error
    elif not may_be_hub_name(str(recipe.model)):
        model_folder(str(recipe.model))
    if recipe.method == "lora":
        try:
            from genolm.models.lora import check_fields
        except ImportError as error:
            raise SettingsError(f"method is lora, which needs peft ({error}): pip install 'genolm[peft]'") from error
        check_fields(recipe.lora)
    table, fasta = recipe.labels.table, recipe.labels.fasta
    hub = isinstance(table, str) and HUB_NAME.fullmatch(table) and suffix(table) not in SUFFIXES
    for path in ([] if hub else named_files(table)) + (named_files(fasta) if fasta else []):
        if not Path(path).is_file():
            raise SettingsError(f"labels: {path}: no such file")


def named_files(value: Any) -> list[str]:
    """Return the names in lists and blocks of names, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    return [name for inner in value for name in named_files(inner)] if isinstance(value, list) else [str(value)]
