"""What can be known to be wrong with a fine-tuning recipe before anything is read: many are checked before one starts."""

from pathlib import Path
from typing import Any

from genolm.data.tables import HUB_NAME, SUFFIXES, suffix
from genolm.evaluation.metrics import METRICS
from genolm.labelled_parts import may_be_hub_name, model_folder
from genolm.models.baseline_configuration import BaselineConfig
from genolm.models.baselines import baseline_class, complete_options
from genolm.recipe import FinetuneRecipe
from genolm.settings import SettingsError
from genolm.training.arguments import training_arguments


def check_recipe(recipe: FinetuneRecipe) -> None:
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
        options = {key: value for key, value in recipe.model.items() if key not in ("baseline", "width")}
        name = recipe.model["baseline"]
        complete_options(baseline_class(name), name, options)
        try:
            BaselineConfig(baseline=name, width=recipe.model.get("width", 1.0))
        except Exception as error:  # huggingface_hub has its own for a wrong type
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
    for path in ([] if hub else files_of(table)) + (files_of(fasta) if fasta else []):
        if not Path(path).is_file():
            raise SettingsError(f"labels: {path}: no such file")


def files_of(value: Any) -> list[str]:
    """Return the names in lists and blocks of names, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    return [name for inner in value for name in files_of(inner)] if isinstance(value, list) else [str(value)]
