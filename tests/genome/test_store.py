import gzip
import hashlib
import os
import pickle
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pysam
import pytest

from genolm.genome import store as store_module
from genolm.genome.alphabet import to_text
from genolm.genome.fasta import read_fasta
from genolm.genome.regions import Regions, SplitRule, split_genomes
from genolm.genome.store import OtherStrand, Store, by_genome, genome_name, prepare_genomes, prepare_store


def read(path, **options):
    """Read a FASTA whole: name → letters."""
    records = {}
    for block in read_fasta(path, **options):
        if block.opens:
            records[block.name] = ""
        records[block.name] += to_text(block.letters)
    return records


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_any_line_end_and_block_size(tmp_path, block_bytes, end):
    path = tmp_path / "x.fa"
    path.write_bytes(end.join([b">a first", b"ACgt", b"NN", b"", b">b", b"A C-U", b">c", b"G"]))
    assert read(path, block_bytes=block_bytes) == {"a": "ACgtNN", "b": "ACNT", "c": "G"}


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"", "", "empty"),
        (b"ACGT\n", ":1", "expected '>name'"),
        (b"\n\n ACGT\n", ":3", "expected '>name'"),
        (b">a\nAC\n>a\nGT\n", ":3", "already on line 1"),
        (b">a\n>b\nAC\n", ":1", "no sequence"),
        (b">a\nAC\n>b\n", ":3", "no sequence"),
        (b">a\nAC\n>b", ":3", "no sequence"),
        (b"> a\nAC\n", ":1", "without a name"),
        (b">a\nAC\nAMKL*\n", ":3", "protein"),
        (b">a\nAC\nAC1T\n", ":3", "'1'"),
        (b">a\nAC>b\nAC\n", ":2", "line end is missing"),
        (b">a\nAC\n\x00\n", ":3", "no nucleotide"),
        (b"@r\nAC\n+\nII\n", ": ", "FASTQ"),
        (b"\xff\xfe>\x00a\x00", ": ", "UTF-16"),
        (b"BZh91AY", ": ", "bzip2"),
        (gzip.compress(b">a\n" + b"ACGT" * 1000, mtime=0)[:-9], "", "truncated"),
    ],
)
def test_what_is_refused(tmp_path, content, line, says):
    path = tmp_path / "x.fa"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        list(read_fasta(path))
    assert f"{path}{line}" in str(caught.value) and says in str(caught.value)


def test_plain_gzip_and_bgzip_give_one_fingerprint(tmp_path):
    rng = np.random.default_rng(0)
    fasta = tmp_path / "x.fa"
    fasta.write_text(">a\n" + "".join(rng.choice(list("ACGTacgtN"), 300_000)) + "\n>b\nACGT\n")
    zipped, blocked = tmp_path / "x.fa.gz", tmp_path / "x.fa.bgz"
    zipped.write_bytes(gzip.compress(fasta.read_bytes()))
    pysam.tabix_compress(str(fasta), str(blocked))
    letters = []
    for i, path in enumerate((fasta, zipped, blocked)):
        store = prepare_store({"g": [path]}, tmp_path / f"s{i}")
        letters.append((tmp_path / f"s{i}" / "letters.arrow").read_bytes())
        assert to_text(store.fetch(1, 0, 4)) == "ACGT"
    assert letters[0] == letters[1] == letters[2]
    blocked.write_bytes(blocked.read_bytes()[:-28])
    with pytest.raises(ValueError, match="truncated"):
        list(read_fasta(blocked))


