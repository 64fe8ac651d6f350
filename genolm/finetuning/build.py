"""Check a fine-tuning recipe, and build what it names: split rows, leakage, model, tokenizer, collator."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from rich.console import Console
from transformers import AutoConfig, TrainingArguments

from genolm.config.files import file_sha256
from genolm.config.finetune import FinetuneRecipe, LabelsRecipe, keys_without_effect
from genolm.config.provenance import write_provenance
from genolm.config.recipe import to_dict
from genolm.config.yaml import SettingsError
from genolm.labels.collate import LabelCollator, RowEncoder, check_lengths, class_weights
from genolm.labels.dataset import Labelled, Task, read_labels
from genolm.labels.leakage import Leakage, find_leakage
from genolm.labels.split import split_rows, take_fraction
from genolm.labels.table import is_hub_name
from genolm.labels.task import PER_BASE
from genolm.metrics.prediction_metrics import METRICS
from genolm.models.baselines import build_baseline
from genolm.models.label_folder import may_be_hub_name, model_folder, weights_sha256
from genolm.models.label_model import fresh_backbone, on_backbone, open_backbone
from genolm.models.language_model import max_row_tokens
from genolm.models.safe_loading import check_config
from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer
from genolm.tokenizers.encode import make_encoder
from genolm.training.arguments import training_arguments


@dataclass(frozen=True)
class SplitRows:
    """The rows of a recipe, split.

    Attributes:
        train: rows to learn from.
        valid: rows that choose the model and its threshold.
        test: rows that are reported.
        leakage: rows that the splits share, before any were dropped.
        notes: for the user, one line each.
    """

    train: Labelled
    valid: Labelled
    test: Labelled
    leakage: Leakage
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, Labelled]:
        """Split → its rows."""
        return {"train": self.train, "valid": self.valid, "test": self.test}

    def fingerprints(self) -> dict[str, str]:
        """Return sha256 of the train and the valid rows with their labels."""
        digests = {}
        for name in ("train", "valid"):
            part, digest = self.parts[name], hashlib.sha256()
            for row_id, sequence, label in zip(part.ids, part.sequences, part.labels, strict=True):
                digest.update(f"{row_id}\t{sequence}\t".encode() + label.tobytes())
            digests[f"{name} rows"] = digest.hexdigest()
        return digests


@dataclass(frozen=True)
class FinetuningSetup:
    """Everything a fine-tuning run trains with.

    Attributes:
        rows: split rows.
        model: backbone with a head, or a baseline; no adapter yet.
        tokenizer: of the model.
        collator: sample numbers → batches of train rows.
        metadata: for `genolm.json` of the trained model.
    """

    rows: SplitRows
    model: Any
    tokenizer: Any
    collator: LabelCollator
    metadata: dict[str, Any]


def build_setup(recipe: FinetuneRecipe, rows: SplitRows, bf16: bool) -> FinetuningSetup:
    """Build model and collator, and check that every row fits the model."""
    model, tokenizer, encoder, folder = build_label_model(recipe, rows)
    collator = build_collator(recipe, rows, encoder)
    for part in rows.parts.values():
        check_lengths(encoder, part)
    metadata = label_metadata(recipe, collator, folder) | {"bf16": bf16}
    return FinetuningSetup(rows, model, tokenizer, collator, metadata)


def read_and_split(block: LabelsRecipe) -> tuple[Labelled, np.ndarray, tuple[str, ...]]:
    """Read a table and split it.

    Returns:
        The rows; (n,) str, train, valid or test; and notes for the user.
    """
    if not block.table or not isinstance(block.table, str | dict):
        raise SettingsError(f"labels.table is {block.table!r}; give a file, split → file, or a dataset of the Hub")
    labelled = read_labels(block.table, block.fasta, block.columns or None, block.task, block.classes)
    split, notes = split_rows(labelled, **vars(block.split))
    return labelled, split, (*labelled.notes, *notes)


def read_split_rows(recipe: FinetuneRecipe) -> SplitRows:
    """Read the table, split it, look for leakage, and take the fraction of the train rows to learn from.

    Raises:
        ValueError: a table that cannot be used; or rows that splits share, where the recipe says `leakage: error`.
    """
    block = recipe.labels
    labelled, split, notes = read_and_split(block)
    leakage = find_leakage(labelled, split)
    report = leakage.describe()
    if leakage and block.leakage == "error":
        raise ValueError(
            f"{'; '.join(report)}. labels.leakage is error; set drop to leave such rows of train and valid out, or warn"
        )
    notes += tuple(report)
    kept = np.ones(len(labelled), dtype=bool)
    if block.leakage == "drop":
        dropped = leakage.rows_to_drop()
        kept[dropped] = False
        notes += (f"leakage: {len(dropped):,} rows of train and valid are left out",)
    if block.data_fraction < 1:
        kept &= take_fraction(labelled, split, block.data_fraction, recipe.seed)
    train, valid, test = (labelled.select(kept & (split == name)) for name in ("train", "valid", "test"))
    if not len(train):
        raise ValueError("no row is left to learn from, after leakage and data_fraction")
    if labelled.task.kind in ("binary", "multiclass") and len(set(train.labels.tolist())) < 2:
        raise ValueError("the train rows that are left, after leakage, are of one class; see labels.leakage")
    return SplitRows(train, valid, test, leakage, notes)


def num_outputs(task: Task) -> int:
    """Return the number of outputs of a task's head."""
    return 1 if task.kind == "binary" else len(task.names)


