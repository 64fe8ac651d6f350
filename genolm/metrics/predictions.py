"""`predictions.parquet`: id, split, label and prediction of every row that a run predicted."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genolm.config.files import atomic_path
from genolm.labels.dataset import Labelled

DEPTH = {"binary": (0, 0), "multiclass": (0, 1), "multilabel": (1, 1), "regression": (1, 1), "per-base": (1, 2)}
"""Kind of task → nesting depth of the lists of a label and of a prediction; of tracks 2 and 2."""


def write_predictions(path: Path, parts: Iterable[tuple[str, Labelled, list[np.ndarray]]]) -> None:
    """Write predictions to a Parquet file, atomically.

    Args:
        path: the file.
        parts: split, its rows, and the prediction of each, as `genolm.inference.predict` returns it.
    """
    tables = []
    for split, labelled, values in parts:
        label, prediction = DEPTH.get(labelled.task.kind, (2, 2))
        whole = labelled.task.kind in ("binary", "multiclass", "per-base")
        columns = {
            "id": pa.array([str(name) for name in labelled.ids], pa.string()),
            "split": pa.array([split] * len(labelled), pa.string()),
            "label": _column(labelled.labels, label, pa.int64() if whole else pa.float64()),
            "prediction": _column(values, prediction, pa.float64()),
        }
        tables.append(pa.table(columns))
    with atomic_path(path) as partial:
        pq.write_table(pa.concat_tables(tables), partial)


def _column(values: Any, depth: int, kind: pa.DataType) -> pa.Array:
    for _ in range(depth):
        kind = pa.list_(kind)
    return pa.array([value.tolist() for value in map(np.asarray, values)], kind)
