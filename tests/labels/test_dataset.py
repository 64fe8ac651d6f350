import gzip
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genolm.genome.interval import Interval
from genolm.labels.dataset import Labelled, Task, read_labels, read_rows

ROWS = [("ACGTN", "0"), ("acgta", "1"), ("GGGGG", "1")]
H = "sequence,label\n"
CSV = H + "".join(f"{sequence},{label}\n" for sequence, label in ROWS)


@pytest.fixture
def write(tmp_path):
    """Write a file of this name and text, and return its path."""

    def written(name, content):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return written


def assert_is_the_table(labelled):
    assert labelled.sequences == ["ACGTN", "ACGTA", "GGGGG"]
    assert labelled.labels.tolist() == [0, 1, 1] and labelled.labels.dtype == np.int64
    assert labelled.task == Task("binary", ("0", "1"))
    assert labelled.ids.tolist() == ["row-1", "row-2", "row-3"]
    assert labelled.split.tolist() == [""] * 3 and labelled.intervals is None
    assert labelled.notes == ("task: binary, classes 0, 1 (inferred; set labels.task to say otherwise)",)


@pytest.mark.parametrize(
    ("name", "content", "first", "last"),
    [
        ("a.csv", CSV, 2, 4),
        ("a.csv.gz", CSV, 2, 4),
        ("a.CSV", "\ufeff" + CSV.replace("\n", "\r\n"), 2, 4),
        ("a.csv", CSV.replace("\n", "\r"), 2, 4),
        ("a.tsv", CSV.replace(",", "\t"), 2, 4),
        ("a.txt", CSV.replace(",", "\t"), 2, 4),
        ("a.txt.gz", CSV, 2, 4),
        ("a.csv", CSV.replace("GGGGG", '"GGGGG"').replace("acgta", "\n acgta ").rstrip("\n"), 2, 5),
        ("a.jsonl", "".join(json.dumps({"label": int(y), "sequence": x}) + "\n" for x, y in ROWS), 1, 3),
    ],
)
def test_every_format_gives_the_same_rows(write, name, content, first, last):
    labelled = read_labels(write(name, content))
    assert_is_the_table(labelled)
    assert labelled.source[[0, -1]].tolist() == [f"{name}:{first}", f"{name}:{last}"]


def test_parquet_gives_the_same_rows(tmp_path):
    table = pa.table({"sequence": [x for x, _ in ROWS], "label": [int(y) for _, y in ROWS]})
    pq.write_table(table, tmp_path / "a.parquet")
    labelled = read_labels(tmp_path / "a.parquet")
    assert_is_the_table(labelled)
    assert labelled.source[2] == "a.parquet:row 3"


def test_select_keeps_columns_together(write):
    labelled = read_labels(write("a.csv", "chrom,start,end,id,sequence,label\nc,0,4,x,ACGT,0\nc,4,8,y,TTTT,1\n"))
    for chosen in ([1], np.array([False, True])):
        one = labelled.select(chosen)
        assert len(one) == 1 and one.ids.tolist() == ["y"] and one.sequences == ["TTTT"] and one.labels.tolist() == [1]
        assert one.intervals == [Interval("c", 4, 8)] and one.source.tolist() == ["a.csv:3"]
    assert labelled.select(np.zeros(0)).sequences == []


def test_splits_by_column_and_by_file(write):
    one = read_labels(write("a.csv", "seq,y,split\nAA,0,train\nCC,1,dev\nGG,1,val\nTT,0,test\n"))
    assert one.split.tolist() == ["train", "valid", "valid", "test"]
    assert {"sequence: column 'seq'", "label: column 'y'", "split 'dev': taken as valid"} <= set(one.notes)
    files = {"train": [write("a1.csv", CSV), write("a2.csv", CSV)], "validation": write("b.csv", CSV)}
    several = read_labels(files | {"test": write("c.csv", CSV)})
    assert several.split.tolist() == ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
    assert several.ids[[0, 3, 6, 11]].tolist() == ["train/1/row-1", "train/2/row-1", "valid/row-1", "test/row-3"]
    assert several.source[[0, 3, 6]].tolist() == ["a1.csv:2", "a2.csv:2", "b.csv:2"]


