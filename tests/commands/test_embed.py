"""Embeddings against those computed by hand with transformers; every file, pooling, layer and strand."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from labelled_runs import BERT, GENOLM, letters, pretrain
from transformers import AutoModel

from genolm import cli
from genolm.inference import embed as vectors
from genolm.tokenizers.build import TokenizerSpec, build_tokenizer, load_tokenizer

MODELS = {
    "char": (GENOLM, "char", "masked"),
    "causal": (GENOLM, "char", "causal"),
    "kmer": ({**BERT, "num_hidden_layers": 3}, "kmer3", "masked"),
    "overlapping": (BERT, "kmer3-overlapping", "masked"),
    "framed": (BERT, "dnabert-3", "masked"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed")
    for name, (model, tokenizer, kind) in MODELS.items():
        pretrain(folder, name, model, tokenizer, kind)
    rng = np.random.default_rng(5)
    rows = [letters(rng, int(n)) for n in (40, 12, 64, 33, 7, 50, 12)]
    (folder / "x.fa").write_text("".join(f">s{i} about it\n{x[:20].lower()}\n{x[20:]}\n" for i, x in enumerate(rows)))
    contig = "NN".join(rows)
    starts = np.cumsum([0, *(len(x) + 2 for x in rows[:-1])])
    (folder / "genome.fasta").write_text(f">one\n{contig}\n")
    (folder / "x.bed").write_text(
        "".join(f"one\t{a}\t{a + len(x)}\tat{a}\n" for a, x in zip(starts, rows, strict=True))
    )
    return folder


@pytest.fixture
def embed(capfd, monkeypatch):
    monkeypatch.setitem(cli.VERBS, "embed", "vectors")

    def run(*arguments):
        capfd.readouterr()
        try:
            cli.main(["embed", *map(str, arguments)])
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, "".join(capfd.readouterr())

    return run


def sequences(folder):
    return ["".join(part.split("\n")[1:]).upper() for part in (folder / "x.fa").read_text().split(">")[1:]]


def by_hand(folder, name, sequence, layer=-1):
    """Hidden states of one row (L, D), and which of its tokens are the sequence's."""
    checkpoint = folder / name / "checkpoint"
    model = AutoModel.from_pretrained(checkpoint).eval()
    inputs = load_tokenizer(checkpoint)(sequence, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**inputs, output_hidden_states=True).hidden_states[layer][0].numpy()
    special = set(load_tokenizer(checkpoint).all_special_ids)
    return hidden, np.array([i not in special for i in inputs["input_ids"][0].tolist()])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layer", [-1, 0, 1])
