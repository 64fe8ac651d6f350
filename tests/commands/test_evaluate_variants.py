"""`genolm evaluate-variants`: the whole command on small files, and on real ones where they are at hand."""

import csv
import gzip
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genolm.cli import main

sklearn = pytest.importorskip("sklearn.metrics")
pyBigWig = pytest.importorskip("pyBigWig")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run the command in an empty folder; give exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("GENOLM_DEBUG", raising=False)

    def call(*arguments):
        try:
            main(["evaluate-variants", *map(str, arguments)])
            status = 0
        except SystemExit as stop:
            status = stop.code
        done = capsys.readouterr()
        return status, done.out, done.err

    return call


@pytest.fixture
def genome(tmp_path):
    """Two contigs, and SNVs at each 5th base whose label is known from a hidden score."""
    rng = np.random.default_rng(0)
    sequences = {name: "".join(rng.choice(list("ACGT"), 500)) for name in ("chr1", "chr2")}
    (tmp_path / "g.fa").write_text("".join(f">{name}\n{text}\n" for name, text in sequences.items()))
    rows = []
    for name, text in sequences.items():
        for start in range(10, 490, 5):
            alt = "ACGT"[("ACGT".index(text[start]) + 1 + start % 3) % 4]
            hidden = rng.normal()
            label = int(hidden + rng.normal(0, 0.7) > 0.5)
            rows.append((name[3:], start + 1, text[start], alt, label, round(-hidden, 4)))
    write_track(tmp_path / "t.bw", {name: rng.normal(size=500) for name in sequences})
    return rows


def write_track(path, tracks):
    """Write contig → one value per base as a bigWig."""
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([(name, len(values)) for name, values in tracks.items()])
        for name, values in tracks.items():
            file.addEntries(name, 0, values=[float(value) for value in values], span=1, step=1)


def write(folder, rows, columns=("chrom", "pos", "ref", "alt", "label", "genolm_llr"), name="v.tsv"):
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")


def test_the_whole_command(call, tmp_path, genome):
    write(tmp_path, [*genome, ("3", 5, "A", "C", 1, 1), ("1", 14, "N", "C", 1, 1)])
    options = ["--fasta", "g.fa", "--track", "t.bw", "--markov-orders", "1,2", "--replicates", 200, "--out", "out"]
    status, out, err = call("v.tsv", "--label", "label", *options)
    assert status == 0, err
    assert "trained on --fasta itself" in err
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    rows = {row["name"]: row for row in found["scores"]}
    assert list(rows) == ["genolm_llr", "|genolm_llr|", "transversion", "markov-1", "markov-2", "gc", "t"]
    label, llr = (np.array([row[k] for row in genome]) for k in (4, 5))
    chrom = np.array([row[0] for row in genome])
    auroc = rows["genolm_llr"]["metrics"]["auroc"]
    assert auroc["value"] == pytest.approx(sklearn.roc_auc_score(label, -llr), abs=1e-12)
    assert auroc["low"] < auroc["value"] < auroc["high"]
    by_chrom = [sklearn.average_precision_score(label[chrom == c], -llr[chrom == c]) for c in ("1", "2")]
    assert rows["genolm_llr"]["metrics"]["auprc_by_chrom"]["value"] == pytest.approx(np.mean(by_chrom), abs=1e-12)
    assert rows["|genolm_llr|"]["metrics"]["auroc"]["value"] == pytest.approx(sklearn.roc_auc_score(label, abs(llr)))
    assert rows["gc"]["metrics"]["auroc"]["value"] >= 0.49 and "chosen on these rows" in rows["gc"]["direction"]
    best = max((row for row in found["scores"] if row["baseline"]), key=lambda row: row["metrics"]["auroc"]["value"])
    difference = rows["genolm_llr"]["difference"]["auroc"]
    assert difference["against"] == best["name"] and difference["low"] > 0
    counts = found["rows"]
    left_out = {"contig not in --fasta": 1, "REF or ALT has letters other than A, C, G, T": 1}
    assert counts["left_out"] == left_out and counts["used"] == 192 and counts["read"] == 194
    assert counts["positive"] == label.sum() and counts["chromosomes"] == 2
    for words in ("192 of 194 rows used", "1 left out: contig not in --fasta", "better than the best baseline", "t\n"):
        assert words in out + "\n"
    picture = (tmp_path / "out" / "curves.png").read_bytes()
    assert picture[:4] == b"\x89PNG" and not (tmp_path / "out" / "scatter.png").exists()


def metrics_of(call, *options):
    status, _, err = call("v.tsv", "--label", "label", "--replicates", 20, "--out", "out", *options)
    assert status == 0, err
    with open("out/metrics.json") as file:
        found = json.load(file)
    return {
        row["name"]: row["metrics"]["auroc" if "auroc" in row["metrics"] else "spearman"] for row in found["scores"]
    }


