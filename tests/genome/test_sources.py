import hashlib
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from genolm.genome.sources import by_genome, genome_name, prepare_genomes


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
