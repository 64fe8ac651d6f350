"""Runs of the Python API: recipes that are run, as the commands do, and compared."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genolm.api.models import FinetunedModel, PretrainedModel
from genolm.benchmarking.suite import merge_blocks
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
    settings = _settings(PretrainRecipe, recipe, changes, data__fasta=fasta, run_dir=run_dir)
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
    model = model.name if isinstance(model, PretrainedModel) else model
    given = {"model": model, "labels__table": table, "run_dir": run_dir}
    settings = _settings(FinetuneRecipe, recipe, changes, **given)
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

    settings = _settings(PretrainRecipe, recipe, changes, data__fasta=fasta, run_dir=run_dir)
    store, regions = open_genomes(settings, quiet=True)
    corpus, collator = make_corpus(settings, store, regions["train"], open_tokenizer(settings, store, regions))
    if corpus.windows_per_epoch is None:
        raise ValueError("windows of a streamed dataset are not numbered beforehand; give fasta")
    return TrainingWindows(collator, math.ceil(corpus.windows_per_epoch))


def _settings(kind: Any, recipe: str | Path, changes: Mapping[str, Any], **given: Any) -> Any:
    """Return a recipe with changes: nested blocks are merged with its own, values of `block__key` replaced."""
    values, lines = read_values(recipe)
    whole = ("model", "labels.table") if kind is FinetuneRecipe else ("data.fasta", "data.sha256")
    values = merge_blocks(values, _plain(changes), whole)
    for name, value in given.items():
        if value is not None:
            set_key(values, name.replace("__", "."), _plain(value), f"argument {name}")
    return build_settings(kind, values, lines, str(recipe))


def _plain(value: Any) -> Any:
    """Return blocks with paths as text, as a YAML file has them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