def test_fetch_across_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "BATCH_BITS", 4)
    monkeypatch.setattr(store_module, "BATCH", 16)
    sequence = "".join(np.random.default_rng(1).choice(list("ACGT"), 64))
    fasta = tmp_path / "x.fa"
    fasta.write_text(f">a\n{sequence[:10]}\n>b\n{sequence[10:]}\n")
    store = prepare_store({"g": [fasta]}, tmp_path / "s")
    for start in range(54):
        for end in range(start, 55):
            assert to_text(store.fetch(1, start, end)) == sequence[10:][start:end]
    with pytest.raises(IndexError):
        store.fetch(0, 5, 11)
    for width in (0, 1, 9, 30):
        start = np.random.default_rng(width).permutation(54 - width + 1)
        contig = np.ones_like(start)
        rows = [to_text(row) for row in store.fetch_rows(contig, start, width)]
        assert rows == [sequence[10:][at : at + width] for at in start]
        other = [to_text(row) for row in OtherStrand(store.folder).fetch_rows(contig, start, width)]
        turned = sequence[10:][::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert other == [turned[at : at + width] for at in start]
        with pytest.raises(IndexError):
            store.fetch_rows(contig, start + 1, width)


def test_a_second_run_does_no_work(tmp_path, monkeypatch):
    fasta = tmp_path / "x.fa"
    fasta.write_text(">a\nACGTACGT\n")
    first = prepare_store({"g": [fasta]}, tmp_path / "s")
    monkeypatch.setattr(store_module, "_write", lambda *a: pytest.fail("wrote again"))
    assert prepare_store({"g": [fasta]}, tmp_path / "s").fingerprint == first.fingerprint
    fasta.touch()
    assert prepare_store({"g": [fasta]}, tmp_path / "s").fingerprint == first.fingerprint
    monkeypatch.undo()
    fasta.write_text(">a\nACGTACGA\n")
    again = prepare_store({"g": [fasta]}, tmp_path / "s")
    assert again.fingerprint != first.fingerprint
    assert to_text(again.fetch(0, 0, 8)) == "ACGTACGA"
    assert to_text(pickle.loads(pickle.dumps(again)).fetch(0, 7, 8)) == "A"


def test_a_failed_run_leaves_the_old_store(tmp_path):
    good, bad = tmp_path / "x.fa", tmp_path / "y.fa"
    good.write_text(">a\nACGT\n")
    bad.write_text(">a\nAC*T\n")
    prepare_store({"g": [good]}, tmp_path / "s")
    with pytest.raises(ValueError):
        prepare_store({"g": [bad]}, tmp_path / "s")
    assert to_text(Store.open(tmp_path / "s").fetch(0, 0, 4)) == "ACGT"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s", "x.fa", "y.fa"]


def test_only_a_prepared_genome_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.fa").write_text(">a\nACGT\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("all of it")
    for out, says in (("home", "holds other files (thesis.tex)"), ("x.fa", "is a file"), (".", "cannot be written")):
        with pytest.raises(ValueError, match=re.escape(says)):
            prepare_store({"g": ["x.fa"]}, out)
    (tmp_path / "empty").mkdir()
    prepare_store({"g": ["x.fa"]}, "empty")
    (tmp_path / "x.fa").write_text(">a\nACGTA\n")
    assert prepare_store({"g": ["x.fa"]}, "empty").num_bases == 5
    (tmp_path / "x.fa").write_text(">a\nACGTAC\n")
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes.txt"):
        prepare_store({"g": ["x.fa"]}, "empty")
    assert Store.open("empty").num_bases == 5
    assert sorted(p.name for p in tmp_path.rglob("*.t*")) == ["notes.txt", "thesis.tex"]


def test_a_failed_run_removes_the_folders_it_made(tmp_path):
    bad = tmp_path / "y.fa"
    bad.write_text(">a\nAC*T\n")
    (tmp_path / "mine").mkdir()
    for out in ("mine/new/store", "a/b/c", "store"):
        with pytest.raises(ValueError):
            prepare_store({"g": [bad]}, tmp_path / out)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["mine", "y.fa"]


def test_repeated_names_can_be_numbered(tmp_path):
    path = tmp_path / "x.fa"
    path.write_text(">a\nA\n>a\nC\n>a\nG\n")
    assert read(path, rename=True) == {"a": "A", "a#2": "C", "a#3": "G"}
    path.write_text(">a#2\nA\n>a\nC\n>a\nG\n>a#2\nT\n>a\nN\n")
    assert read(path, rename=True) == {"a#2": "A", "a": "C", "a#3": "G", "a#2#2": "T", "a#4": "N"}


def test_real_genomes(data_dir, tmp_path):
    store = prepare_store({"yeast": [data_dir / "genomes/yeast_S288C_R64-2-1.fa.gz"]}, tmp_path / "y")
    assert (store.num_bases, len(store.contigs)) == (12_157_105, 17)
    fish = {"fish": [data_dir / "genomes/mitogenomes_teleost_872.fa.gz"]}
    store = prepare_store(fish, tmp_path / "f", rename_duplicates=True)
    assert (store.num_bases, len(store.contigs)) == (14_483_840, 872)
    counted = store.manifest["inputs"][0]["letters"]
    assert (counted["N"], counted["IUPAC"]) == (2541, 14 + 5 + 47 + 8 + 43 + 6)
    parts = split_genomes(store, SplitRule(fraction=0.05), SplitRule(fraction=0.1))
    assert abs(parts["test"].num_bases / store.num_bases - 0.1) < 1e-6
    assert sum(part.num_bases for part in parts.values()) == store.num_bases


def test_region_algebra_against_sets():
    rng = np.random.default_rng(3)

    def draw():
        starts = rng.integers(0, 50, 6)
        return [
            (int(c), int(s), int(s + n))
            for c, s, n in zip(rng.integers(0, 2, 6), starts, rng.integers(0, 9, 6), strict=True)
        ]

    def bases(regions):
        return {(c, i) for c, s, e in regions for i in range(s, e)}

    for _ in range(200):
        a, b = Regions.from_rows(draw()), Regions.from_rows(draw())
        assert bases(a.intersect(b)) == bases(a) & bases(b)
        assert bases(a.subtract(b)) == bases(a) - bases(b)
        contig, position = np.repeat([0, 1], 60), np.tile(np.arange(60), 2)
        expected = [(c, p) in bases(a) for c, p in zip(contig, position, strict=True)]
        np.testing.assert_array_equal(a.contain(contig, position), expected)


def test_tiles_score_every_base_once():
    regions = Regions.from_rows([(0, 5, 105), (1, 0, 7), (2, 0, 64)])
    for window, context in ((16, 0), (16, 8), (32, 12)):
        scored = set()
        for contig, start, end, first in regions.tile(window, context).tolist():
            assert end - start <= window and start <= first < end
            here = {(contig, i) for i in range(first, end)}
            assert not here & scored
            scored |= here
        assert len(scored) == regions.num_bases


def test_splits(tmp_path):
    fasta = tmp_path / "x.fa"
    fasta.write_text(">a\n" + "A" * 100 + "\n>b\n" + "C" * 50 + "\n")
    store = prepare_store({"g": [fasta]}, tmp_path / "s")
    parts = split_genomes(store, SplitRule(), SplitRule(contigs=("b",)))
    assert list(parts["test"]) == [(1, 0, 50)] and list(parts["train"]) == [(0, 0, 100)]
    last_tenth = split_genomes(store, SplitRule(), SplitRule(fraction=0.1))
    assert list(last_tenth["test"]) == [(0, 85, 100)]
    with pytest.raises(ValueError, match="no contig is named 'z'.*a, b"):
        split_genomes(store, SplitRule(), SplitRule(contigs=("z",)))
    with pytest.raises(ValueError, match="share b:0-50"):
        split_genomes(store, SplitRule(contigs=("b",)), SplitRule(contigs=("g/b",)))
    with pytest.raises(ValueError, match="no base to train on"):
        split_genomes(store, SplitRule(contigs=("a",)), SplitRule(contigs=("b",)))
    assert len(Regions.whole(store)) == 2


class Quiet(SimpleHTTPRequestHandler):
    asked: list = []

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "g.fa").write_text(">one\nACGTN\n")
    Quiet.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "site")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/g.fa"
    server.shutdown()
    server.server_close()


