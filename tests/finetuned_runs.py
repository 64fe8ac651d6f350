"""Run folders as `genolm finetune` writes them, with simulated predictions: for tests, and to look at the page."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genolm.metrics.prediction_metrics import bootstrap_metrics, choose_threshold, compute_metrics

NAMES = {
    "binary": ["no promoter", "promoter"],
    "multiclass": ["acceptor", "donor", "neither"],
    "multilabel": ["CTCF", "DNase", "H3K27ac", "H3K4me3"],
    "regression": ["housekeeping", "developmental"],
    "per-base": ["intron", "exon"],
    "tracks": ["plus", "minus"],
}


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def simulate(kind, skill, num_rows, seed, table_seed=0):
    """Labels that depend on table_seed only, and predictions of a given skill: (labels, predictions)."""
    table, rng = np.random.default_rng([table_seed, 7]), np.random.default_rng([*seed, 11])
    # What is hard for one run is hard for all: predictions share some of their errors.
    size = len(NAMES[kind])
    if kind in ("per-base", "tracks"):
        pairs = [simulate({"per-base": "multiclass", "tracks": "regression"}[kind], skill, 40, [*seed, k], k)
                 for k in range(num_rows)]  # fmt: skip
        labels, predictions = np.empty(num_rows, dtype=object), np.empty(num_rows, dtype=object)
        for k, (label, prediction) in enumerate(pairs):
            if kind == "per-base":
                label, prediction = label.clip(0, 1), prediction[:, :2] / prediction[:, :2].sum(axis=1, keepdims=True)
            labels[k], predictions[k] = label, prediction
        return labels, predictions
    if kind == "binary":
        labels = table.integers(2, size=num_rows)
        noise = 0.7 * table.normal(size=num_rows) + 0.7 * rng.normal(size=num_rows)
        return labels, 1 / (1 + np.exp(-1.4 * (skill * (labels - 0.5) + noise)))
    if kind == "multiclass":
        labels = table.choice(size, p=[0.3, 0.3, 0.4], size=num_rows)
        noise = table.normal(size=(num_rows, size)) + rng.normal(size=(num_rows, size))
        return labels, softmax(skill * np.eye(size)[labels] + noise)
    if kind == "multilabel":
        labels = (table.random((num_rows, size)) < [0.1, 0.2, 0.3, 0.4]).astype(float)
        noise = table.normal(size=labels.shape) + rng.normal(size=labels.shape)
        predictions = 1 / (1 + np.exp(-(skill * (labels - 0.7) + noise)))
        labels[table.random(labels.shape) < 0.05] = np.nan
        return labels, predictions
    labels = table.normal(size=(num_rows, size))
    noise = table.normal(size=labels.shape) + rng.normal(size=labels.shape)
    return labels, labels * skill / (1 + skill) + noise * 0.4


def make_run(
    folder,
    name,
    kind="binary",
    *,
    skill=1.5,
    seed=0,
    num_rows=600,
    method="lora",
    fraction=1.0,
    task_name=None,
    table_seed=0,
    trained=300_000,
    train_seconds=120.0,
):
    """Write one run folder and return it."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    offset = sum(map(ord, name))
    parts = {
        split: simulate(kind, skill, num_rows // 4 if split == "valid" else num_rows, [seed, offset, k], table_seed + k)
        for k, split in enumerate(("valid", "test"))
    }
    valid_labels, valid_predictions = parts["valid"]
    threshold = None
    if kind == "binary":
        threshold = choose_threshold(valid_labels, valid_predictions)
    elif kind == "multilabel":
        threshold = [choose_threshold(a, b) for a, b in zip(valid_labels.T, valid_predictions.T, strict=True)]
    targets = NAMES[kind] if kind in ("regression", "tracks") else None
    columns = {"id": [], "split": [], "label": [], "prediction": []}
    for split, (labels, predictions) in parts.items():
        columns["id"] += [f"{split}-{k}" for k in range(len(labels))]
        columns["split"] += [split] * len(labels)
        nested = [label.tolist() for label in labels]
        columns["label"] += nested
        columns["prediction"] += [prediction.tolist() for prediction in predictions]
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    about = {
        "name": name,
        "task": {"kind": kind, "names": NAMES[kind]},
        "method": method,
        "model": name if method == "baseline" else "runs/human_mlm/checkpoint",
        "seed": seed,
        "data_fraction": fraction,
        "parameters": {"total": 7_400_000 if method != "baseline" else trained, "trained": trained},
        "seconds": {"train": train_seconds * (1 + 0.1 * seed) * fraction, "predict": 1.9},
        "peak_memory_bytes": 2_100_000_000 + 10_000_000 * seed,
        "rows": {"train": int(4800 * fraction), "valid": num_rows // 4, "test": num_rows},
        "threshold": threshold,
        "leakage": {
            "k": 11,
            "train/test": {
                "of": num_rows,
                "any": 13,
                "contradicting": 2,
                "identical": {"test": 4, "train": 5, "examples": [["a", "b"]]},
                "near_duplicate": {"test": 9, "train": 8, "examples": []},
            },
        },
        "valid": compute_metrics(kind, valid_labels, valid_predictions, threshold),
        "test": bootstrap_metrics(kind, *parts["test"], threshold, targets, num_replicates=50).intervals(),
    }
    if task_name is not None:
        about["task_name"] = task_name
    (folder / "metrics.json").write_text(json.dumps(about, indent=1))
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make_log(about, offset)))
    (folder / "recipe.yaml").write_text(f"run_dir: {folder}\nseed: {seed}\nmethod: {method}\nname: {name}\n")
    versions = {"genolm": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": None}
    (folder / "provenance.json").write_text(json.dumps({"seed": seed, "versions": versions}))
    return folder


def make_log(about, offset):
    rng = np.random.default_rng([about["seed"], offset])
    key = {"multilabel": "auprc", "regression": "r2", "tracks": "r2"}.get(about["task"]["kind"], "mcc")
    end, rows = about["test"][key]["value"], []
    for step in range(10, 601, 10):
        epoch, fall = step / 150, np.exp(-step / 120)
        rows.append({"step": step, "epoch": epoch, "loss": 0.35 + 0.4 * fall + rng.normal(0, 0.015)})
        if step % 50 == 0:
            held_out = {"eval_loss": 0.5 - 0.2 * end + 0.35 * fall + 0.03 * epoch, f"eval_{key}": end * (1 - fall)}
            rows.append({"step": step, "epoch": epoch} | held_out)
    return rows


def make_study(folder, kind="binary", *, seeds=3, num_rows=600, task_name=None, fractions=(), table_seed=0, scale=1.0):
    """Write the runs of one task: two methods of a language model and four baselines, some at smaller fractions."""
    runs, folder = [], Path(folder)
    plans = [
        ("lora", "lora", 1.85, 295_682, 310.0),
        ("probe", "probe", 1.5, 1_538, 14.0),
        ("danq", "baseline", 1.62, 3_100_418, 95.0),
        ("basset", "baseline", 1.6, 4_135_298, 61.0),
        ("deepbind", "baseline", 1.25, 5_602, 22.0),
        ("kmer-logistic", "baseline", 1.05, 4_097, 1.2),
    ]
    for name, method, skill, trained, seconds in plans:
        for fraction in (1.0, *(fractions if name in ("lora", "danq", "deepbind") else ())):
            slope = 0.1 if name == "lora" else 0.22
            for seed in range(seeds):
                at = folder / f"{name}-{fraction:g}-seed{seed}"
                found = scale * skill * (1 + slope * np.log(fraction)) + 0.05 * (seed - 1)
                run = make_run(at, name, kind, skill=max(found, 0.05), seed=seed, num_rows=num_rows, method=method,
                               fraction=fraction, task_name=task_name, table_seed=table_seed, trained=trained,
                               train_seconds=seconds)  # fmt: skip
                runs.append(run)
    return runs
