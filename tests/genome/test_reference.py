"""An indexed FASTA and a prepared genome give the same bases."""

import os

import numpy as np
import pysam
import pytest

from genolm.genome.reference import IndexedFasta, files_in_common, is_indexed, open_reference
from genolm.genome.store import Store, prepare_store

TEXT = ">one first\nACGTacgtNR\nryUu-.XxKM\nAC\n>two\nTTTTG\n"


@pytest.fixture(params=["plain", "crlf", "bgzip"])
def fasta(request, tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes((TEXT.replace("\n", "\r\n") if request.param == "crlf" else TEXT).encode())
    if request.param == "bgzip":
        pysam.tabix_compress(str(path), str(path) + ".gz")
        path = tmp_path / "g.fa.gz"
    pysam.faidx(str(path))
    return path


def test_the_same_bases_as_a_prepared_genome(fasta, tmp_path):
    indexed, store = open_reference(fasta, tmp_path / "not-written"), prepare_store({"x": [fasta]}, tmp_path / "store")
    assert isinstance(indexed, IndexedFasta) and not (tmp_path / "not-written").exists()
    assert [(c.name, c.length) for c in indexed.contigs] == [(c.name, c.length) for c in store.contigs]
    assert indexed.fetch(0, 8, 22).tobytes() == b"NRryTtNNNnKMAC"
    for contig, length in enumerate(store.lengths.tolist()):
        for start in range(length + 1):
            for end in range(start, length + 1):
                assert np.array_equal(indexed.fetch(contig, start, end), store.fetch(contig, start, end))
    for start, end in ((-1, 2), (3, 2), (0, 23)):
        with pytest.raises(IndexError, match="lies outside contig 0 of 22 bases"):
            indexed.fetch(0, start, end)


def test_a_fasta_without_a_fresh_index_is_prepared(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(TEXT)
    assert not is_indexed(path)
    pysam.faidx(str(path))
    assert is_indexed(path)
    os.utime(path, ns=(2**62, 2**62))
    assert not is_indexed(path)
    assert isinstance(open_reference(path, tmp_path / "store"), Store)
    assert isinstance(open_reference(tmp_path / "store", tmp_path / "other"), Store)
    assert not (tmp_path / "other").exists()


def test_an_index_of_another_file_and_a_letter_that_is_not_dna_are_named(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(">one\nACGTE\n")
    pysam.faidx(str(path))
    with pytest.raises(ValueError, match=r"g.fa: 'E' at one:5 is not a nucleotide code"):
        IndexedFasta(path).fetch(0, 0, 5)
    (tmp_path / "g.fa.fai").write_text("one\t50\t5\t5\t6\n")
    with pytest.raises(ValueError, match=r"one:1-40 (ends early; the index is of another|could not be read)"):
        IndexedFasta(path).fetch(0, 0, 40)


def test_the_fingerprint_follows_the_index_and_the_file(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(">one\nACGTA\n")
    pysam.faidx(str(path))
    first = IndexedFasta(path).fingerprint
    assert IndexedFasta(path).fingerprint == first
    path.write_text(">one\nACGTT\n")
    os.utime(path, ns=(10**18, 10**18))
    assert IndexedFasta(path).fingerprint != first


def test_files_in_common_are_found_by_their_bytes(tmp_path):
    for name, text in (("a", ">one\nACGT\n"), ("b", ">one\nACGG\n"), ("c", ">one\nACGTACGT\n")):
        (tmp_path / f"{name}.fa").write_text(text)
        pysam.faidx(str(tmp_path / f"{name}.fa"))
    trained = prepare_store({"x": [tmp_path / "a.fa"]}, tmp_path / "store").manifest["inputs"]
    for name, common in (("a", ["a.fa"]), ("b", []), ("c", [])):
        assert files_in_common(IndexedFasta(tmp_path / f"{name}.fa"), trained) == common