def build_label_model(recipe: FinetuneRecipe, rows: SplitRows) -> tuple[Any, Any, RowEncoder, Path | None]:
    """Return model, tokenizer, row encoder and the folder of the pretrained model; the same for the same seed."""
    set_seed(recipe.seed)
    if isinstance(recipe.model, dict):
        return _baseline(recipe, rows)
    task, per_base = rows.train.task, rows.train.task.kind in PER_BASE
    folder = model_folder(recipe.model)
    tokenizer = load_tokenizer(folder)
    encoder = make_encoder(tokenizer)
    if recipe.method == "scratch":
        check_config(folder / "config.json")
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        backbone = fresh_backbone(config.to_dict())
    else:
        backbone = open_backbone(folder)
    if recipe.pooling == "cls" and not encoder.prefix_ids:
        raise SettingsError(f"pooling is cls, and the tokenizer of {folder} puts no token before a sequence; use mean")
    settings = {"pooling": recipe.pooling, "per_base": per_base, "dropout": recipe.dropout or 0.0}
    model = on_backbone(backbone, num_outputs(task), **settings)
    cut = recipe.long_inputs == "windows"
    if cut and per_base:
        raise SettingsError(
            "long_inputs is windows, which averages; predictions at every base need rows that fit the model"
        )
    return model, tokenizer, RowEncoder(encoder, max_row_tokens(backbone.config), cut, per_base), folder


def _baseline(recipe: FinetuneRecipe, rows: SplitRows) -> tuple[Any, Any, RowEncoder, None]:
    task, per_base = rows.train.task, rows.train.task.kind in PER_BASE
    tokenizer = build_tokenizer(load_spec("char"))
    encoder = make_encoder(tokenizer)
    bases = np.frombuffer(b"ACGT", np.uint8)[None]
    base_token_ids = encoder.encode_batch(bases, special_tokens=False).ids[0, :4].tolist()
    length = max(len(sequence) for part in rows.parts.values() for sequence in part.sequences)
    options: dict[str, Any] = {} if recipe.dropout is None else {"dropout": recipe.dropout}
    options |= {key: value for key, value in recipe.model.items() if key != "baseline"}
    shape: dict[str, Any] = {"per_base": per_base, "base_token_ids": base_token_ids}
    model = build_baseline(recipe.model["baseline"], length, num_outputs(task), **shape, **options)
    return model, tokenizer, RowEncoder(encoder, length, per_base=per_base, special_tokens=False), None


def build_collator(recipe: FinetuneRecipe, rows: SplitRows, encoder: RowEncoder) -> LabelCollator:
    """Return the collator of the train rows."""
    kind, balanced = rows.train.task.kind, recipe.imbalance == "sampling"
    if recipe.imbalance != "none" and kind in ("regression", "tracks"):
        raise SettingsError(
            f"imbalance is {recipe.imbalance}, and the task is {kind}, which has no classes; leave it out"
        )
    if balanced and kind not in ("binary", "multiclass"):
        raise SettingsError(f"imbalance is sampling, and a row of a {kind} task has no one class; use weights or focal")
    centre = scale = None
    if kind in ("regression", "tracks"):
        centre, scale = _standardisation(rows.train)
    weights = class_weights(rows.train) if recipe.imbalance == "weights" else None
    return LabelCollator(rows.train, encoder, recipe.seed, recipe.reverse_complement, balanced, weights, centre, scale)