def test_ids_that_do_not_recur_are_left_as_they_are(write):
    table = {
        "train": write("a.csv", "id,sequence,label\nx,A,0\ny,C,1\n"),
        "test": write("b.csv", "id,seq,label\nz,G,1\n"),
    }
    assert read_labels(table).ids.tolist() == ["x", "y", "z"]


def test_a_class_a_file(write):
    negative, positive = write("n.csv", "id,sequence\n1,AA\n2,CC\n"), write("p.csv", "id,sequence\n1,GG\n")
    alone = read_labels({"positive": positive, "negative": negative})
    assert alone.task == Task("binary", ("negative", "positive")) and alone.labels.tolist() == [1, 0, 0]
    assert alone.split.tolist() == [""] * 3 and alone.ids.tolist() == ["positive/1", "negative/1", "negative/2"]
    both = {"negative": negative, "positive": positive}
    split = read_labels({"train": both, "test": both}, classes=["positive", "negative"])
    assert split.labels.tolist() == [1, 1, 0, 1, 1, 0] and split.ids[0] == "train/negative/1"
    assert split.split.tolist() == ["train"] * 3 + ["test"] * 3
    with pytest.raises(ValueError, match="names classes for some splits only"):
        read_labels({"train": both, "test": negative})


FASTA = ">c1\nACGTA\ncgtnR\n>other\nTTTT\n>c2\nGATTACA\n"


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", "chrom,start,end,strand,label\nc2,0,4,-,1\nc1,1,6,+,0\nc1,8,10,.,1\n", None),
        ("a.csv", "id,region,start,end,strand,label\na,c2,0,4,-,1\nb,c1,1,6,+,0\nc,c1,8,10,,1\n", None),
        ("a.tsv", "chr\tchromStart\tchromEnd\tdirection\tclass\nc2\t0\t4\t-\t1\nc1\t1\t6\t+\t0\nc1\t8\t10\t+\t1\n",
         {"strand": "direction"}),
        ("a.bed", "track x\n#c\nc2\t0\t4\t1\t9\t-\nc1\t1\t6\t0\t9\t+\nc1\t8\t10\t1\t9\t+\n", None),
        ("a.bed", "c2 0 4 x 1 -\nc1 1 6 y 0 +\nc1 8 10 z 1 +\n", {"label": "score", "id": "name"}),
    ],
)  # fmt: skip
def test_intervals_are_read_from_fasta(write, name, content, columns):
    fasta = write("g.fa.gz", FASTA)
    labelled = read_labels(write(name, content), fasta=fasta, columns=columns)
    assert labelled.sequences == ["AATC", "CGTAC", "NN"]  # R is no base that can be told
    assert labelled.labels.tolist() == [1, 0, 1]
    assert labelled.intervals is not None
    assert [(x.contig, x.start, x.end) for x in labelled.intervals] == [("c2", 0, 4), ("c1", 1, 6), ("c1", 8, 10)]
    assert sorted(path.name for path in fasta.parent.iterdir()) == sorted([name, "g.fa.gz"])
    assert "IUPAC codes read as N: 1 base" in labelled.notes


