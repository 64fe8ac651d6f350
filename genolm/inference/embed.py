"""Vectors of sequences, of a layer of any backbone: written as they are found, a part of the rows in memory at a time.

.parquet   a row each: id, embedding; with pooling `tokens` also start and end, the bases of each token
.npy       all vectors one below another, (N, D) float32; beside it a table of ids and their rows
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from genolm.genome.alphabet import to_array
from genolm.inference.predict import Answer, predict_rows
from genolm.labels.collate import LabelCollator
from genolm.labels.dataset import Labelled
from genolm.tokenizers.encode import Encoder

POOLING = ("mean", "cls", "per-base", "tokens")
AT_A_TIME = 1 << 24
"""Numbers of vectors in memory at a time, but for those of a single batch."""


def layer_of(layer: int, num_layers: int) -> int:
    """Return the place of a layer among the hidden states: 0 is the embedding, num_layers the last layer.

    Raises:
        ValueError: there is no such layer.
    """
    if not -num_layers - 1 <= layer <= num_layers:
        raise ValueError(
            f"layer is {layer}; the model has {num_layers}: allowed are 0, the embedding, to {num_layers}, or -1, the "
            f"last, to {-num_layers - 1}"
        )
    return layer if layer >= 0 else num_layers + 1 + layer


def answer_of(model: Any, pooling: str, layer: int) -> Answer:
    """Return what gives the vectors of a batch: (B, D), or (B, W or L, D) of bases or tokens.

    The mean is over all tokens but padding, as that of fine-tuning. A base has the vector of the token over it; of
    overlapping k-mers, of the one that it is in the middle of.

    Args:
        model: a backbone.
        pooling: one of POOLING.
        layer: as `layer_of` gives it.
    """
    inner = layer < model.config.num_hidden_layers

    def vectors(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask, pieces = inputs["attention_mask"], inputs.get("pieces")
        options = {"output_hidden_states": True} if inner else {}
        outputs = model(input_ids=inputs["input_ids"], attention_mask=mask, **options)
        hidden = (outputs.hidden_states[layer] if inner else outputs.last_hidden_state).float()
        if pooling == "per-base":
            return hidden.gather(1, inputs["token_of_base"].unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        if pooling == "tokens":
            return hidden
        if pooling == "cls":
            pooled = hidden[:, 0]
        else:
            keep = mask.to(hidden.dtype).unsqueeze(-1)
            pooled = (hidden * keep).sum(1) / keep.sum(1)
        return pooled if pieces is None else pieces.to(pooled.dtype) @ pooled

    return vectors


def num_vectors(encoder: Encoder, sequences: list[str], pooling: str) -> np.ndarray:
    """Return (n,) int64, how many vectors each sequence has."""
    if pooling in ("mean", "cls"):
        return np.ones(len(sequences), dtype=np.int64)
    if pooling == "per-base":
        return np.array([len(sequence) for sequence in sequences])
    return np.array([len(token_bases(encoder, sequence)[0]) for sequence in sequences])


def token_bases(encoder: Encoder, sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first base and one past the last of each token of a sequence, special tokens apart."""
    encoded = encoder.encode_batch(to_array(sequence)[None], special_tokens=False)
    return encoded.start[0], encoded.end[0]


def write_vectors(
    out: Path,
    model: Any,
    collator: LabelCollator,
    pooling: str,
    layer: int,
    *,
    batch_size: int = 64,
    both_strands: bool = False,
    bar: Any = None,
) -> int:
    """Write the vectors of all rows, in their order, to a file that is whole or absent.

    Args:
        out: .parquet or .npy.
        model: a backbone.
        collator: holds the rows, in order; of pooling `per-base` its RowEncoder says which token speaks for a base.
        pooling: one of POOLING.
        layer: as `layer_of` gives it.
        batch_size: rows in a forward pass.
        both_strands: the mean of both strands' vectors, at the bases of the given one; not of tokens.
        bar: is told of rows done.

    Returns:
        D.
    """
    labelled, encoder = collator.labelled, collator.rows.encoder
    answer, width, row = answer_of(model, pooling, layer), 0, 0
    count = num_vectors(encoder, labelled.sequences, pooling)
    first = len(encoder.prefix_ids) if collator.rows.special_tokens else 0
    with (_parquet if out.suffix == ".parquet" else _npy)(out, labelled, count, pooling, encoder) as write:
        while row < len(labelled):
            # As many rows as fit, before D is known a batch.
            most = max(1, AT_A_TIME // width) if width else 0
            end = row + max(1 if width else batch_size, int(np.searchsorted(count[row:].cumsum(), most)))
            part = labelled.select(np.arange(row, min(end, len(labelled))))
            options = {"batch_size": batch_size, "both_strands": both_strands, "answer": answer}
            found = predict_rows(model, replace(collator, labelled=part), **options)
            if pooling == "tokens":
                found = [x[first : first + n] for x, n in zip(found, count[row:end], strict=False)]
            found = [np.asarray(x, dtype=np.float32).reshape(-1, x.shape[-1]) for x in found]
            width = found[0].shape[1]
            write(row, np.concatenate(found))
            row += len(part)
            if bar is not None:
                bar.update(len(part))
    return width


@contextmanager
def _npy(out: Path, labelled: Labelled, count: np.ndarray, pooling: str, encoder: Encoder) -> Iterator[Any]:
    """Write (N, D) float32, and `NAME.rows.tsv` beside it: id, first and one past the last row; bases of tokens."""
    aside, table = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.stem}.rows.tsv")
    ends = count.cumsum()
    held: list[np.memmap] = []

    def write(row: int, vectors: np.ndarray) -> None:
        if not held:
            shape = (int(ends[-1]), vectors.shape[1])
            held.append(np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=shape))
        first = int(ends[row] - count[row])
        held[0][first : first + len(vectors)] = vectors

    yield write
    held.pop().flush()
    table_aside = table.with_name(f"{table.name}.partial")
    with table_aside.open("w") as file:
        file.write("id\tfirst\tend\n")
        for name, last, num in zip(labelled.ids, ends.tolist(), count.tolist(), strict=True):
            file.write(f"{name}\t{last - num}\t{last}\n")
    table_aside.replace(table)
    aside.replace(out)


@contextmanager
def _parquet(out: Path, labelled: Labelled, count: np.ndarray, pooling: str, encoder: Encoder) -> Iterator[Any]:
    """Write a group of rows for each part."""
    aside = out.with_name(f"{out.name}.partial")
    held: list[pq.ParquetWriter] = []

    def write(row: int, vectors: np.ndarray) -> None:
        num = int(np.searchsorted(count[row:].cumsum(), len(vectors))) + 1
        names = [str(name) for name in labelled.ids[row : row + num]]
        column: Any = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        columns = {"id": pa.array(names)}
        if pooling in ("per-base", "tokens"):
            offsets = pa.array(np.concatenate([[0], count[row : row + num].cumsum()]).astype(np.int32))
            column = pa.ListArray.from_arrays(offsets, column)
            if pooling == "tokens":
                places = [token_bases(encoder, sequence) for sequence in labelled.sequences[row : row + num]]
                for key, values in zip(("start", "end"), zip(*places, strict=True), strict=True):
                    columns[key] = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(values)))
        table = pa.table({**columns, "embedding": column})
        if not held:
            # Floats do not repeat, and a dictionary of them would be tried in vain.
            dictionary: Any = ["id"]
            held.append(pq.ParquetWriter(aside, table.schema, use_dictionary=dictionary))
        held[0].write_table(table)

    try:
        yield write
    finally:
        for writer in held:
            writer.close()
    aside.replace(out)
