"""New sequences from every kind of file, in their order, and mistakes as one line."""

import csv
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_runs import BERT, finetune, letters, predictions, pretrain, write_recipe, write_table

from genolm.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    pretrain(folder, "bert", BERT)
    for kind in ("binary", "multiclass", "multilabel", "regression", "per-base", "tracks"):
        table = write_table(folder, kind)
        options = {"method": "lora", "both_strands": kind == "binary"}
        finetune(write_recipe(folder, kind, folder / "bert", table, kind, **options))
    baseline = {"baseline": "deepbind", "width": 0.1}
    finetune(write_recipe(folder, "baseline", baseline, folder / "binary-0.csv"))
    return folder


@pytest.fixture(scope="module")
def sequences():
    rng = np.random.default_rng(5)
    return [letters(rng, int(n)) for n in (40, 12, 64, 33)]


def predict(capfd, *arguments):
    capfd.readouterr()
    try:
        main(["predict", *map(str, arguments)])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    return code, "".join(capfd.readouterr()).replace("\n", " ")


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def test_one_answer_from_every_kind_of_file(folder, sequences, tmp_path, capfd):
    contig = "NNN".join(sequences)
    starts = np.cumsum([0, *(len(x) + 3 for x in sequences[:-1])])
    places = [(int(s), int(s) + len(x)) for s, x in zip(starts, sequences, strict=True)]
    (tmp_path / "genome.fa").write_text(f">one\n{contig}\n")
    files = {
        "x.csv": "sequence,id\n" + "".join(f"{x},s{i}\n" for i, x in enumerate(sequences)),
        "x.tsv": "dna_text\tother\n" + "".join(f"{x}\t1\n" for x in sequences),
        "x.fa": "".join(f">s{i} about it\n{x[:20].lower()}\n{x[20:]}\n" for i, x in enumerate(sequences)),
        "x.bed": "".join(f"one\t{a}\t{b}\n" for a, b in places),
        "back.bed": "".join(f"one\t{a}\t{b}\tat{a}\t0\t-\n" for a, b in places),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    pq.write_table(pa.table({"sequence": sequences, "id": [f"s{i}" for i in range(4)]}), tmp_path / "x.parquet")
    found = {}
    for name in [*files, "x.parquet"]:
        options = ["--fasta", tmp_path / "genome.fa"] if name.endswith("bed") else []
        options += ["--column", "sequence=dna_text"] if name == "x.tsv" else []
        out = tmp_path / f"{name}.out.csv"
        code, told = predict(capfd, folder / "binary", tmp_path / name, "--out", out, *options)
        assert code == 0 and "4 predictions" in told, told
        found[name] = [float(row["probability_1"]) for row in read(out)]
        if name in ("x.csv", "x.fa", "x.parquet"):
            assert [row["id"] for row in read(out)] == ["s0", "s1", "s2", "s3"]
    for name, values in found.items():  # both strands are read, so that the minus strand says the same too
        np.testing.assert_allclose(values, found["x.csv"], atol=1e-5, err_msg=name)
    assert len(set(found["x.csv"])) == 4


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression", "per-base", "tracks"])
def test_a_run_predicts_again_what_it_predicted(folder, tmp_path, capfd, kind, suffix):
    table = next(folder.glob(f"{kind}-0.*"))
    out = tmp_path / f"out{suffix}"
    code, told = predict(capfd, folder / kind, table, "--out", out)
    assert code == 0, told
    known, rows = predictions(folder / kind), read(out)
    assert len(rows) == 60
    for row in rows:
        if row["id"] not in known:
            continue
        values = [value for name, value in row.items() if name not in ("id", "label")]
        if kind in ("per-base", "tracks"):
            values = values[0] if suffix == ".parquet" else json.loads(values[0])
        found = np.array(values, dtype=float)
        np.testing.assert_allclose(found.reshape(known[row["id"]].shape), known[row["id"]], atol=1e-5)
    if kind == "multiclass":
        names = ["none", "one", "two"]
        for row in rows:
            values = {name: float(row[f"probability_{name}"]) for name in names}
            assert row["label"] == max(values, key=values.get)
    assert list(tmp_path.iterdir()) == [out]


def test_mistakes_are_one_line(folder, sequences, tmp_path, capfd):
    good, long, bad, empty = (tmp_path / name for name in ("x.fa", "long.fa", "bad.fa", "empty.fa"))
    good.write_text(f">a\n{sequences[0]}\n")
    long.write_text(f">a\n{sequences[0]}\n>b\n{'ACGT' * 50}\n")
    bad.write_text(">a\nACGT\n>b\nACQT\n")
    empty.write_text("")
    twice, bed = tmp_path / "twice.csv", tmp_path / "x.bed"
    twice.write_text(f"id,sequence\na,{sequences[0]}\na,{sequences[1]}\n")
    bed.write_text("one\t0\t40\n")
    out = tmp_path / "out.csv"
    cases = [
        ((folder / "binary", long, "--out", out), "long.fa:3: a sequence of 200 bp"),
        ((folder / "baseline", long, "--out", out), "long.fa:3: a sequence of 200 bp"),
        ((folder / "binary", bad, "--out", out), "bad.fa:4: 'Q' in record 'b'"),
        ((folder / "binary", empty, "--out", out), "empty.fa"),
        ((folder / "binary", tmp_path / "none.fa", "--out", out), "none.fa"),
        ((folder / "binary", good, "--out", tmp_path / "out.txt"), "its name must end in .csv, .tsv, .parquet"),
        ((folder / "bert", good, "--out", out), "give a run of `genolm finetune`"),
        ((folder / "bert" / "checkpoint", good, "--out", out), "not what `genolm finetune` writes"),
        ((tmp_path / "nowhere", good, "--out", out), "holds no genolm.json; give a run of `genolm finetune`"),
        ((folder / "binary", twice, "--out", out), "twice.csv:3: .*--column id=null numbers the rows"),
        ((folder / "binary", bed, "--out", out), "x.bed: .*set --fasta"),
        (
            (folder / "binary", good, "--out", out, "--column", "seqence=x"),
            "is a FASTA; --column and",
        ),
    ]
    for arguments, message in cases:
        code, told = predict(capfd, *arguments)
        assert "Traceback" not in told and (code == 2) and re.search(message, told), (arguments, code, told)
    assert not out.exists()
    assert predict(capfd, folder / "binary", twice, "--out", out, "--column", "id=null")[0] == 0


def test_an_answer_does_not_depend_on_the_batch(folder, sequences, tmp_path, capfd):
    path = tmp_path / "x.csv"
    path.write_text("sequence\n" + "".join(f"{x}\n" for x in sequences))
    found = []
    for size in (1, 3, 64):
        predict(capfd, folder / "binary", path, "--out", tmp_path / "out.csv", "--batch-size", size)
        found.append([float(row["probability_1"]) for row in read(tmp_path / "out.csv")])
    np.testing.assert_allclose(found[1:], [found[0]] * 2, atol=1e-6)