def test_a_bed_of_four_columns_and_two_fasta_files(write):
    bed = write("a.bed", "c2\t0\t2\tx\nc1\t0\t2\ty\n")
    labelled = read_labels(bed, fasta=[write("a.fa", ">c1\nAC\n"), write("b.fa", ">c2\nGT\n")])
    assert labelled.sequences == ["GT", "AC"] and labelled.task.names == ("x", "y")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("c1,5,11,1", "a.csv:3: c1:5-11 (0-based, half-open) ends beyond c1, which has 10 bp"),
        ("chrc1,0,3,1", "a.csv:3: no contig 'chrc1' in"),
        ("chrc1,0,3,1", "there it is named 'c1'"),
        ("c1,3,3,1", "a.csv:3: c1:3-3 is no interval"),
        ("c1,0.5,3,1", "a.csv:3: start '0.5' and end '3' must be whole numbers"),
        ("c1,x,3,1", "a.csv:3: start 'x' and end '3' must be whole numbers"),
    ],
)
def test_a_wrong_interval_is_named(write, row, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_labels(write("a.csv", f"chrom,start,end,label\nc1,0,3,0\n{row}\n"), fasta=write("g.fa", FASTA))


TASKS = {
    "words": ("label", ["weak", "none", "strong"], "multiclass", ("none", "strong", "weak"), [2, 0, 1]),
    "numbered": ("label", ["10", "9", "1"], "multiclass", ("1", "9", "10"), [2, 1, 0]),
    "0.0 and 1.0": ("label", ["0.0", "1.0", "1"], "binary", ("0", "1"), [0, 1, 1]),
    "floats": ("label", ["0.5", "-2", "1e-3"], "regression", ("label",), [[0.5], [-2], [0.001]]),
    "a float not known": ("label", ["0.5", "NA", "2"], "regression", ("label",), [[0.5], [np.nan], [2]]),
    "parted": ("label", ["0;1;0", "1;1;0", "0;0;1"], "multilabel", ("label_0", "label_1", "label_2"),
               [[0, 1, 0], [1, 1, 0], [0, 0, 1]]),
    "parted, one not known": ("label", ["0;1", "1;", "nan;0"], "multilabel", ("label_0", "label_1"),
                              [[0, 1], [1, np.nan], [np.nan, 0]]),
    "a list's text": ("label", ["[0, 1]", "[1 1]", "[0,0]"], "multilabel", ("label_0", "label_1"),
                      [[0, 1], [1, 1], [0, 0]]),
    "parted floats": ("label", ["0.1 2", "1 1", "0 0"], "regression", ("label_0", "label_1"),
                      [[0.1, 2], [1, 1], [0, 0]]),
    "a letter a base": ("label", ["0012", "00012", ".2"], "per-base", ("0", "1", "2"),
                        [[0, 0, 1, 2], [0, 0, 0, 1, 2], [-100, 2]]),
    "a number a base": ("label", ["0 0 1 0", "0 0 0 1 0", "0 -100"], "per-base", ("0", "1"),
                        [[0, 0, 1, 0], [0, 0, 0, 1, 0], [0, -100]]),
    "a track": ("label", ["0;.5;1;0", "0;0;0;1;0", "0;nan"], "tracks", ("label",),
                [[[0], [0.5], [1], [0]], [[0], [0], [0], [1], [0]], [[0], [np.nan]]]),
}  # fmt: skip


@pytest.mark.parametrize("case", TASKS)
def test_the_task_is_inferred_and_told(write, case):
    column, values, kind, names, expected = TASKS[case]
    rows = "".join(f"{sequence}\t{value}\n" for sequence, value in zip(["ACGT", "CCCCC", "GG"], values, strict=True))
    labelled = read_labels(write("a.tsv", f"sequence\t{column}\n{rows}"))
    assert labelled.task == Task(kind, names)
    assert any(note.startswith(f"task: {kind}, ") and "inferred" in note for note in labelled.notes)
    for found, wanted in zip(labelled.labels, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    # Asked for, the same task gives the same numbers.
    asked = read_labels(write("a.tsv", f"sequence\t{column}\n{rows}"), task=kind)
    assert asked.task == labelled.task and not any("inferred" in note for note in asked.notes)


def test_lists_of_jsonl_and_parquet_are_labels_too(write, tmp_path):
    rows = [{"sequence": "ACG", "label": [[0.5, 1], [1, None], [0, 0]]}, {"sequence": "AC", "label": [[1, 2], [3, 4]]}]
    tracks = read_labels(write("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert tracks.task == Task("tracks", ("label_0", "label_1"))
    np.testing.assert_array_equal(tracks.labels[0], [[0.5, 1], [1, np.nan], [0, 0]])
    pq.write_table(pa.table({"sequence": ["ACG", "AC"], "label": [[0, 1, None], [1, 0]]}), tmp_path / "a.parquet")
    bases = read_labels(tmp_path / "a.parquet")
    assert bases.task == Task("per-base", ("0", "1")) and bases.labels[0].tolist() == [0, 1, -100]
    assert bases.labels.dtype == object and bases.labels[0].dtype == np.int64


def test_several_columns_are_several_labels_or_targets(write):
    table = write("a.csv", "seq,h3,h4\nAC,0,1\nGT,1,\n")
    labels = read_labels(table, columns={"sequence": "seq", "label": ["h3", "h4"]})
    assert labels.task == Task("multilabel", ("h3", "h4"))
    np.testing.assert_array_equal(labels.labels, [[0, 1], [1, np.nan]])
    assert "1 of 4 labels are not known (NaN)" in labels.notes
    targets = read_labels(write("b.csv", "seq,h3,h4\nAC,0.5,1\nGT,1,3\n"), columns={"label": ["h4", "h3"]})
    assert targets.task == Task("regression", ("h4", "h3")) and targets.labels.tolist() == [[1, 0.5], [3, 1]]


def test_classes_set_the_order_and_asked_tasks_hold(write):
    table = write("a.csv", CSV)
    assert read_labels(table, classes=["1", "0"]).labels.tolist() == [1, 0, 0]
    three = read_labels(table, classes=[2, 1, 0])
    assert three.task == Task("multiclass", ("2", "1", "0")) and three.labels.tolist() == [2, 1, 1]
    assert read_labels(table, task="multiclass").task == Task("multiclass", ("0", "1"))
    assert read_labels(table, task="regression").labels.tolist() == [[0], [1], [1]]
    counts = write("b.csv", "sequence,label\n" + "".join(f"ACGT,{i}\n" for i in range(30)))
    assert read_labels(counts, task="multiclass").labels.max() == 29


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("seq,x\nAC,1\n", {}, "no column for the label (labels.columns.label); it has seq, x"),
        ("s,label\nAC,1\n", {}, "no column for the sequence (labels.columns.sequence), nor chrom"),
        ("s,label\nAC,1\n", {"columns": {"sequence": "dna"}}, "no column 'dna' (labels.columns.sequence)"),
        ("s,label\nAC,1\n", {"columns": {"seqence": "s"}}, "labels.columns.seqence is no column of ours"),
        ("s,label\nAC,1\n", {"columns": {"sequence": ["s"]}}, "labels.columns.sequence is ['s']; give the name of"),
        ("seq\tlabel\nAC\t1\n", {}, "separated by tabs or semicolons"),
        ("ACGTACGTACGT,1\nACGTACGTACGA,0\n", {}, "the first line must name the columns"),
        ("seq,dna,label\nAC,AC,1\n", {}, "sequence may be any of the columns seq, dna"),
        ("sequence,sequence,label\nAC,AC,1\n", {}, "a.csv:1: column 'sequence' is there twice"),
        ("chrom,start,end,label\nc,0,3,1\n", {}, "set labels.fasta"),
        (H + "AC,1\n\n,0\n", {}, "a.csv:4: the sequence is empty"),
        (H + "AC,1\nAZC,0\n", {}, "a.csv:3: 'Z' at position 2 of the sequence is no nucleotide"),
        (H + "AC,1\nMKV*,0\n", {}, "'*' at position 4 of the sequence is no nucleotide"),
        (H + "AC,1\nACG CGT,0\n", {}, "are these k-mers?"),
        (H + "AC,1\nAЖ,0\n", {}, "'Ж' at position 2"),
        ('sequence,label\nAC,1\n"AC\nGT",0\n', {}, r"a.csv:3: '\n' at position 3"),
        (H + "AC,1\nAC,\n", {}, "a.csv:3: the label is missing"),
        (H + "AC,1\nAC,0\nGG,2\n", {"classes": ["0", "1"]}, "a.csv:4: label '2' is not among the classes 0, 1"),
        (H + "AC,1\nAC,0\nGG,2\n", {"task": "binary"}, "labels.task is binary, but there are 3 classes"),
        (H + "AC,1\nAC,1\n", {}, "all 2 rows have the label '1'; one class is no task"),
        (H + "AC,1\nAC,0\n", {"task": "clasification"}, "labels.task is 'clasification'; allowed are binary"),
        ("sequence,label,id\nAC,1,x\nAC,0,x\n", {}, "a.csv:3: id 'x' is also on line 2; ids must differ"),
        ("sequence,label,id\nAC,1,x\nAC,0,\n", {}, "a.csv:3: the id is missing"),
        ("sequence,label,split\nAC,1,train\nAC,0,held\n", {}, "a.csv:3: split is 'held'; allowed are train, valid"),
        (H + "AC,1\nAC\n", {}, "a.csv:3: this row has 1 value, the first line has 2"),
        (H + "AC,1\nAC,1,2\n", {}, "a.csv:3: this row has 3 values, the first line has 2"),
        ('sequence,label\nAC,1\n"AC,1\nAC,0\n', {}, 'a.csv:3: a quote (") is never closed'),
        ('sequence,label\nAC,1\n"AC"G,1\n', {}, "a.csv:3: bad quoting"),
        (b"sequence,label\nAC,1\nAC,\xe9t\xe9\n", {}, "a.csv:3: byte 0xe9 is not UTF-8"),
        ((H + "AC,1\n").encode("utf-16"), {}, "a.csv: this is UTF-16 text"),
        (b"PK\x03\x04zip", {}, "a.csv: this is a zip archive or an Excel file"),
        (b"\x1f\x8b\x08\x00broken", {}, "broken or truncated gzip"),
        (b" \n", {}, "a.csv: the file is empty"),
        (H, {}, "a.csv: the table has no rows"),
        (H + "AC,0.5\nAC,inf\n", {"task": "regression"}, "a.csv:3: label is 'inf'"),
        (H + "AC,0.5\nAC,0.5\n", {}, "label is 0.5 in every row"),
        (H + "ACG,0;1\nACG,1;1;0\nACG,0;0\n", {}, "a.csv:3: 3 labels; the other rows have 2"),
        (H + "ACG,0;1\nACG,\nACG,0;0\n", {}, "a.csv:3: the label is missing"),
        (H + "AC,0;1\nAC,2;1\nACC,3;0\nACCC,3;0\nACCT,3;0\n", {}, "whole numbers other than 0 and 1; set labels.task"),
        (H + "ACGT,0010\nACGT,001\nACGT,0000\n", {}, "a.csv:3: labels of 3 bases, but the sequence has 4"),
        (H + "ACGT,0010\nACGT,001\n", {"task": "per-base"}, "a.csv:3: labels of 3 bases, but the sequence has 4"),
        (H + "AC,0\nAC,2\n", {"task": "multilabel"}, "a.csv:3: label is '2'; a label is 0, 1 or not known"),
        (H + "".join(f"AC,{i}\n" for i in range(21)), {}, "21 different whole numbers: classes or amounts?"),
        (H + "".join(f"AC,n{i}\n" for i in range(101)), {}, "101 different labels, such as 'n0'"),
        (H + "".join(f"AC,{i}.5\n" for i in range(30)) + "AC,x\n", {}, "a.csv:32: label 'x' is no number"),
    ],
)  # fmt: skip
def test_a_bad_table_is_one_clear_error(write, content, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_labels(write("a.csv", content), **options)


def test_a_bad_file_is_one_clear_error(write, tmp_path):
    for path, message in (
        (tmp_path / "none.csv", "none.csv: no such file"),
        (tmp_path, "this is a folder"),
        (write("a.xlsx", "x"), "cannot tell what this is; allowed are .csv"),
        (write("a.parquet", "x"), "not Parquet, or damaged"),
        (write("a.jsonl", '{"sequence": "AC", "label": 1}\n{"sequence"\n'), "a.jsonl:2: not JSON"),
        (write("b.jsonl", "[1]\n"), "b.jsonl:1: list; every line must be one object"),
        (write("c.jsonl", '{"sequence": "AC", "label": 1}\n{"label": 0}\n'), "c.jsonl:2: the sequence is empty"),
        (
            write("d.jsonl", '{"sequence": "AC", "label": 1}\n{"sequence": 3, "label": 0}\n'),
            "d.jsonl:2: the sequence is no",
        ),
        (write("e.jsonl", '{"sequence": "AC", "label": {"a": 1}}\n'), "e.jsonl:1: the label is a dict"),
        (write("a.bed", "#x\nc1 5\n"), "a.bed:2: BED needs chrom, start and end"),
        ({}, "labels.table names no file"),
        ({"train": []}, "labels.table names no file"),
        ({"train": "x.csv", "tset": "y.csv"}, "labels.table.tset is no split; allowed are train, valid, test"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            read_labels(path)


def test_letters_are_made_bases_and_counted(write):
    labelled = read_labels(write("a.csv", "sequence,label\nACGU,0\nuRyN,1\n"))
    assert labelled.sequences == ["ACGT", "TNNN"]
    assert labelled.notes[:2] == ("IUPAC codes read as N: 2 bases", "U read as T: 2 bases")


def test_a_sequence_longer_than_the_csv_modules_limit(write):
    labelled = read_labels(write("a.csv", f"sequence,label\n{'ACGT' * 50_000},0\nA,1\n"))
    assert len(labelled.sequences[0]) == 200_000


def test_columns_that_are_not_to_be_used(write):
    table = write("a.csv", "id,sequence,label,split\nx,A,0,odd\nx,C,1,even\n")
    assert read_labels(table, columns={"id": None, "split": None}).ids.tolist() == ["row-1", "row-2"]
    odd = write("b.csv", "sequence,chrom,start,end,label\nA,c,9,3,0\nC,c,1,2,1\n")
    labelled = read_labels(odd)
    assert labelled.intervals is None and "chrom, start and end are not used" in labelled.notes[0]


def test_a_column_that_need_not_be_there_is_not_guessed(write):
    labelled = read_labels(write("a.csv", "name,seq_id,sequence,label\nx,1,A,0\ny,2,C,1\n"))
    assert labelled.ids.tolist() == ["row-1", "row-2"]
    assert labelled.notes[0] == "id: not read, since it may be any of name, seq_id; see labels.columns.id"


def test_rows_without_labels(write):
    rows = read_rows(write("a.csv", "id,sequence\nx,acgu\n"), need_labels=False)
    assert rows.sequences == ["ACGT"] and rows.ids.tolist() == ["x"] and rows.labels == {}


def test_a_dataset_of_the_hub(monkeypatch):
    from datasets import Dataset, DatasetDict

    half = Dataset.from_dict({"sequence": ["ACGT", "GGGG"], "label": [0, 1]})
    asked = []

    def load_dataset(*what):
        asked.append(what)
        return DatasetDict({"train": half, "dev": half, "unlabelled": half})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    labelled = read_labels("someone/dna:prom")
    assert asked == [("someone/dna", "prom")]
    assert labelled.split.tolist() == ["train", "train", "valid", "valid"] and labelled.labels.tolist() == [0, 1, 0, 1]
    assert labelled.source[3] == "dna:prom (dev):row 2"
    assert "split unlabelled of someone/dna:prom: left out" in labelled.notes


def test_a_folder_of_a_dataset_without_configurations(tmp_path, monkeypatch):
    for task in ("promoters", "enhancers"):
        folder = tmp_path / "someone" / "dna" / task
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            (folder / f"{split}.csv").write_text(f"sequence,label\nACGT,{task}\nGGGG,none\n")
    monkeypatch.chdir(tmp_path)  # where a folder is asked before the Hub is
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    labelled = read_labels("someone/dna:promoters")
    assert labelled.task.names == ("none", "promoters")
    assert labelled.split.tolist() == ["train", "train", "test", "test"]


def test_the_hub_out_of_reach_is_one_clear_error():
    with pytest.raises(ValueError, match="someone/dna: no such file here, and the Hub gives no dataset of that name"):
        read_labels("someone/dna")


REAL = [
    ("gue/tf_0/test.csv.gz", "binary", ("0", "1"), 1000),
    ("uci_ecoli_promoters.csv", "binary", ("0", "1"), 106),
    ("6mA_A.thaliana_test.csv.gz", "binary", ("0", "1"), 3924),
    ("dnallm_plant/multiclass_classification_train.csv.gz", "multiclass", ("0", "1", "2"), 500),
    ("dnallm_plant/multilabel_classification_train.csv.gz", "multilabel", tuple(f"label_{i}" for i in range(19)), 500),
    ("dnallm_plant/regression_train.csv.gz", "regression", ("label",), 500),
    ("dnallm_plant/embedding_train.csv.gz", "multiclass", ("0", "1", "2", "3"), 500),
]


@pytest.mark.parametrize(("name", "kind", "names", "rows"), REAL)
def test_published_tables(data_dir, name, kind, names, rows):
    labelled = read_labels(data_dir / "labels" / name)
    assert isinstance(labelled, Labelled) and len(labelled) == rows and labelled.task == Task(kind, names)
