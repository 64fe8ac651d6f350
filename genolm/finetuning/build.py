"""The blocks of a fine-tuning recipe → what they name: rows, splits, leakage, model, collator."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import set_seed
from transformers import AutoConfig

from genolm.config.finetune import FinetuneRecipe, LabelsRecipe
from genolm.config.yaml import SettingsError
from genolm.labels.collate import LabelCollator, RowEncoder, class_weights
from genolm.labels.dataset import Labelled, Task, read_labels
from genolm.labels.leakage import Leakage, find_leakage
from genolm.labels.split import split_rows, take_fraction
from genolm.labels.task import PER_BASE
from genolm.models.baselines import build_baseline
from genolm.models.label_folder import model_folder, weights_sha256
from genolm.models.label_model import fresh_backbone, on_backbone, open_backbone
from genolm.models.language_model import longest
from genolm.models.safe_loading import check_config
from genolm.tokenizers.build import build_tokenizer, load_spec, load_tokenizer
from genolm.tokenizers.encode import make_encoder


@dataclass(frozen=True)
class SplitRows:
    """The rows of a recipe.

    Attributes:
        train: what is learnt from.
        valid: what chooses model and threshold.
        test: what is reported.
        leakage: what the splits share, before anything was dropped.
        notes: for the user, one line each.
    """

    train: Labelled
    valid: Labelled
    test: Labelled
    leakage: Leakage
    notes: tuple[str, ...]


def read_and_split(block: LabelsRecipe) -> tuple[Labelled, np.ndarray, tuple[str, ...]]:
    """Read a table and split it.

    Returns:
        The rows; (n,) str, train, valid or test; and notes for the user.
    """
    if not block.table or not isinstance(block.table, str | dict):
        raise SettingsError(f"labels.table is {block.table!r}; give a file, split → file, or a dataset of the Hub")
    labelled = read_labels(block.table, block.fasta, block.columns or None, block.task, block.classes)
    rule = block.split
    fixed = {"folds": rule.folds, "fold": rule.fold, "stratified": rule.stratified, "seed": rule.seed}
    contigs = {"valid_contigs": rule.valid_contigs, "test_contigs": rule.test_contigs}
    split, notes = split_rows(labelled, by=rule.by, valid=rule.valid, test=rule.test, **contigs, **fixed)
    return labelled, split, (*labelled.notes, *notes)


def read_split_rows(recipe: FinetuneRecipe) -> SplitRows:
    """Read the table, split it, look for leakage, and take the fraction to learn from.

    Raises:
        ValueError: a table that cannot be used; or rows that splits share, where the recipe says `leakage: error`.
    """
    block = recipe.labels
    labelled, split, notes = read_and_split(block)
    leakage = find_leakage(labelled, split)
    notes += tuple(leakage.describe())
    if leakage and block.leakage == "error":
        told = "; ".join(leakage.describe())
        raise ValueError(
            f"{told}. labels.leakage is error; set drop to leave such rows of train and valid out, or warn"
        )
    kept = np.ones(len(labelled), dtype=bool)
    if block.leakage == "drop":
        dropped = leakage.rows_to_drop()
        kept[dropped] = False
        notes += (f"leakage: {len(dropped):,} rows of train and valid are left out",)
    if block.data_fraction < 1:
        kept &= take_fraction(labelled, split, block.data_fraction, recipe.seed)
    parts = {name: labelled.select(kept & (split == name)) for name in ("train", "valid", "test")}
    if not len(parts["train"]):
        raise ValueError("no row is left to learn from, after leakage and data_fraction")
    if labelled.task.kind in ("binary", "multiclass") and len(set(parts["train"].labels.tolist())) < 2:
        raise ValueError("the train rows that are left, after leakage, are of one class; see labels.leakage")
    return SplitRows(leakage=leakage, notes=notes, **parts)


def num_outputs(task: Task) -> int:
    """Return the outputs that a head needs."""
    return 1 if task.kind == "binary" else len(task.names)


def build_label_model(recipe: FinetuneRecipe, rows: SplitRows) -> tuple[Any, Any, RowEncoder, Path | None]:
    """Return model, tokenizer, encoder of rows, and the folder of the pretrained model; the same for the same seed."""
    task, per_base = rows.train.task, rows.train.task.kind in PER_BASE
    set_seed(recipe.seed)
    if isinstance(recipe.model, dict):
        options = {key: value for key, value in recipe.model.items() if key != "baseline"}
        tokenizer = build_tokenizer(load_spec("char"))
        encoder = make_encoder(tokenizer)
        ids = [
            int(encoder.encode_batch(np.frombuffer(b"ACGT", np.uint8)[None], special_tokens=False).ids[0, i])
            for i in range(4)
        ]
        length = max(len(sequence) for part in (rows.train, rows.valid, rows.test) for sequence in part.sequences)
        model = build_baseline(
            recipe.model["baseline"], length, num_outputs(task), per_base=per_base, base_token_ids=ids,
            **({} if recipe.dropout is None else {"dropout": recipe.dropout}), **options,
        )  # fmt: skip
        return model, tokenizer, RowEncoder(encoder, length, per_base=per_base, special_tokens=False), None
    folder = model_folder(recipe.model)
    tokenizer = load_tokenizer(folder)
    if recipe.method == "scratch":
        check_config(folder / "config.json")
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        backbone = fresh_backbone(config.to_dict())
    else:
        backbone = open_backbone(folder)
    if recipe.pooling == "cls" and not tokenizer_has_first(tokenizer):
        raise SettingsError(f"pooling is cls, and the tokenizer of {folder} puts no token before a sequence; use mean")
    settings = {"pooling": recipe.pooling, "per_base": per_base, "dropout": recipe.dropout or 0.0}
    model = on_backbone(backbone, num_outputs(task), **settings)
    cut = recipe.long_inputs == "windows"
    if cut and per_base:
        raise SettingsError(
            "long_inputs is windows, which averages; answers at every base need rows that fit the model"
        )
    return model, tokenizer, RowEncoder(make_encoder(tokenizer), longest(backbone.config), cut, per_base), folder


def tokenizer_has_first(tokenizer) -> bool:
    """Say whether a tokenizer puts a token of its own before every sequence."""
    return bool(make_encoder(tokenizer).prefix_ids)


def check_lengths(encoder: RowEncoder, part: Labelled) -> None:
    """Refuse a row that is too long or too short for the model, by its file and line, before anything is spent."""
    # Of fixed-width tokens the longest row has most; of BPE one of the longest, nearly always.
    order = sorted(range(len(part)), key=lambda row: -len(part.sequences[row]))
    for row in dict.fromkeys([*order[:64], *order[-1:]]):
        try:
            encoder([part.sequences[row]])
        except ValueError as error:
            raise ValueError(f"{part.source[row]}: {error}") from None


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
        values = np.concatenate(list(rows.train.labels)) if kind == "tracks" else rows.train.labels
        known = list(np.atleast_1d(np.isfinite(values).any(axis=0)))
        unknown = [name for name, is_known in zip(rows.train.task.names, known, strict=True) if not is_known]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown[:8])}: not known in any train row; leave it out of labels.columns.label, or split "
                "the rows otherwise"
            )
        centre, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        scale = np.where(scale > 1e-12, scale, 1.0)
    return LabelCollator(
        rows.train,
        encoder,
        recipe.seed,
        recipe.reverse_complement,
        balanced,
        class_weights(rows.train) if recipe.imbalance == "weights" else None,
        centre,
        scale,
    )


def label_metadata(recipe: FinetuneRecipe, collator: LabelCollator, folder: Path | None) -> dict[str, Any]:
    """Return what a labelled model tells of itself in `genolm.json`: enough to predict with."""
    task, rows = collator.labelled.task, collator.rows
    return {
        "task": {"kind": task.kind, "names": list(task.names)},
        "method": recipe.method or "baseline",
        "base": None
        if folder is None
        else {
            "model": recipe.model,
            "folder": str(folder.resolve()),
            # From the folder of the model, so that a run finds its base where both were moved together.
            "beside": os.path.relpath(folder.resolve(), (Path(recipe.run_dir) / "model").resolve()),
            "sha256": weights_sha256(folder),
        },
        "both_strands": recipe.both_strands,
        "max_tokens": rows.max_tokens,
        "cut": rows.cut,
        "special_tokens": rows.special_tokens,
        "centre": None if collator.centre is None else collator.centre.tolist(),
        "scale": None if collator.scale is None else collator.scale.tolist(),
    }
