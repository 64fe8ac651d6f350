"""Embeddings of sequences, of any layer of any backbone, written a part of the rows at a time.

.parquet   a row for each sequence: id, embedding; with pooling `tokens` also start and end, the bases of each token
.npy       all vectors, (N, D) float32, and a table of ids and their rows in NAME.rows.tsv
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

from genolm.config.console import progress_bar
from genolm.config.files import atomic_path, write_text
from genolm.genome.alphabet import to_array
from genolm.inference.predict import OutputFunction, predict_rows
from genolm.labels.collate import LabelCollator, RowEncoder, check_lengths
from genolm.labels.dataset import Labelled
from genolm.models.label_model import open_backbone
from genolm.models.language_model import max_row_tokens
from genolm.models.precision import available_device
from genolm.tokenizers.build import load_tokenizer
from genolm.tokenizers.encode import Encoder, make_encoder

POOLING = ("mean", "cls", "per-base", "tokens")
VALUES_IN_MEMORY = 1 << 24
"""Numbers of vectors in memory at a time; more where a single batch has more."""


def check_pooling(pooling: str, both_strands: bool, windows: bool) -> None:
    """Raise ValueError for an unknown pooling, or options that it does not allow."""
    if pooling not in POOLING:
        raise ValueError(f"--pool is {pooling!r}; allowed: {', '.join(POOLING)}")
    if pooling == "tokens" and both_strands:
        raise ValueError("--both-strands: tokens of the other strand lie elsewhere; take --pool per-base")
    if windows and pooling in ("per-base", "tokens"):
        raise ValueError(f"--windows averages over pieces, and --pool {pooling} does not; cut the sequences yourself")


def layer_of(layer: int, num_layers: int) -> int:
    """Return the index of a layer among the hidden states: 0 is the embedding, num_layers the last layer.

    Raises:
        ValueError: there is no such layer.
    """
    if not -num_layers - 1 <= layer <= num_layers:
        raise ValueError(
            f"layer is {layer}; the model has {num_layers}: allowed are 0, the embedding, to {num_layers}, or -1, the "
            f"last, to {-num_layers - 1}"
        )
    return layer if layer >= 0 else num_layers + 1 + layer


def pooled_states(model: Any, pooling: str, layer: int) -> OutputFunction:
    """Return a function from a batch to its vectors: (B, D), or (B, W or L, D) of bases or tokens.

    The mean is over all tokens except padding, as in fine-tuning. A base has the vector of the token over it; of
    overlapping k-mers, of the one it is in the middle of. Arguments as `write_vectors`.
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
    """Return (n,) int64, the number of vectors of each sequence."""
    if pooling in ("mean", "cls"):
        return np.ones(len(sequences), dtype=np.int64)
    if pooling == "per-base":
        return np.array([len(sequence) for sequence in sequences])
    return np.array([len(token_bases(encoder, sequence)[0]) for sequence in sequences])


