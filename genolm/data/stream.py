"""Stream sequence datasets with `datasets` into training examples, as `Corpus` does for genomes.

Sequences are cut into windows, in order; what is shorter is packed (causal) or padded (masked). Windows are shuffled
within blocks: block b of S windows is visited in an order drawn from (seed, b), so that sample number n is always the
same window, whatever the number of workers and ranks. Each of them reads the stream for itself and encodes its own
sample numbers only; after a restart it reads ahead to the requested sample number.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genolm.data import rng
from genolm.data.corpus import (
    STREAM_ORDER,
    STREAM_STRAND,
    Examples,
    base_weights,
    encode_rows,
    fill_packed,
    flip_rows,
    length_tokens,
)
from genolm.genome.alphabet import POLICY, REFUSED, to_array
from genolm.tokenizers.encode import Encoder

FILES = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv"}
READ_ROWS = 64

Unit = list[tuple[np.ndarray, bool]]
"""The pieces of a window, each with whether it is a whole sequence."""


class StreamError(ValueError):
    """A sequence dataset that cannot be read."""


@dataclass(frozen=True)
class Sequences:
    """The sequences of one split of a dataset, read again by every iteration.

    Attributes:
        path: a Parquet, JSONL or CSV file (plain or .gz), a folder of such, or a Hub name.
        split: split of it; a single file has only `train`.
        column: which column holds the sequence.
        name: configuration, where a Hub dataset has several.
    """

    path: str
    split: str = "train"
    column: str = "sequence"
    name: str | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield each sequence, uint8 (length,), under the policy of `genolm.genome.alphabet`."""
        number = 0
        for batch in self._open().iter(batch_size=READ_ROWS):
            if self.column not in batch:
                raise StreamError(f"{self.path} has no column {self.column!r}; it has {', '.join(batch)}")
            for sequence in batch[self.column]:
                yield self._letters(sequence, number)
                number += 1

    def _letters(self, sequence: Any, number: int) -> np.ndarray:
        where = f"{self.path}: {self.column} of row {number} of {self.split}"
        if not isinstance(sequence, str):
            raise StreamError(f"{where} is {type(sequence).__name__}; it must be text")
        letters = POLICY[to_array(sequence.encode("latin-1", "replace"))]
        if (letters == REFUSED).any():
            at = int(np.flatnonzero(letters == REFUSED)[0])
            raise StreamError(f"{where} has {sequence[at]!r} at {at}; allowed are A, C, G, T, N and IUPAC codes")
        return letters

    def _open(self):
        from datasets import load_dataset

        path = Path(self.path)
        suffix = Path(path.name.removesuffix(".gz")).suffix
        try:
            if path.is_file():
                if suffix not in FILES:
                    raise StreamError(f"{path}: unknown format; allowed: {', '.join(FILES)}, each also .gz")
                options: dict[str, Any] = {"sep": "\t"} if suffix == ".tsv" else {}
                data = load_dataset(
                    FILES[suffix], data_files={"train": str(path)}, split=self.split, streaming=True, **options
                )
            else:
                data = load_dataset(self.path, self.name, split=self.split, streaming=True)
        except StreamError:
            raise
        except (ValueError, OSError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise StreamError(
                f"{self.path} is no local file or folder that can be read, and no dataset that the Hub gives: {first}"
            ) from error
        # Formats whose columns are known up front, such as Parquet, then read no other column.
        return data.select_columns([self.column]) if self.column in (data.column_names or ()) else data


class StreamCorpus:
    """Training examples of a streamed dataset, addressed by sample numbers in ascending order.

    Args:
        sequences: the sequences; read again when they end.
        encoder: sequence → ids.
        window_bp: window length in bp.
        seed: of the shuffle and the strands.
        reverse_complement: probability that a window is read from the other strand.
        soft_masked_weight: loss weight of lower-case letters.
        pack: concatenate sequences shorter than a window, instead of padding each.
        eos: end each packed sequence with EOS; a part of a longer one has none.
    """

    windows_per_epoch = None

    def __init__(
        self,
        sequences: Sequences,
        encoder: Encoder,
        window_bp: int,
        *,
        seed: int = 0,
        reverse_complement: float = 0.5,
        soft_masked_weight: float = 1.0,
        pack: bool = False,
        eos: bool = True,
    ):
        self.sequences, self.encoder, self.window_bp, self.seed = sequences, encoder, window_bp, seed
        self.reverse_complement, self.pack, self.eos = reverse_complement, pack, eos
        self._weights = base_weights(soft_masked_weight)
        # At most 16 Mb, so that long windows do not fill the memory.
        self.block = max(64, min(4096, 2**24 // window_bp))
        self._restart()
        self.may_pad = True
        self.length_tokens = length_tokens(encoder, window_bp, lambda: self._letters(np.arange(self.block))[:2])
        self._restart()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_units", "_blocks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._restart()

    def examples(self, samples: Sequence[int] | np.ndarray) -> Examples:
        """Return the examples of these sample numbers; each row depends on its own number only."""
        samples = np.asarray(samples, dtype=np.int64)
        letters, lengths, units, flip = self._letters(samples)
        examples = encode_rows(self.encoder, letters, lengths, self._weights, self.length_tokens)
        for row, pieces in enumerate(units):
            if self.pack and len(pieces[0][0]) < self.window_bp:
                fill_packed(examples, row, pieces, bool(flip[row]), self.encoder, self._weights, self.eos)
        return examples

    def _letters(self, samples: np.ndarray):
        """Return (B, W) bases and (B,) lengths of the first piece of each sample, all its pieces, its strand."""
        block, index = np.divmod(samples, self.block)
        index = rng.permute(self.seed, STREAM_ORDER, index, self.block, block)
        units = [self._block_of_windows(b)[i] for b, i in zip(block.tolist(), index.tolist(), strict=True)]
        letters = np.zeros((len(samples), self.window_bp), dtype=np.uint8)
        lengths = np.array([len(pieces[0][0]) for pieces in units])
        for row, pieces in zip(letters, units, strict=True):
            row[: len(pieces[0][0])] = pieces[0][0]
        flip = rng.uniform(self.seed, STREAM_STRAND, samples) < self.reverse_complement
        flip_rows(letters, lengths, flip)
        return letters, lengths, units, flip

    def _restart(self) -> None:
        self._units = self._endless()
        self._blocks: dict[int, list[Unit]] = {}
        self._read = 0

    def _block_of_windows(self, number: int) -> list[Unit]:
        """Return a block of windows; the last two are kept, since a batch may lie across two."""
        if number not in self._blocks and number < self._read:
            self._restart()
        while number not in self._blocks:
            self._blocks[self._read] = [next(self._units) for _ in range(self.block)]
            self._blocks.pop(self._read - 2, None)
            self._read += 1
        return self._blocks[number]

    def _endless(self) -> Iterator[Unit]:
        while True:
            empty = True
            for unit in self._once():
                empty = False
                yield unit
            if empty:
                raise StreamError(f"{self.sequences.path}: split {self.sequences.split} holds no bases")

    def _once(self) -> Iterator[Unit]:
        """Yield the pieces of each window of one pass: one of a full window, or short ones packed together."""
        waiting: Unit = []
        room = self.window_bp
        for letters in self.sequences:
            for start in range(0, len(letters), self.window_bp):
                piece = letters[start : start + self.window_bp]
                if not self.pack or len(piece) == self.window_bp:
                    yield [(piece, len(piece) == len(letters))]
                    continue
                if waiting and len(piece) + 1 > room:
                    yield waiting
                    waiting, room = [], self.window_bp
                waiting.append((piece, len(piece) == len(letters)))
                room -= len(piece) + 1
        if waiting:
            yield waiting


def write_first(sequences: Sequences, max_bp: int, path: Path) -> None:
    """Write the first `max_bp` bases of a dataset as FASTA, records named by row, unless they are written already."""
    description = path.with_suffix(".json")
    request = json.dumps({**dataclasses.asdict(sequences), "max_bp": max_bp})
    if description.is_file() and path.is_file() and description.read_text() == request:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    description.unlink(missing_ok=True)
    left = max_bp
    with path.open("wb") as file:
        for row, letters in enumerate(sequences):
            if left <= 0:
                break
            file.write(b">row%d\n%s\n" % (row, letters[:left].tobytes()))
            left -= len(letters)
    description.write_text(request)