def _standardisation(train: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of every target, (T,) each."""
    values = np.concatenate(list(train.labels)) if train.task.kind == "tracks" else train.labels
    missing = np.flatnonzero(~np.isfinite(values).any(axis=0))
    if len(missing):
        names = [train.task.names[target] for target in missing]
        raise ValueError(
            f"{', '.join(names[:8])}: missing in every train row; leave it out of labels.columns.label, or split the "
            "rows otherwise"
        )
    scale = np.nanstd(values, axis=0)
    return np.nanmean(values, axis=0), np.where(scale > 1e-12, scale, 1.0)


def label_metadata(recipe: FinetuneRecipe, collator: LabelCollator, folder: Path | None) -> dict[str, Any]:
    """Return what `genolm.json` of a fine-tuned model holds: enough to predict with it."""
    task, rows = collator.labelled.task, collator.rows
    base = folder and {
        "model": recipe.model,
        "folder": str(folder.resolve()),
        # From the folder of the model, so that a run finds its base where both were moved together.
        "beside": os.path.relpath(folder.resolve(), (Path(recipe.run_dir) / "model").resolve()),
        "sha256": weights_sha256(folder),
    }
    return {
        "task": {"kind": task.kind, "names": list(task.names)},
        "method": recipe.method or "baseline",
        "base": base,
        "both_strands": recipe.both_strands,
        "max_tokens": rows.max_tokens,
        "cut": rows.cut,
        "special_tokens": rows.special_tokens,
        "centre": None if collator.centre is None else collator.centre.tolist(),
        "scale": None if collator.scale is None else collator.scale.tolist(),
    }


def check_finetune_recipe(recipe: FinetuneRecipe) -> None:
    """Refuse a recipe that cannot work; models and tables that may be on the Hub are not looked up.

    Raises:
        ValueError: a wrong training block, adapter, baseline or metric; or a file that does not exist.
    """
    training_arguments(recipe.training | {"use_cpu": True}, Path(recipe.run_dir), recipe.seed)
    check_metric("stopping.metric", recipe.stopping.metric, recipe.labels.task)
    if isinstance(recipe.model, dict):
        options = {key: value for key, value in recipe.model.items() if key != "baseline"}
        options |= {"per_base": recipe.labels.task in PER_BASE, "base_token_ids": [0, 1, 2, 3]}
        try:
            with torch.device("meta"):  # shapes without weights; the length is only known from the table
                build_baseline(recipe.model["baseline"], 1000, 1, **options)
        except Exception as error:  # huggingface_hub has its own for a wrong type, of several lines
            raise SettingsError(f"model: {' '.join(str(error).split())}") from error
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
    """Refuse a metric that a kind of task, or any kind where none is given, does not have; None is allowed.

    Raises:
        SettingsError: naming `key`, of the recipe or option that gives it, and the metrics that there are.
    """
    names = list(dict.fromkeys(name for each in ([kind] if kind else METRICS) for name in METRICS[each]))
    if metric not in (None, "loss", *names):
        task = f"a {kind} task has" if kind else "tasks have"
        raise SettingsError(f"{key} is {metric!r}; {task} {', '.join(names)} and loss")


def named_files(labels: LabelsRecipe) -> list[str]:
    """Return the table and FASTA files that a recipe names; a table that is a name on the Hub is none."""
    tables = [] if isinstance(labels.table, str) and is_hub_name(labels.table) else _leaves(labels.table)
    return tables + (_leaves(labels.fasta) if labels.fasta else [])


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    return [name for inner in value for name in _leaves(inner)] if isinstance(value, list) else [str(value)]


def begin_run(recipe: FinetuneRecipe, rows: SplitRows, model, arguments: TrainingArguments) -> None:
    """Write recipe and sha256 of every file that it names to the run folder, and print rows, task, model and steps."""
    paths = [path for path in named_files(recipe.labels) if Path(path).is_file()]
    inputs: list[dict[str, Any]] = [{"path": path, "sha256": file_sha256(path)} for path in paths]
    write_provenance(Path(recipe.run_dir), to_dict(recipe), {"inputs": inputs}, recipe.seed)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for note in rows.notes:
        console.print(note)
    task = rows.train.task
    names = ", ".join(task.names[:8]) + (" …" if len(task.names) > 8 else "")
    console.print(f"task       {task.kind}: {names}")
    console.print("rows       " + ", ".join(f"{name} {len(part):,}" for name, part in rows.parts.items()))
    total, trained = num_parameters(model)
    how = recipe.method or recipe.model["baseline"]
    console.print(f"model      {how}: {total:,} parameters, {trained:,} of them trained")
    if idle := keys_without_effect(recipe):
        console.print(f"note       without effect on {recipe.method or 'a baseline'}: {', '.join(idle)}")
    if recipe.method != "probe":
        ranks = arguments.world_size
        size = arguments.train_batch_size * arguments.gradient_accumulation_steps * ranks
        console.print(f"steps      {arguments.max_steps:,} of {size:,} rows; {ranks} on {arguments.device.type}")


def num_parameters(model) -> tuple[int, int]:
    """Return the number of a model's parameters, and of those that are trained; of ZeRO-3 shards the whole."""
    sizes = [(getattr(p, "ds_numel", p.numel()), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