def token_bases(encoder: Encoder, sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first base and one past the last of each token of a sequence, without special tokens."""
    encoded = encoder.encode_batch(to_array(sequence)[None], special_tokens=False)
    return encoded.start[0], encoded.end[0]


def open_embedder(folder: Path, rows: Labelled, pooling: str, windows: bool = False) -> tuple[Any, LabelCollator]:
    """Open the backbone of a model folder, and return it with the collator of some rows.

    Args:
        folder: of the model.
        rows: of `unlabelled_rows`.
        pooling: one of POOLING.
        windows: cut what is too long for the model into pieces.

    Raises:
        ValueError: the pooling does not fit the tokenizer, or a row the model.
    """
    backbone: Any = open_backbone(folder).eval()
    backbone.to(available_device())
    encoder = make_encoder(load_tokenizer(folder))
    if pooling == "cls" and not encoder.prefix_ids:
        raise ValueError(f"--pool is cls, and the tokenizer of {folder} puts no token before a sequence; take mean")
    row_encoder = RowEncoder(encoder, max_row_tokens(backbone.config), cut=windows, per_base=pooling == "per-base")
    try:
        check_lengths(row_encoder, rows)
    except ValueError as error:
        problem, advice, _ = str(error).partition("Shorten it, or learn with long_inputs")
        averaged = ", or give --windows, which averages over its pieces" if pooling in ("mean", "cls") else ""
        raise ValueError(f"{problem}Shorten it{averaged}" if advice else problem) from None
    return backbone, LabelCollator(rows, row_encoder, in_order=True)


def vectors_of(
    model: Any,
    collator: LabelCollator,
    pooling: str,
    layer: int,
    *,
    batch_size: int = 64,
    both_strands: bool = False,
    progress: bool = False,
) -> Iterator[list[np.ndarray]]:
    """Yield the vectors of all rows in order, as many rows at a time as fit in memory: each (1, D), or of its bases or
    tokens.

    Args:
        model: a backbone.
        collator: holds the rows, in order; for pooling `per-base` its RowEncoder gives the token of each base.
        pooling: one of POOLING.
        layer: as `layer_of` takes it.
        batch_size: rows in a forward pass.
        both_strands: the mean of both strands' vectors, at the bases of the given one; not of tokens.
        progress: show a bar.
    """
    labelled, encoder = collator.labelled, collator.rows.encoder
    output = pooled_states(model, pooling, layer_of(layer, model.config.num_hidden_layers))
    count, width, row = num_vectors(encoder, labelled.sequences, pooling), 0, 0
    first = len(encoder.prefix_ids) if collator.rows.special_tokens else 0
    with progress_bar(total=len(labelled), desc="embedding", unit="seq", disable=not progress) as bar:
        while row < len(labelled):
            # One batch until D is known.
            most = max(1, VALUES_IN_MEMORY // width) if width else 0
            end = row + max(1 if width else batch_size, int(np.searchsorted(count[row:].cumsum(), most)))
            part = labelled.select(np.arange(row, min(end, len(labelled))))
            options = {"batch_size": batch_size, "both_strands": both_strands, "output": output}
            vectors = predict_rows(model, replace(collator, labelled=part), **options)
            if pooling == "tokens":
                vectors = [x[first : first + n] for x, n in zip(vectors, count[row:end], strict=False)]
            vectors = [np.asarray(x, dtype=np.float32).reshape(-1, x.shape[-1]) for x in vectors]
            width = vectors[0].shape[1]
            yield vectors
            row += len(part)
            bar.update(len(part))


def write_vectors(out: Path, model: Any, collator: LabelCollator, pooling: str, layer: int, **options: Any) -> int:
    """Write the vectors of all rows, in order and atomically, and return their size D.

    Args:
        out: .parquet or .npy.
        model: as `vectors_of`, and all that follows.
        collator: the rows.
        pooling: one of POOLING.
        layer: of the hidden states.
        options: further arguments of `vectors_of`.
    """
    labelled, encoder, row, width = collator.labelled, collator.rows.encoder, 0, 0
    count = num_vectors(encoder, labelled.sequences, pooling)
    with (_parquet if out.suffix == ".parquet" else _npy)(out, labelled, count, pooling, encoder) as write:
        for vectors in vectors_of(model, collator, pooling, layer, **options):
            write(row, np.concatenate(vectors))
            row, width = row + len(vectors), vectors[0].shape[1]
    return width


@contextmanager
def _npy(out: Path, labelled: Labelled, count: np.ndarray, pooling: str, encoder: Encoder) -> Iterator[Any]:
    """Write (N, D) float32, and the table `NAME.rows.tsv`: id, first row and one past the last."""
    ends = count.cumsum()
    with atomic_path(out) as aside:
        array: Any = None

        def write(row: int, vectors: np.ndarray) -> None:
            nonlocal array
            if array is None:
                shape = (int(ends[-1]), vectors.shape[1])
                array = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=shape)
            first = int(ends[row] - count[row])
            array[first : first + len(vectors)] = vectors

        yield write
        array.flush()
        rows = zip(labelled.ids, ends.tolist(), count.tolist(), strict=True)
        table = "".join(f"{name}\t{last - num}\t{last}\n" for name, last, num in rows)
        write_text(out.with_name(f"{out.stem}.rows.tsv"), f"id\tfirst\tend\n{table}")


@contextmanager
def _parquet(out: Path, labelled: Labelled, count: np.ndarray, pooling: str, encoder: Encoder) -> Iterator[Any]:
    """Write a row group for each part."""
    with atomic_path(out) as aside:
        writer: Any = None

        def write(row: int, vectors: np.ndarray) -> None:
            nonlocal writer
            num = int(np.searchsorted(count[row:].cumsum(), len(vectors))) + 1
            rows = slice(row, row + num)
            column: Any = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            columns = {"id": pa.array([str(name) for name in labelled.ids[rows]])}
            if pooling in ("per-base", "tokens"):
                offsets = pa.array(np.concatenate([[0], count[rows].cumsum()]).astype(np.int32))
                column = pa.ListArray.from_arrays(offsets, column)
                if pooling == "tokens":
                    bases = [token_bases(encoder, sequence) for sequence in labelled.sequences[rows]]
                    for key, values in zip(("start", "end"), zip(*bases, strict=True), strict=True):
                        columns[key] = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(values)))
            table = pa.table({**columns, "embedding": column})
            if writer is None:
                # A dictionary of floats would be tried in vain: they do not repeat.
                writer = pq.ParquetWriter(aside, table.schema, use_dictionary=["id"])  # type: ignore[arg-type]
            writer.write_table(table)

        try:
            yield write
        finally:
            if writer is not None:
                writer.close()
