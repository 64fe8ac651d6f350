"""Predictions on disk are read back as they were, for every kind of task."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genolm.labels.dataset import Labelled, Task
from genolm.metrics.predictions import write_predictions

CASES = {
    "binary": ([0, 1], [np.array(0.2), np.array(0.9)], pa.int64(), pa.float64()),
    "multiclass": ([0, 2], [np.array([0.2, 0.3, 0.5])] * 2, pa.int64(), pa.list_(pa.float64())),
    "multilabel": ([[0.0, np.nan], [1, 1]], [np.array([0.1, 0.2])] * 2, pa.list_(pa.float64()), pa.list_(pa.float64())),
    "regression": ([[0.5], [np.nan]], [np.array([0.1])] * 2, pa.list_(pa.float64()), pa.list_(pa.float64())),
    "per-base": (
        [np.array([0, 1, -100]), np.array([1])],
        [np.full((3, 2), 0.5), np.full((1, 2), 0.5)],
        pa.list_(pa.int64()),
        pa.list_(pa.list_(pa.float64())),
    ),
    "tracks": (
        [np.array([[0.0], [np.nan]]), np.array([[1.0]])],
        [np.full((2, 1), 0.5), np.full((1, 1), 0.25)],
        pa.list_(pa.list_(pa.float64())),
        pa.list_(pa.list_(pa.float64())),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_is_written_as_it_is(tmp_path, kind):
    labels, values, label_type, prediction_type = CASES[kind]
    held = np.empty(2, dtype=object)
    held[:] = labels
    held = held if kind in ("per-base", "tracks") else np.array(labels)
    text = np.array(["a", "b"])
    names = ("x",) if kind == "regression" or kind == "tracks" else ("x", "y", "z")[: 3 if kind == "multiclass" else 2]
    part = Labelled(Task(kind, names), text, ["ACG", "A"], held, text, text)
    path = tmp_path / "predictions.parquet"
    write_predictions(path, [("valid", part, values), ("test", part.select([1]), values[1:])])
    table = pq.read_table(path)
    assert table["id"].to_pylist() == ["a", "b", "b"] and table["split"].to_pylist() == ["valid", "valid", "test"]
    assert table.schema.field("label").type == label_type
    assert table.schema.field("prediction").type == prediction_type
    for found, expected in zip(table["label"].to_pylist(), [*labels, labels[1]], strict=True):
        np.testing.assert_array_equal(np.array(found), np.array(expected))
    for found, expected in zip(table["prediction"].to_pylist(), [*values, values[1]], strict=True):
        np.testing.assert_array_equal(np.array(found), expected)
    assert list(tmp_path.iterdir()) == [path]