def test_the_mean_is_over_all_tokens_of_a_layer(folder, embed, tmp_path, name, layer):
    out = tmp_path / "x.parquet"
    code, told = embed(folder / name, folder / "x.fa", "--out", out, "--layer", layer, "--batch-size", 3)
    assert code == 0 and "7 sequences, vectors of 16" in told, told
    table = pq.read_table(out)
    assert table["id"].to_pylist() == [f"s{i}" for i in range(7)]
    found = np.array(table["embedding"].to_pylist())
    for sequence, vector in zip(sequences(folder), found, strict=True):
        hidden, _ = by_hand(folder, name, sequence, layer)
        np.testing.assert_allclose(vector, hidden.mean(0), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_every_kind_of_file_holds_the_same(folder, embed, tmp_path, monkeypatch):
    monkeypatch.setattr(vectors, "VALUES_IN_MEMORY", 16 * 45)  # many parts
    bed = [folder / "x.bed", "--fasta", folder / "genome.fasta"]
    for pool in ("mean", "per-base", "tokens"):
        found = {}
        for key, source in (("fa", [folder / "x.fa"]), ("bed", bed)):
            for size in (1, 4):
                for suffix in ("npy", "parquet"):
                    out = tmp_path / f"{key}{size}.{suffix}"
                    options = ["--out", out, "--pool", pool, "--batch-size", size]
                    assert embed(folder / "kmer", *source, *options)[0] == 0
                    if suffix == "npy":
                        values = np.load(out)
                        places = [line.split("\t") for line in out.with_suffix(".rows.tsv").read_text().splitlines()]
                        assert (
                            places[0] == ["id", "first", "end"]
                            and len(places) == 8
                            and len(values) == int(places[-1][2])
                        )
                        names = [place[0] for place in places[1:]]
                        values = [values[int(first) : int(end)] for _, first, end in places[1:]]
                    else:
                        table = pq.read_table(out)
                        names = table["id"].to_pylist()
                        values = [np.array(x).reshape(-1, 16) for x in table["embedding"].to_pylist()]
                    assert names[2] == ("s2" if key == "fa" else names[2]) and len(set(names)) == 7
                    found[out.name] = values
        assert list(tmp_path.glob("*.partial")) == []
        for values in found.values():
            for one, other in zip(values, found["fa1.npy"], strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)
                assert one.dtype in (np.float32, np.float64)
    assert np.load(tmp_path / "fa1.npy").dtype == np.float32


def test_tokens_and_the_bases_they_spell(folder, embed, tmp_path):
    for name in MODELS:
        assert embed(folder / name, folder / "x.fa", "--out", tmp_path / "x.parquet", "--pool", "tokens")[0] == 0
        for sequence, row in zip(sequences(folder), pq.read_table(tmp_path / "x.parquet").to_pylist(), strict=True):
            hidden, mine = by_hand(folder, name, sequence)
            np.testing.assert_allclose(row["embedding"], hidden[mine], atol=1e-5)
            num, k = len(sequence), 1 if name in ("char", "causal") else 3
            if name == "kmer":
                expected = [(i, i + 3) for i in range(0, num - 2, 3)] + [(i, i + 1) for i in range(num - num % 3, num)]
            else:
                expected = [(i, i + k) for i in range(num - k + 1)]
            assert list(zip(row["start"], row["end"], strict=True)) == expected


def test_a_base_has_the_vector_of_its_token(folder, embed, tmp_path):
    for name in MODELS:
        assert embed(folder / name, folder / "x.fa", "--out", tmp_path / "x.parquet", "--pool", "per-base")[0] == 0
        found = pq.read_table(tmp_path / "x.parquet")["embedding"].to_pylist()
        for sequence, vectors_ in zip(sequences(folder), found, strict=True):
            hidden, mine = by_hand(folder, name, sequence)
            hidden, num = hidden[mine], len(sequence)
            if name == "kmer":
                token = [
                    base // 3 if base < num - num % 3 else num // 3 + base - (num - num % 3) for base in range(num)
                ]
            elif name in ("overlapping", "framed"):
                token = [min(max(base - 1, 0), num - 3) for base in range(num)]
            else:
                token = list(range(num))
            np.testing.assert_allclose(vectors_, hidden[token], atol=1e-5)


def test_both_strands_are_averaged_at_their_bases(folder, embed, tmp_path):
    rows = sequences(folder)
    other = [row[::-1].translate(str.maketrans("ACGT", "TGCA")) for row in rows]
    (tmp_path / "other.fa").write_text("".join(f">s{i}\n{x}\n" for i, x in enumerate(other)))

    def of(source, pool, *options):
        out = tmp_path / "x.parquet"
        assert embed(folder / "char", source, "--out", out, "--pool", pool, *options)[0] == 0
        return [np.array(x) for x in pq.read_table(out)["embedding"].to_pylist()]

    for pool in ("mean", "per-base"):
        here, there = of(folder / "x.fa", pool), of(tmp_path / "other.fa", pool)
        both, back = of(folder / "x.fa", pool, "--both-strands"), of(tmp_path / "other.fa", pool, "--both-strands")
        for a, b, mean, again in zip(here, there, both, back, strict=True):
            turned = b[::-1] if pool == "per-base" else b
            np.testing.assert_allclose(mean, (a + turned) / 2, atol=1e-5)
            np.testing.assert_allclose(again[::-1] if pool == "per-base" else again, mean, atol=1e-5)
            assert np.abs(a - turned).max() > 1e-4


def test_the_first_token_speaks_where_there_is_one(folder, embed, tmp_path):
    out = tmp_path / "x.npy"
    assert embed(folder / "framed", folder / "x.fa", "--out", out, "--pool", "cls")[0] == 0
    for sequence, vector in zip(sequences(folder), np.load(out), strict=True):
        np.testing.assert_allclose(vector, by_hand(folder, "framed", sequence)[0][0], atol=1e-5)
    code, told = embed(folder / "kmer", folder / "x.fa", "--out", out, "--pool", "cls")
    assert code == 2 and "puts no token before a sequence; take mean" in told


def test_windows_splits_long_sequences_into_pieces(folder, embed, tmp_path):
    row = letters(np.random.default_rng(1), 400)
    (tmp_path / "long.fa").write_text(f">short\nACGTTGCA\n>long\n{row}\n")
    options = [tmp_path / "long.fa", "--out", tmp_path / "x.npy"]
    code, told = embed(folder / "char", *options)
    expected = "long.fa:3: a sequence of 400 bp has 400 tokens; the model takes 80. Shorten it, or give --windows"
    assert code == 2 and expected in told and not (tmp_path / "x.npy").exists()
    assert "long_inputs" not in told and "--windows" not in embed(folder / "char", *options, "--pool", "per-base")[1]
    assert embed(folder / "char", *options, "--windows")[0] == 0
    pieces = [by_hand(folder, "char", row[i : i + 80])[0].mean(0) for i in range(0, 400, 80)]
    np.testing.assert_allclose(np.load(tmp_path / "x.npy")[1], np.mean(pieces, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--out", "x.csv"], "its name must end in .parquet or .npy"),
        (["--pool", "max"], "--pool is 'max'; allowed: mean, cls, per-base, tokens"),
        (["--layer", "3"], "layer is 3; the model has 2: allowed are 0, the embedding, to 2, or -1, the last, to -3"),
        (["--layer", "-4"], "layer is -4"),
        (["--pool", "tokens", "--both-strands"], "take --pool per-base"),
        (["--pool", "per-base", "--windows"], "--windows averages over pieces"),
        (["--fasta", "x.fa"], "--column and --fasta are for tables"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(folder, embed, tmp_path, options, expected):
    given = [] if "--out" in options else ["--out", str(tmp_path / "x.parquet")]
    code, told = embed(folder / "char", folder / "x.fa", *given, *options)
    last = [line for line in told.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(last) == 1 and expected in last[0], told
    assert list(tmp_path.iterdir()) == []


def test_the_place_of_a_layer_and_the_number_of_vectors():
    assert [vectors.layer_of(i, 3) for i in (-1, -4, 0, 3)] == [3, 0, 0, 3]
    from genolm.tokenizers.encode import make_encoder

    encoder = make_encoder(build_tokenizer(TokenizerSpec("kmer", k=3)))
    rows = ["ACGTA", "ACNGT", "ACGTAC"]
    assert vectors.num_vectors(encoder, rows, "tokens").tolist() == [3, 5, 2]
    assert vectors.num_vectors(encoder, rows, "per-base").tolist() == [5, 5, 6]
    assert vectors.num_vectors(encoder, rows, "mean").tolist() == [1, 1, 1]