def test_a_url_is_fetched_once_and_checked(site, tmp_path, monkeypatch):
    monkeypatch.setenv("GENOLM_CACHE", str(tmp_path / "cache"))
    digest = hashlib.sha256(b">one\nACGTN\n").hexdigest()
    store = prepare_genomes(site, tmp_path / "store", {site: digest}, quiet=True)
    assert (store.contigs[0].genome, store.contigs[0].name, store.num_bases) == ("g", "one", 5)
    prepare_genomes(site, tmp_path / "again", {site: digest}, quiet=True)
    assert len(Quiet.asked) == 1
    with pytest.raises(ValueError, match="sha256"):
        prepare_genomes(site, tmp_path / "x", quiet=True)
    with pytest.raises(ValueError, match="hash|sha256"):
        prepare_genomes(site, tmp_path / "x", {site: "0" * 64}, quiet=True)
    assert not (tmp_path / "x").exists()


def test_names_of_genomes():
    assert genome_name("/data/yeast.fa.gz") == "yeast"
    assert genome_name("https://host/a/GCF_1.2_x.fna.gz?download=1") == "GCF_1.2_x"
    assert by_genome(["a=x.fa", "a=y.fa", "dir/z.fasta", "https://host/q.fa?v=1"]) == {
        "a": ["x.fa", "y.fa"],
        "z": ["dir/z.fasta"],
        "q": ["https://host/q.fa?v=1"],
    }


def test_many_files_many_genomes(tmp_path):
    for name in ("a1", "a2", "b"):
        (tmp_path / f"{name}.fa").write_text(f">{name}\nACGT\n")
    files = {"a": [str(tmp_path / "a1.fa"), str(tmp_path / "a2.fa")], "b": str(tmp_path / "b.fa")}
    store = prepare_genomes(files, tmp_path / "store", quiet=True)
    assert [(c.genome, c.name) for c in store.contigs] == [("a", "a1"), ("a", "a2"), ("b", "b")]
    alone = prepare_genomes([str(tmp_path / "a1.fa"), str(tmp_path / "b.fa")], tmp_path / "other", quiet=True)
    assert [c.genome for c in alone.contigs] == ["a1", "b"]


def test_two_files_of_one_name_are_never_one_genome(tmp_path):
    files = []
    for folder, name in (("a", "x"), ("b", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "genome.fa").write_text(f">{name}\nACGT\n")
        files.append(str(tmp_path / folder / "genome.fa"))
    for call in (lambda: prepare_genomes(files, tmp_path / "store", quiet=True), lambda: by_genome(files)):
        with pytest.raises(ValueError, match="would both be genome 'genome'; name them"):
            call()


def test_a_genome_has_a_name_and_a_file(tmp_path):
    for source, says in (("=x.fa", "'=x.fa' names no genome"), ("x=", "'x=' names no file")):
        with pytest.raises(ValueError, match=says):
            by_genome([source])
    for name in (b".fa", b"g\xff.fa"):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
        with open(path, "w") as file:
            file.write(">a\nACGT\n")
        with pytest.raises(ValueError, match="cannot name the genome of .*; name it: NAME=FILE"):
            prepare_genomes(path, tmp_path / "store", quiet=True)
        assert prepare_genomes({"g": path}, tmp_path / "store", quiet=True).contigs[0].genome == "g"
