"""Tiny pretrained models, tables of every kind of task, and recipes of fine-tuning, for tests."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from genolm.config.yaml import load_settings

ROOT = Path(__file__).parents[1]
MOTIF = "TATAAGGC"
GENOLM = {
    **{"architecture": "genolm", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
    **{"mixers": ["fir", "attention"], "num_attention_heads": 2, "fir_size": 5},
}
BERT = {
    **{"architecture": "bert", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1},
    "num_attention_heads": 2,
}
KINDS = ("binary", "multiclass", "multilabel", "regression", "per-base", "tracks")


def letters(rng: np.random.Generator, length: int) -> str:
    return "".join(rng.choice(list("ACGT"), length))


def pretrain(folder: Path, name: str, model: dict, tokenizer: str = "char", kind: str = "masked", window: int = 80):
    """Pretrain a model for two steps and return its run folder."""
    from genolm.config.pretrain import PretrainRecipe
    from genolm.pretraining import run_pretraining

    fasta = folder / "genome.fa"
    if not fasta.exists():
        fasta.write_text(f">one\n{letters(np.random.default_rng(0), 4000)}\n")
    values = {
        "run_dir": str(folder / name),
        "data": {"fasta": str(fasta), "window_bp": window, "test": {"fraction": 0.2}},
        "tokenizer": tokenizer,
        "objective": {"kind": kind},
        "model": model,
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "bf16": False},
        "evaluation": {"every_steps": 0, "markov_orders": [0], "max_bp": 200},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    run_pretraining(load_settings(PretrainRecipe, path, []))
    return folder / name


def planted(num: int, seed: int = 0, low: int = 50, high: int = 64) -> tuple[list[str], np.ndarray]:
    """Return rows of unequal length, and which hold the motif."""
    rng = np.random.default_rng(seed)
    label, rows = np.arange(num) % 2, []
    for has in label:
        row = letters(rng, int(rng.integers(low, high)))
        at = int(rng.integers(0, len(row) - len(MOTIF)))
        rows.append(row[:at] + MOTIF + row[at + len(MOTIF) :] if has else row)
    return rows, label


def write_table(folder: Path, kind: str = "binary", num: int = 60, seed: int = 0) -> Path:
    """Write a table of a task: CSV for one label a row, Parquet for lists; split in a column."""
    rng = np.random.default_rng(seed)
    rows, label = planted(num, seed)
    split = np.array(["train", "train", "train", "train", "valid", "valid", "test", "test"])[np.arange(num) % 8]
    columns: dict = {"sequence": rows, "split": split.tolist(), "id": [f"r{i}" for i in range(num)]}
    if kind == "binary":
        columns["label"] = label.tolist()
    elif kind == "multiclass":
        columns["label"] = [("none", "one", "two")[i // 2 % 3] if has else "none" for i, has in enumerate(label)]
    elif kind == "multilabel":
        values = np.stack([label, (np.arange(num) // 2) % 2], 1).astype(float)
        values[rng.random(values.shape) < 0.15] = np.nan
        columns |= {"first": _known(values[:, 0]), "second": _known(values[:, 1])}
    elif kind == "regression":
        content = np.array([[row.count("G") / len(row), row.count("A")] for row in rows])
        values = np.stack([content[:, 0], 100 + 5 * content[:, 1], content[:, 0] * 1e-3], 1)
        values[rng.random(values.shape) < 0.15] = np.nan
        columns |= {f"t{i}": _known(values[:, i]) for i in range(3)}
    elif kind == "per-base":
        columns["label"] = [[int(c in "GC") for c in row] for row in rows]
    else:
        columns["label"] = [[[float(c == "G"), 10.0 * (c == "A")] for c in row] for row in rows]
    if kind in ("per-base", "tracks"):
        path = folder / f"{kind}-{seed}.parquet"
        pq.write_table(pa.table(columns), path)
        return path
    path = folder / f"{kind}-{seed}.csv"
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def _known(values: np.ndarray) -> list:
    return ["" if np.isnan(value) else f"{value:.6g}" for value in values]


COLUMNS = {"multilabel": {"label": ["first", "second"]}, "regression": {"label": ["t0", "t1", "t2"]}}


def write_recipe(folder: Path, name: str, model, table: Path, kind: str = "binary", **changes) -> Path:
    """Write a recipe of a few steps, one thread's worth of work."""
    block = {"table": str(table), "columns": COLUMNS.get(kind, {}), "task": kind}
    training = {"max_steps": 4, "per_device_train_batch_size": 4, "bf16": False, "learning_rate": 1e-2}
    values = {
        "run_dir": str(folder / name),
        "model": str(model) if not isinstance(model, dict) else model,
        "labels": block | changes.pop("labels", {}),
        "stopping": {"evaluations": 2},
        **changes,
        "training": training | {"logging_steps": 1, "save_steps": 100} | changes.get("training", {}),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def finetune(recipe: Path, *overrides: str) -> dict:
    """Run a recipe in this process and return its metrics."""
    from genolm.config.finetune import FinetuneRecipe
    from genolm.finetuning import run_finetuning

    return run_finetuning(load_settings(FinetuneRecipe, recipe, list(overrides)))


def predictions(run_dir: Path) -> dict[str, np.ndarray]:
    """Return id → prediction of a finished run."""
    table = pq.read_table(run_dir / "predictions.parquet")
    return dict(zip(table["id"].to_pylist(), map(np.array, table["prediction"].to_pylist()), strict=True))