def test_the_same_command_gives_the_same_bytes(call, tmp_path, genome):
    write(tmp_path, genome)
    texts = []
    for _ in range(2):
        metrics_of(call)
        texts.append((tmp_path / "out" / "metrics.json").read_bytes())
    assert texts[0] == texts[1]


def test_directions(call, tmp_path, genome):
    """With benign as label 1, or a score the other way round, every value is as before."""
    write(tmp_path, genome)
    first = metrics_of(call)
    write(tmp_path, [(*row[:4], 1 - row[4], row[5]) for row in genome])
    turned = metrics_of(call, "--higher-is", "positive")
    assert first.keys() == turned.keys()
    for name in first:
        assert turned[name]["value"] == pytest.approx(first[name]["value"], abs=1e-12)
    write(tmp_path, [(*row[:5], -row[5]) for row in genome])
    assert metrics_of(call, "--scores", "+genolm_llr") == {k: v for k, v in first.items() if k != "|genolm_llr|"}
    wrong = metrics_of(call, "--scores", "-genolm_llr")["genolm_llr"]["value"]
    assert wrong == pytest.approx(1 - first["genolm_llr"]["value"], abs=1e-12)


def test_a_size_of_change_speaks_for_the_deleterious(call, tmp_path, genome):
    columns = ("chrom", "pos", "ref", "alt", "label", "genolm_llr", "genolm_l2", "genolm_l2x")
    write(tmp_path, [(*row, -row[5] + 9, row[5]) for row in genome], columns)
    found = metrics_of(call)
    assert found["genolm_l2"] == found["genolm_llr"]
    assert "|genolm_l2|" not in found  # it has one sign
    below = metrics_of(call, "--scores", "genolm_l2,genolm_l2x", "--higher-is", "positive")
    assert below["genolm_l2"]["value"] == below["genolm_l2x"]["value"] < 0.5


@pytest.mark.parametrize("rich_is", [0, 1])
def test_gc_is_given_its_better_direction(call, tmp_path, rich_is):
    (tmp_path / "g.fa").write_text(f">chr1\n{'GC' * 500}{'AT' * 500}\n")
    places = [*range(101, 901, 20), *range(1101, 1901, 20)]
    rows = [("1", p, "GCAT"[2 * (p > 1000) + 1 - p % 2], "T" if p < 1000 else "G") for p in places]
    write(tmp_path, [(*row, rich_is if row[1] < 1000 else 1 - rich_is, 0.5) for row in rows])
    found = metrics_of(call, "--fasta", "g.fa", "--markov-orders", "0")
    assert found["gc"]["value"] == 1 and found["genolm_llr"]["value"] == 0.5


def test_numbers_as_labels_and_two_files(call, tmp_path, genome):
    write(tmp_path, [(*row[:4], row[5] * 2 + row[1] % 3) for row in genome], ("chrom", "pos", "ref", "alt", "label"))
    columns = dict(zip(("chrom", "pos", "ref", "alt"), zip(*[row[:4] for row in genome], strict=True), strict=True))
    columns = {key: list(value) for key, value in columns.items()} | {"mine": [row[5] for row in genome]}
    pq.write_table(pa.table(columns), tmp_path / "scored.parquet")
    found = metrics_of(call, "--with", "scored.parquet", "--scores", "mine", "--higher-is", "positive")
    label = [row[5] * 2 + row[1] % 3 for row in genome]
    from scipy.stats import spearmanr

    assert found["mine"]["value"] == pytest.approx(spearmanr(label, columns["mine"]).statistic, abs=1e-12)
    assert (tmp_path / "out" / "scatter.png").exists() and not (tmp_path / "out" / "curves.png").exists()


def test_contigs_by_a_table_of_names(call, tmp_path, genome):
    write(tmp_path, [("old" + row[0], *row[1:]) for row in genome])
    (tmp_path / "names").write_text("old1\tchr1\nold2\tchr2\n")
    assert "markov-3" in metrics_of(call, "--fasta", "g.fa", "--aliases", "names", "--markov-orders", "3")
    status, _, err = call("v.tsv", "--label", "label", "--out", "out", "--fasta", "g.fa")
    assert status == 2 and "variants are on old1, old2, its contigs are chr1, chr2; --aliases FILE" in err


