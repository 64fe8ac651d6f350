import gzip
import json
import pickle
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genolm.data.collate import CausalCollator, MaskedCollator, Masking
from genolm.data.stream import Sequences, StreamCorpus, StreamError, write_first
from genolm.genome.alphabet import reverse_complement, to_text
from genolm.genome.fasta import read_fasta
from genolm.tokenizers.build import build_tokenizer, load_spec
from genolm.tokenizers.encode import make_encoder

rng = np.random.default_rng(0)
ROWS = ["".join(rng.choice(list("ACGT"), n)) for n in rng.integers(5, 400, size=300)]
ENCODER = make_encoder(build_tokenizer(load_spec("char")))


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "rows.parquet"
    pq.write_table(pa.table({"sequence": ROWS, "other": list(range(300))}), path, row_group_size=50)
    return path


def corpus(path, **options):
    made = StreamCorpus(Sequences(str(path)), ENCODER, 64, **{"seed": 3, **options})
    made.block = 128  # several blocks in an epoch
    made._restart()
    return made


def pieces_of_rows():
    return [row[i : i + 64] for row in ROWS for i in range(0, len(row), 64)]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "jsonl.gz", "csv", "folder"])
def test_every_form_gives_the_same_sequences(parquet, tmp_path, form):
    lines = "".join(json.dumps({"sequence": row, "x": 1}) + "\n" for row in ROWS)
    path = tmp_path / f"rows.{form}"
    if form == "parquet":
        path = parquet
    elif form == "jsonl":
        path.write_text(lines)
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif form == "csv":
        path.write_text("id,sequence\n" + "".join(f"{i},{row}\n" for i, row in enumerate(ROWS)))
    else:
        path.mkdir()
        (path / "train.jsonl").write_text(lines)
    assert [to_text(letters) for letters in Sequences(str(path))] == ROWS


def test_a_pass_shows_every_window_once(parquet):
    c = corpus(parquet, reverse_complement=0.0)
    expected = pieces_of_rows()
    blocks = -(-len(expected) // c.block)
    letters, lengths, _, _ = c._letters(np.arange(blocks * c.block))
    found = [to_text(row[:n]) for row, n in zip(letters, lengths, strict=True)]
    again = expected + expected[: blocks * c.block - len(expected)]
    assert sorted(found) == sorted(again)
    assert found[: c.block] != again[: c.block]  # shuffled


def test_a_sample_is_the_same_whoever_reads_it(parquet):
    collate = CausalCollator(corpus(parquet, pack=True))
    together = [collate(range(i, i + 8)) for i in range(0, 400, 8)]
    # Two workers that take turns, and a restart in the middle.
    for numbers in (range(0, 50, 2), range(1, 50, 2), range(30, 50)):
        reader = CausalCollator(pickle.loads(pickle.dumps(corpus(parquet, pack=True))))
        for i in numbers:
            batch = reader(range(8 * i, 8 * i + 8))
            for name in batch:
                assert (batch[name] == together[i][name]).all()


def test_reading_back_starts_over(parquet):
    c = corpus(parquet)
    first = c.examples(range(8)).ids
    c.examples(range(700, 708))
    assert (c.examples(range(8)).ids == first).all()


def test_short_sequences_are_packed_and_whole_ones_end_with_eos(parquet):
    c = corpus(parquet, pack=True, reverse_complement=0.0)
    examples = c.examples(np.arange(128))
    short = [piece for piece in pieces_of_rows() if len(piece) < 64]
    seen = {True: 0, False: 0}
    for ids in examples.ids:
        tokens = "".join({7: "A", 8: "C", 9: "G", 10: "T", 6: ".", 0: " "}[i] for i in ids.tolist())
        if "." not in tokens and " " not in tokens:
            continue
        for part in re.findall(r"[ACGT]+[. ]", tokens):
            assert part[:-1] in short
            whole = part[:-1] in ROWS
            assert (part[-1] == ".") == whole
            seen[whole] += 1
    assert min(seen.values()) > 5
    none = corpus(parquet, pack=True, eos=False).examples(np.arange(128))
    assert not (none.ids == ENCODER.eos_id).any()


def test_strands_and_masks_are_drawn_for_the_sample(parquet):
    c = corpus(parquet, reverse_complement=0.5)
    letters, lengths, units, flip = c._letters(np.arange(128))
    assert 30 < flip.sum() < 98
    for row in range(128):
        piece = reverse_complement(units[row][0][0]) if flip[row] else units[row][0][0]
        assert to_text(letters[row, : lengths[row]]) == to_text(piece)
    batch = MaskedCollator(c, Masking(ENCODER))(range(32))
    assert (batch["attention_mask"].sum(1).numpy() == lengths[:32]).all()


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ('{"sequence": "ACGT*"}\n', "sequence", r"row 0 of train has '\*' at 4"),
        ('{"sequence": 5}\n', "sequence", "is int; it must be text"),
        ('{"sequence": "ACGT"}\n', "dna", "no column 'dna'; it has sequence"),
    ],
)
def test_a_bad_dataset_is_one_error(tmp_path, content, column, message):
    (tmp_path / "x.jsonl").write_text(content)
    with pytest.raises(StreamError, match=message):
        list(Sequences(str(tmp_path / "x.jsonl"), column=column))


def test_an_unknown_dataset_is_one_error(tmp_path):
    (tmp_path / "x.docx").write_text("")
    with pytest.raises(StreamError, match="unknown format"):
        list(Sequences(str(tmp_path / "x.docx")))
    with pytest.raises(StreamError, match="no dataset that the Hub gives"):
        list(Sequences("nobody/nothing-of-this-name"))


def test_no_letters_at_all_is_an_error(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"sequence": ""}\n')
    with pytest.raises(StreamError, match="holds no bases"):
        StreamCorpus(Sequences(str(tmp_path / "x.jsonl")), ENCODER, 64).examples([0])


def test_the_first_bases_are_kept_as_a_genome(parquet, tmp_path):
    write_first(Sequences(str(parquet)), 1000, tmp_path / "a" / "train.fa")
    kept = "".join(to_text(block.letters) for block in read_fasta(tmp_path / "a" / "train.fa"))
    assert kept == "".join(ROWS)[:1000]
    before = (tmp_path / "a" / "train.fa").stat().st_mtime_ns
    write_first(Sequences(str(parquet)), 1000, tmp_path / "a" / "train.fa")
    assert (tmp_path / "a" / "train.fa").stat().st_mtime_ns == before
