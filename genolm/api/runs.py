"""Runs of the Python API: recipes that are run, as the commands do, and compared."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genolm.api.models import FinetunedModel, PretrainedModel
from genolm.config.finetune import FinetuneRecipe
from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import build_settings, read_values, set_key
from genolm.finetuning import run_finetuning
from genolm.pretraining import run_pretraining

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerFast

    from genolm.data.collate import TrainingWindows


def tokenizer(name: str, sequences: Sequence[str] | None = None) -> "PreTrainedTokenizerFast":
    """Build a tokenizer: one that comes with genolm (`char`, `kmer6`, `bpe4096`, …), a YAML file or a saved folder.

    Args:
        name: name, file or folder.
        sequences: what BPE learns from.
    """
    from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer

    if (Path(name) / "tokenizer.json").is_file():
        return load_tokenizer(Path(name))
    return build_tokenizer(load_spec(name), sequences)  # type: ignore[arg-type]


def pretrain(
    recipe: str | Path, *, fasta: Any = None, run_dir: str | Path | None = None, **changes: Any
) -> PretrainedModel:
    """Pretrain a DNA language model, as `genolm pretrain` does; the same call again resumes.

    Args:
        recipe: a name from `genolm recipes`, or a YAML file.
        fasta: `data.fasta`: a file or URL, a list, or genome name → files.
        run_dir: folder of the run.
        changes: blocks or keys of the recipe: `training={"max_steps": 100}`, `tokenizer="kmer6"`.

    Returns:
        The trained model; its `metrics` are those of the run.

    Raises:
        SettingsError: a key or a value that the recipe does not have.
    """
    if fasta is not None:
        changes = {**changes, "data": {**changes.get("data", {}), "fasta": fasta}}
    settings = _settings(PretrainRecipe, recipe, run_dir, changes)
    run_pretraining(settings)
    return PretrainedModel(settings.run_dir)


def finetune(
    recipe: str | Path, *, model: Any = None, table: Any = None, run_dir: str | Path | None = None, **changes: Any
) -> FinetunedModel:
    """Fine-tune a language model on labelled sequences, or train a baseline, as `genolm finetune` does.

    Args:
        recipe: a name from `genolm recipes`, or a YAML file.
        model: a run of `genolm pretrain`, a model folder or a name on the Hub; or a block, `{"baseline": "danq"}`.
        table: `labels.table`: a file with the columns `sequence` and `label`, or split → file.
        run_dir: folder of the run.
        changes: blocks or keys of the recipe.

    Returns:
        The trained model; its `metrics` are those of the run.
    """
    if table is not None:
        changes = {**changes, "labels": {**changes.get("labels", {}), "table": table}}
    if model is not None:
        model = model.name if isinstance(model, PretrainedModel) else model
        changes["model"] = str(model) if isinstance(model, Path) else model
    settings = _settings(FinetuneRecipe, recipe, run_dir, changes)
    run_finetuning(settings)
    return FinetunedModel(settings.run_dir)


def compare(
    runs: Sequence[str | Path | FinetunedModel], out: str | Path | None = None, *, split: str = "test", **options: Any
) -> "pd.DataFrame":
    """Compare runs of `finetune` on the same rows, as `genolm compare` does.

    Args:
        runs: run folders, or their models.
        out: folder of the page `index.html` and `metrics.json`; None writes none.
        split: rows to compare on.
        options: `against`, `metric`, `num_replicates`, `seed`.

    Returns:
        A row for each task and run: the primary metric, its 95 % interval, and the difference to the run it is
        compared with.
    """
    import pandas as pd

    from genolm.metrics.comparison import compare_runs
    from genolm.metrics.runs import read_run
    from genolm.reports.comparison_report import write_comparison

    folders = [run.name if isinstance(run, FinetunedModel) else str(run) for run in runs]
    if out is not None:
        compared = write_comparison(folders, Path(out), split, **options)
    else:
        compared = compare_runs([read_run(folder, split) for folder in dict.fromkeys(folders)], split=split, **options)
    rows = []
    for task in compared["tasks"]:
        metric = task["metric"]
        for run in task["runs"]:
            value, difference = run["metrics"][metric], (run["difference"] or {}).get(metric, {})
            rows.append(
                {"task": task["task_name"], "run": run["name"], "seeds": len(run["seeds"]), "metric": metric}
                | {key: value.get(key) for key in ("value", "low", "high")}
                | {f"difference_{key}": difference.get(key) for key in ("value", "low", "high")}
            )
    return pd.DataFrame(rows)


def windows(
    recipe: str | Path, *, fasta: Any = None, run_dir: str | Path | None = None, **changes: Any
) -> "TrainingWindows":
    """Return the training windows of a recipe as a dataset for torch's DataLoader, for a training loop of one's own.

    Arguments as `pretrain`; the genomes and the tokenizer are prepared in `run_dir`.

    Returns:
        Items are dicts of `input_ids`, `labels` and `loss_weight`, each (L,); as many as windows of an epoch.
    """
    from genolm.data.collate import TrainingWindows
    from genolm.pretraining.build import make_corpus, open_genomes, open_tokenizer

    if fasta is not None:
        changes = {**changes, "data": {**changes.get("data", {}), "fasta": fasta}}
    settings = _settings(PretrainRecipe, recipe, run_dir, changes)
    store, regions = open_genomes(settings, quiet=True)
    corpus, collator = make_corpus(settings, store, regions["train"], open_tokenizer(settings, store, regions))
    if corpus.windows_per_epoch is None:
        raise ValueError("windows of a streamed dataset are not numbered beforehand; give fasta")
    return TrainingWindows(collator, math.ceil(corpus.windows_per_epoch))


def _settings(kind: Any, recipe: str | Path, run_dir: str | Path | None, changes: Mapping[str, Any]) -> Any:
    """Return a recipe with changes, given as nested blocks."""
    values, lines = read_values(recipe)
    if run_dir is not None:
        changes = {**changes, "run_dir": str(run_dir)}

    def change(block: Mapping[str, Any], prefix: str) -> None:
        for key, value in block.items():
            inner = values
            for word in prefix.split(".")[:-1]:
                inner = inner.get(word) if isinstance(inner, dict) else None
            if isinstance(value, Mapping) and (not prefix or inner is not None) and key != "table":
                change(value, f"{prefix}{key}.")
            else:
                plain = str(value) if isinstance(value, Path) else value
                set_key(values, prefix + key, plain, f"argument {prefix}{key}")

    change(changes, "")
    return build_settings(kind, values, lines, str(recipe))