def test_drawn_by_group(call, tmp_path, genome):
    write(tmp_path, genome)
    metrics_of(call, "--group", "chrom")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (found["bootstrap"]["of"], found["bootstrap"]["units"]) == ("groups of chrom", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument"),
        (["v.tsv", "--out", "o"], "Missing option '--label'"),
        (["v.tsv", "--label", "label"], "Missing option '--out'"),
        (["v.tsv", "--label", "label", "--out", "o", "evaluation.max_bp=3"], "unexpected extra argument"),
    ],
)
def test_an_argument_too_few_or_too_many_is_named(call, tmp_path, genome, arguments, message):
    write(tmp_path, genome)
    status, _, err = call(*arguments)
    assert status == 2 and message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.tsv", "--label", "label", "--out", "o"], "none.tsv: no such file"),
        (["v.tsv", "--label", "x", "--out", "o"], "no column 'x'"),
        (["v.tsv", "--label", "label", "--out", "o", "--higher-is", "up"], "allowed: negative, positive"),
        (["v.tsv", "--label", "label", "--out", "o", "--track", "none.bw"], "none.bw: no such file"),
        (["v.tsv", "--label", "label", "--out", "o", "--track", "g.fa"], "wigToBigWig"),
        (["v.tsv", "--label", "label", "--out", "o", "--track", "far.bw"], "has no value at any of 192"),
        (["v.tsv", "--label", "label", "--out", "o", "--train-fasta", "g.fa"], "needs --fasta"),
        (["v.tsv", "--label", "label", "--out", "o", "--scores", ""], "--scores has an empty name"),
        (["v.tsv", "--label", "label", "--out", "o", "--markov-orders", "x"], "--markov-orders is 'x'"),
        (["v.tsv", "--label", "label", "--out", "."], "which does not belong to a variant evaluation"),
        (["v.tsv", "--label", "label", "--out", "o", "--replicates", "0"], "--replicates is 0"),
        (["v.tsv", "--label", "label", "--out", "o", "--track", "t.bw", "--track", "t.bw"], "2 tracks"),
        (
            ["v.tsv", "--label", "label", "--out", "o", "--fasta", "g.fa", "--track", "gc.bw"],
            "rename the",
        ),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(call, tmp_path, genome, arguments, message):
    write(tmp_path, genome)
    for name, chrom in (("far", "chr9"), ("gc", "chr1")):
        write_track(tmp_path / f"{name}.bw", {chrom: [1.0]})
    before = sorted(tmp_path.iterdir())
    status, _, err = call(*arguments)
    last = err.splitlines()[-1]
    assert status == 2 and last.startswith("error: ") and message in last
    assert sorted(tmp_path.iterdir()) == before


def test_no_torch_is_loaded(tmp_path, genome, project_dir):
    write(tmp_path, genome)
    code = (
        "import sys; from genolm.cli import main\n"
        "main(['evaluate-variants', 'v.tsv', '--label', 'label', '--fasta', 'g.fa', '--out', 'o'])\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    environment = {"PYTHONPATH": str(project_dir), "PATH": "", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_conservation_tells_common_from_unseen_mitochondrial_variants(call, tmp_path, data_dir):
    """gnomAD's SNVs between the control region's ends: never seen against common, by phyloP and Markov."""
    rows = []
    with gzip.open(data_dir / "variants" / "mt_gnomad_v3.1_chrM.tsv.gz", "rt") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if len(row["ref"] + row["alt"]) == 2 and 577 <= int(row["position"]) <= 16023:
                unseen = int(row["AC_hom"]) + int(row["AC_het"]) == 0
                word = "common" if float(row["AF_hom"]) > 0.001 else "unseen" if unseen else "rare"
                rows.append((row["chromosome"], row["position"], row["ref"], row["alt"], word))
    write(tmp_path, rows, ("chrom", "pos", "ref", "alt", "label"))
    genomes = data_dir / "genomes"
    with gzip.open(data_dir / "variants" / "mt_chrM_phyloP100way.wigFix.gz", "rt") as file:  # one value per base
        write_track(tmp_path / "phyloP.bw", {"chrM": list(file)[1:]})
    found = metrics_of(
        call,
        *("--positive", "unseen", "--negative", "common"),
        *("--fasta", genomes / "human_mt_rCRS_NC_012920.fa.gz", "--markov-orders", "9"),
        *("--track", "phyloP.bw"),
        *("--train-fasta", genomes / "mitogenomes_teleost_872.fa.gz"),
        *("--train-fasta", genomes / "mitogenomes_mammals_6.fa.gz"),
    )
    assert found["phyloP"]["value"] == pytest.approx(0.832, abs=0.001)
    assert found["markov-9"]["value"] == pytest.approx(0.633, abs=0.001)


def test_indels_among_substitutions_are_named(call, tmp_path, genome):
    write(tmp_path, [*genome, ("1", 5, "AC", "A", 1, 1.0), ("1", 7, "A", "AG", 0, 2.0)])
    options = ["v.tsv", "--label", "label", "--replicates", 5, "--out", "out"]
    assert "2 of 194 rows are insertions or deletions" in call(*options)[2]
    write(tmp_path, genome)
    status, _, err = call(*options)
    assert status == 0 and "insertions" not in err
