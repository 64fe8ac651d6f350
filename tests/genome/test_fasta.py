"""Files that call themselves FASTA: every base is counted, or the file is refused with its line and a cause."""

import bz2
import gzip
import io
import lzma
import os
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from genolm.genome.alphabet import to_text
from genolm.genome.fasta import extract_intervals, read_fasta
from genolm.genome.interval import Interval
from genolm.genome.store import prepare_genomes

BOM = b"\xef\xbb\xbf"
STORED = {ord(letter): letter for letter in "ACGTNRYSWKMBDHVacgtnryswkmbdhv"}
STORED |= {ord(found): stored for found, stored in zip("UuXx-.", "TtNnNN", strict=True)}


def by_hand(data: bytes) -> dict[str, str] | int:
    """Read FASTA the slow and plain way: name → letters, or the line of the first fault."""
    lines = data.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    records: dict[str, list[str]] = {}
    name, opened = None, 1
    for number, line in enumerate(lines, 1):
        if line.startswith(b">"):
            if name is not None and not records[name]:
                return opened
            try:
                name, opened = re.split(rb"[ \t\v\f]", line[1:])[0].decode(), number
            except UnicodeDecodeError:
                return number
            if not name or not name.isprintable() or name in records:
                return number
            records[name] = []
            continue
        for letter in line:
            if letter in b" \t\v\f":
                continue
            if name is None or letter not in STORED:
                return number
            records[name].append(STORED[letter])
    if name is None or not records[name]:
        return opened
    return {name: "".join(letters) for name, letters in records.items()}


def read(path, block_bytes=1 << 20) -> dict[str, str]:
    """Read with genolm: name → letters."""
    records: dict[str, list[str]] = {}
    for block in read_fasta(path, block_bytes=block_bytes):
        assert block.opens == (block.name not in records)
        records.setdefault(block.name, []).append(to_text(block.letters))
    return {name: "".join(parts) for name, parts in records.items()}


def stored(store) -> dict[str, str]:
    return {contig.name: to_text(store.fetch(i, 0, contig.length)) for i, contig in enumerate(store.contigs)}


def bgzf(data: bytes, size: int = 65280, end: bool = True) -> bytes:
    """Compress as bgzip does: gzip members that tell their length, and an empty one at the end."""
    blocks = []
    for part in [data[i : i + size] for i in range(0, len(data), size)] + [b""] * end:
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(part) + packer.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(packed) + 25)
        blocks.append(head + packed + struct.pack("<II", zlib.crc32(part), len(part)))
    return b"".join(blocks)


def tar(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo("chr1.fa")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        return file.getvalue()


def zipped(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.fa", data)
        return file.getvalue()


PLAIN = b">a\nACGT\n>b\nGGC\n"
AB = {"a": "ACGT", "b": "GGC"}

# name: content, letters of each record
ACCEPTED = {
    "plain.fa": (PLAIN, AB),
    "crlf.fa": (b">a\r\nAC\r\nGT\r\n>b\r\nGGC\r\n", AB),
    "bare-cr.fa": (b">a\rAC\rGT\r>b\rGGC\r", AB),
    "mixed-line-ends.fa": (b">a\r\nAC\nG\rT\r\r\n>b\nGGC\r", AB),
    "no-newline-at-end.fa": (b">a\nACGT\n>b\nGGC", AB),
    "cr-at-end.fa": (b">a\nACGT\n>b\nGGC\r", AB),
    "blank-lines.fa": (b"\n \n>a\n\nAC\n\n\nGT\n\n>b\n\nGGC\n\n\n", AB),
    "spaces-and-tabs.fa": (b">a\nA C\tG T \n>b\n \tGG\vC\f\n", AB),
    "bom.fa": (BOM + PLAIN, AB),
    "lower-case.fa": (b">a\nacGTn\n", {"a": "acGTn"}),
    "iupac.fa": (b">a\nACGTNRYSWKMBDHV\nacgtnryswkmbdhv\n", {"a": "ACGTNRYSWKMBDHVacgtnryswkmbdhv"}),
    "rna.fa": (b">a\nACGUu\n", {"a": "ACGTt"}),
    "gaps.fa": (b">a\nA--C..GXxT\n", {"a": "ANNCNNGNnT"}),
    "descriptions.fa": (b">a first > one\nACGT\n>b\tsecond\x01>c\nGGC\n", AB),
    "greek.fa": (">α chromosome\nACGT\n>ß\nGGC\n".encode(), {"α": "ACGT", "ß": "GGC"}),
    "marks-in-names.fa": (b">gi|1|ref|NC_1.1|;*\nAC\n>>b\nG\n", {"gi|1|ref|NC_1.1|;*": "AC", ">b": "G"}),
    "long-line.fa": (b">a\n" + b"ACGTN" * 250_000 + b"\n>b\nGGC", {"a": "ACGTN" * 250_000, "b": "GGC"}),
    "long-header.fa": (b">a " + b"x" * 900_000 + b"\nACGT\n>b\nGGC\n", AB),
    "one-letter-lines.fa": (b">a\n" + b"A\n" * 5000, {"a": "A" * 5000}),
    "only-n.fa": (b">a\nNNNN\n", {"a": "NNNN"}),
    "letters-as-in-bgzip.fa": (b">a\nTTTTTTTTTBC\n", {"a": "TTTTTTTTTBC"}),
    "plain-called-gz.fa.gz": (PLAIN, AB),
    "gzip-called-fa.fa": (gzip.compress(PLAIN), AB),
    "gzip.fa.gz": (gzip.compress(PLAIN), AB),
    "gzip-of-bom-and-crlf.fa.gz": (gzip.compress(BOM + b">a\r\nACGT\r\n>b\r\nGGC"), AB),
    "two-members.fa.gz": (gzip.compress(b">a\nAC") + gzip.compress(b"GT\n>b\nGGC\n"), AB),
    "empty-member.fa.gz": (gzip.compress(b">a\nACGT\n") + gzip.compress(b"") + gzip.compress(b">b\nGGC\n"), AB),
    "zero-padded.fa.gz": (gzip.compress(PLAIN) + b"\0" * 600, AB),
    "bgzip.fa.gz": (bgzf(PLAIN), AB),
    "bgzip-of-tiny-blocks.fa.gz": (bgzf(PLAIN, size=1), AB),
    "two-bgzip-files.fa.gz": (bgzf(b">a\nACGT\n") + bgzf(b">b\nGGC\n"), AB),
    "misnamed.zip": (PLAIN, AB),
    "no-suffix": (PLAIN, AB),
}

# name: content, line named in the message (None: none), what the message says
REFUSED = {
    "empty.fa": (b"", None, "the file is empty"),
    "newline.fa": (b"\n", 1, "no record; a FASTA record starts with a line '>name'"),
    "whitespace.fa": (b" \n\t\r\n \n", 1, "no record"),
    "bom-alone.fa": (BOM, None, "the file is empty"),
    "empty.fa.gz": (gzip.compress(b""), None, "the file is empty"),
    "empty-bgzip.fa.gz": (bgzf(b""), None, "the file is empty"),
    "header-only.fa": (b">a", 1, "record 'a' has no sequence; the file may be cut off"),
    "header-and-blanks.fa": (b"\n>a\n \n\t\n", 2, "record 'a' has no sequence"),
    "empty-record-first.fa": (b">a\n>b\nAC\n", 1, "record 'a' has no sequence"),
    "empty-record-inside.fa": (b">a\nAC\n>b\n\n>c\nGT\n", 3, "record 'b' has no sequence"),
    "empty-record-last.fa": (b">a\nAC\n>b\n", 3, "record 'b' has no sequence"),
    "no-name.fa": (b">\nACGT\n", 1, "a header without a name; write '>name'"),
    "no-name-later.fa": (b">a\nACGT\n>\r\nAC\n", 3, "a header without a name"),
    "name-of-spaces.fa": (b">a\nAC\n>  \t \nACGT\n", 3, "a header without a name"),
    "space-before-name.fa": (b"> a\nACGT\n", 1, "with no space between"),
    "space-before-header.fa": (b">a\nAC\n >b\nGT\n", 3, "'>' in record 'a' is no nucleotide"),
    "space-before-first-header.fa": (b" >a\nAC\n", 1, "expected '>name', got b' >a'"),
    "repeated-name.fa": (
        b">a x\nAC\n>b\nA\n>a y\nGT\n",
        5,
        "'a' is already on line 1; names must differ (--rename-dupl",
    ),
    "latin-1-name.fa": (b">a\nAC\n>\xe9\nACGT\n", 3, r"the name b'\xe9' is not UTF-8 text"),
    "zero-byte-in-name.fa": (b">a\nAC\n>b\0c\nACGT\n", 3, r"the name 'b\x00c' holds what cannot be printed"),
    "escape-in-name.fa": (b">\x1b[31ma\nACGT\n", 1, r"'\x1b[31ma' holds what cannot be printed"),
    "header-without-end.fa": (
        b">a\nAC\n>" + b"ACGT" * 300_000,
        3,
        "header of over 1,048,576 bytes; are line ends lost",
    ),
    "text-first.fa": (b"\n\nMy genome\n>a\nACGT\n", 3, "expected '>name', got b'My genome'; is this a FASTA file?"),
    "letters-first.fa": (b"ACGT\n>a\nACGT\n", 1, "expected '>name', got b'ACGT'"),
    "mid-line-header.fa": (b">a\nAC>b\nGT\n", 2, "a '>' inside a line: a line end is missing before it"),
    "old-comments.fa": (b"; a comment\n>a\nACGT\n", 1, "remove the lines that start with ';'"),
    "comment-inside.fa": (b">a\nAC\n; half way\nGT\n", 3, "';' in record 'a' is no nucleotide; allowed are ACGTNRYSW"),
    "protein.fa": (
        b">p\nMKTAYIAKQR\n",
        2,
        "'I' in record 'p' is no nucleotide; allowed are ACGTNRYSWKMBDHV, U, X, '-'",
    ),
    "protein-later.fa": (b">p\nACDG\r\nKKa\r\nfGH\r\n", 4, "'f' in record 'p' is no nucleotide"),
    "stop-codon.fa": (b">p\nACG*\n", 2, "this looks like protein"),
    "genbank-numbers.fa": (b">a\n  1 acgtacgtac\n 11 acgt\n", 2, "'1' in record 'a' is no nucleotide"),
    "qualities.fa": (b">a\n40 40 12\n", 2, "line numbers of GenBank, or qualities"),
    "cigar.fa": (b">a\n10M2D5M\n", 2, "'1' in record 'a'"),
    "zero-bytes.fa": (b">a\nAC\nA\0\0T\n", 3, r"'\x00' in record 'a' is no nucleotide"),
    "zero-padded.fa": (PLAIN + b"\0" * 600, 5, "zero bytes: a damaged file"),
    "latin-1-letter.fa": (b">a\nAC\xa0GT\n", 2, r"'\xa0' in record 'a' is no nucleotide"),
    "delete.fa": (b">a\nAC\x7fT\n", 2, r"'\x7f' in record 'a'"),
    "second-bom.fa": (BOM + b">a\nAC\n" + BOM + b">b\nGT\n", 3, r"'\xef' in record 'a'"),
    "fault-far-in.fa": (b">a\n" + b"ACGT\n" * 500_000 + b"AC!T\n", 500_002, "'!' in record 'a'"),
    "fastq-inside.fa": (b">a\nACGT\n+\nIIII\n", 3, "this looks like FASTQ; convert it to FASTA"),
    "utf-16-le.fa": ("\ufeff>a\nACGT\n".encode("utf-16-le"), None, "UTF-16 text; save it as UTF-8"),
    "utf-16-be.fa": ("\ufeff>a\nACGT\n".encode("utf-16-be"), None, "UTF-16 text"),
    "utf-16-le-no-bom.fa": (">a\nACGT\n".encode("utf-16-le"), None, "UTF-16 text"),
    "utf-16-be-no-bom.fa": (">a\nACGT\n".encode("utf-16-be"), None, "UTF-16 text"),
    "reads.fastq": (b"@r1\nACGT\n+\nIIII\n", None, "FASTQ"),
    "reads-called.fa": (BOM + b"@r1\nACGT\n+\nIIII\n", None, "FASTQ"),
    "reads.fastq.gz": (gzip.compress(b"@r1\nACGT\n+\nIIII\n"), None, "FASTQ"),
    "alignments.sam": (
        b"@HD\tVN:1.6\nr1\t0\tchr1\t1\t60\t4M\t*\t0\t0\tACGT\tIIII\n",
        None,
        "this is SAM",
    ),
    "alignments.bam": (bgzf(b"BAM\x01\0\0\0\0\0\0\0\0"), None, "this is BAM; convert it to FASTA"),
    "calls.bcf": (bgzf(b"BCF\x02\x02\0\0\0\0"), None, "this is BCF; a FASTA file is needed"),
    "calls.vcf": (b"##fileformat=VCFv4.3\n#CHROM\tPOS\nchr1\t7\n", None, "this is VCF; a FASTA file is needed"),
    "calls.vcf.gz": (bgzf(b"##fileformat=VCFv4.3\n"), None, "this is VCF; a FASTA file is needed"),
    "genes.gff3": (
        b"##gff-version 3\nchr1\t.\tgene\t1\t9\n##FASTA\n>chr1\nACGT\n",
        None,
        "this is GFF",
    ),
    "genes.bed": (b"chr1\t10\t20\tgene\n", 1, r"expected '>name', got b'chr1\t10\t20\tgene'"),
    "x.fa.fai": (b"a\t4\t3\t4\t5\n", 1, r"got b'a\t4\t3\t4\t5'"),
    "genome.2bit": (bytes.fromhex("4327411a00000000"), None, "2bit; convert it"),
    "genome.gb": (
        b"LOCUS       NC_1   4 bp\nORIGIN\n        1 acgt\n//\n",
        None,
        "this is GenBank",
    ),
    "genome.embl": (
        b"ID   X56734; SV 1;\nSQ   Sequence 4 BP;\n     acgt  4\n",
        None,
        "this is EMBL",
    ),
    "aligned.aln": (b"CLUSTAL W 1.8\n\na  ACGT\n", 1, "expected '>name', got b'CLUSTAL W 1.8'"),
    "not-found.fa": (b"<!DOCTYPE html>\n<html>404</html>\n", None, "HTML or XML; this may be the error page"),
    "not-found.fa.gz": (gzip.compress(b"<html>404</html>"), None, "this is HTML or XML"),
    "pointer.fa": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", None, "run git lfs pull"),
    "object.json": (b'{"error": "quota"}\n', 1, "expected '>name', got b'{\"error\": \"quota\"}'"),
    "x.fa.bz2": (bz2.compress(PLAIN), None, "bzip2; unpack it, or compress with gzip or bgzip"),
    "x.fa.xz": (lzma.compress(PLAIN), None, "xz; unpack it"),
    "x.fa.zst": (bytes.fromhex("28b52ffd0458"), None, "zstandard; unpack it"),
    "x.fa.zip": (zipped(PLAIN), None, "a zip archive or an Excel file; unpack it"),
    "x.tar": (tar(PLAIN), None, "a tar archive; unpack it"),
    "x.tar.gz": (gzip.compress(tar(PLAIN)), None, "a tar archive; unpack it"),
    "twice.fa.gz.gz": (gzip.compress(gzip.compress(PLAIN)), None, "gzip within gzip"),
    "cut.fa.gz": (gzip.compress(PLAIN)[:-9], None, "broken or truncated gzip"),
    "cut-to-magic.fa.gz": (gzip.compress(PLAIN)[:2], None, "broken or truncated gzip"),
    "cut-in-second-member.fa.gz": (gzip.compress(b">a\nA\n") + gzip.compress(PLAIN)[:15], None, "truncated gzip"),
    "trailing-garbage.fa.gz": (gzip.compress(PLAIN) + b"garbage", None, "broken or truncated gzip"),
    "wrong-checksum.fa.gz": (gzip.compress(PLAIN)[:-8] + b"\0" * 8, None, "CRC check failed"),
    "damaged.fa.gz": (gzip.compress(PLAIN)[:12] + b"\xff" * 20, None, "broken or truncated gzip"),
    "fault-inside.fa.gz": (gzip.compress(b">a\nAC\nA?\n"), 3, "'?' in record 'a'"),
    "cut-bgzip.fa.gz": (bgzf(PLAIN)[:-40], None, "bgzip without its end-of-file block; the file is truncated"),
    "cut-at-a-block.fa.gz": (bgzf(PLAIN, size=7, end=False), None, "bgzip without its end-of-file block"),
}


def names_line(error: ValueError, path: Path, line: int) -> bool:
    """Return whether an error names the line of a fault, or says of the first one that the file is no FASTA at all."""
    whole = (f"{path}: this is ", f"{path}: the file is empty") if line == 1 else ()
    return str(error).startswith((f"{path}:{line}: ", *whole))


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_base_is_counted(name, tmp_path):
    content, letters = ACCEPTED[name]
    path = tmp_path / name
    path.write_bytes(content)
    assert by_hand(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content) == letters
    for block_bytes in (1, 3, 4096, 1 << 20) if len(content) < 10_000 else (4099, 1 << 20):
        assert read(path, block_bytes) == letters
    store = prepare_genomes({"g": str(path)}, tmp_path / "store", quiet=True)
    assert stored(store) == letters
    assert store.num_bases == store.manifest["inputs"][0]["num_bases"] == sum(map(len, letters.values()))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, tmp_path):
    content, line, says = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    start = f"{path}: " if line is None else f"{path}:{line}: "
    for block_bytes in (1, 4096, 1 << 20) if len(content) < 10_000 else (4099, 1 << 20):
        with pytest.raises(ValueError) as caught:
            read(path, block_bytes)
        assert str(caught.value).startswith(start)
        assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < len(str(path)) + 250
    assert says in str(caught.value)
    with pytest.raises(ValueError) as prepared:
        prepare_genomes({"g": str(path)}, tmp_path / "new" / "store", quiet=True)
    assert str(prepared.value) == str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.fa")
    os.symlink("nowhere", "broken.fa")
    os.mkdir("folder.fa")
    Path("file").write_bytes(PLAIN)
    before = sorted(os.listdir())
    for name, says in {
        "missing.fa": "no such file; check the path",
        "broken.fa": "no such file",
        "file/x.fa": "no such file",
        "x" * 300: "File name too long",
        "~no-such-user/x.fa": "no such file",
        "folder.fa": "this is a folder; name the FASTA file in it",
        "pipe.fa": "this is a pipe or a device; write it to a file first",
        os.devnull: "this is a pipe or a device",
    }.items():
        with pytest.raises((ValueError, OSError)) as caught:
            prepare_genomes({"g": name}, tmp_path / "store", quiet=True)
        assert name in str(caught.value) and says in str(caught.value)
        with pytest.raises((ValueError, OSError)):
            read(name)
    assert sorted(os.listdir()) == before


@contextmanager
def as_nobody():
    """Give up root's right to read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_unreadable():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "x.fa"
        path.write_bytes(PLAIN)
        path.chmod(0)
        with as_nobody(), pytest.raises(ValueError, match="could not be read: .*Permission denied") as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")


def test_a_stale_index_beside_the_file_changes_nothing(tmp_path):
    path = tmp_path / "x.fa.gz"
    path.write_bytes(bgzf(PLAIN))
    (tmp_path / "x.fa.gz.fai").write_text("a\t2\t3\t2\t3\nz\t9\t8\t9\t10\n")
    (tmp_path / "x.fa.gz.gzi").write_bytes(b"\xff" * 24)
    assert stored(prepare_genomes(str(path), tmp_path / "store", quiet=True)) == AB


@pytest.mark.parametrize("pack", [gzip.compress, bgzf])
def test_an_archive_cut_anywhere_is_refused(pack, tmp_path):
    path = tmp_path / "x.fa.gz"
    whole = pack(PLAIN)
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError):
            read(path)


@pytest.mark.parametrize("pack", [gzip.compress, bgzf])
def test_an_archive_damaged_anywhere_loses_no_base(pack, tmp_path):
    path = tmp_path / "x.fa.gz"
    whole = bytearray(pack(PLAIN))
    accepted = 0
    for bit in range(8 * len(whole)):
        whole[bit // 8] ^= 1 << bit % 8
        path.write_bytes(whole)
        whole[bit // 8] ^= 1 << bit % 8
        try:
            assert read(path) == AB
            accepted += 1
        except ValueError:
            pass
    assert 0 < accepted < 8 * 32  # the time stamp and the system's name are no letters


@pytest.mark.parametrize(
    "name", ["protein.fa", "empty.fa", "not-found.fa", "cut.fa.gz", "latin-1-name.fa", "cut-to-magic.fa.gz"]
)
def test_on_the_command_line_it_is_one_line(name, tmp_path):
    content, line, says = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "genolm", "prepare", f"x={name}", "--out", "runs/genome"],
        capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "GENOLM_DEBUG": ""},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    where = tmp_path / name if line is None else f"{tmp_path / name}:{line}"
    assert done.stderr.startswith(f"error: {where}: ") and says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_files_of_other_projects(data_dir, tmp_path):
    """Files that other parsers are tested with, each read by hand as well."""
    accepted, refused = [], []
    for path in sorted((data_dir / "parsers").rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        expected = by_hand(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        try:
            assert read(path, block_bytes=1000) == expected, path
            store = prepare_genomes({"g": str(path)}, tmp_path / "store", quiet=True)
            assert stored(store) == expected, path
            accepted.append(path)
        except ValueError as error:
            assert isinstance(expected, int) and names_line(error, path, expected), (path, expected, str(error))
            refused.append(path)
    assert len(accepted) > 50 and len(refused) > 100


@pytest.mark.slow
def test_a_million_contigs(tmp_path):
    """Time and memory grow with the number of contigs, and no faster."""
    count, path = 1_000_000, tmp_path / "x.fa"
    path.write_bytes(b"".join(b">contig_%d of many\n%b\n" % (i, b"ACGTN"[: 1 + i % 5]) for i in range(count)))
    store = prepare_genomes({"g": str(path)}, tmp_path / "store", quiet=True)
    assert len(store.lengths) == count and store.num_bases == 3 * count
    assert (store.lengths == [1 + i % 5 for i in range(count)]).all()
    assert [contig.name for contig in store.contigs] == [f"contig_{i}" for i in range(count)]
    assert to_text(store.fetch(count - 1, 0, 5)) == "ACGTN"


@pytest.mark.slow
def test_a_hundred_thousand_records_of_one_name(tmp_path):
    path = tmp_path / "x.fa"
    path.write_bytes(b">a\nA\n" * 100_000)
    names = [block.name for block in read_fasta(path, rename=True) if block.opens]
    assert names == ["a"] + [f"a#{i}" for i in range(2, 100_001)]


names = st.sampled_from([b"a", b"b", b"c d", b"e\tf>g", "é".encode(), b"chr1|x.1"])
ends = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b" \n"])
lines = st.text("ACGTacgtNnRYKMSWBDHVUuXx-. \t", max_size=12).map(str.encode)
odd = st.sampled_from([b">", b"> ", b"\n>", b">a", b"*", b"E", b"7", b";", b"\0", b"@", b"\v", b"\x1c", BOM, b"\xff"])


@st.composite
def nearly_fasta(draw) -> bytes:
    """Draw records that are right, and put something odd into a quarter of the files."""
    parts = [draw(st.sampled_from([b"", BOM, b"\n"]))]
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        parts += [b">", name, draw(ends)]
        for line in draw(st.lists(lines, max_size=3)) + [draw(st.sampled_from([b"A", b"", b"cg-"]))]:
            parts += [line, draw(ends)]
    if not draw(st.integers(0, 3)):
        parts.insert(draw(st.integers(0, len(parts))), draw(odd))
    if draw(st.booleans()):
        parts.pop()
    return b"".join(parts)


any_mix = st.lists(names | ends | lines | odd, max_size=12).map(b"".join) | st.binary(max_size=40)
files = st.integers(0, 3).flatmap(lambda which: nearly_fasta() if which else any_mix)
packings = st.sampled_from(
    [bytes, bytes, gzip.compress, bgzf, lambda data: gzip.compress(data[:5]) + gzip.compress(data[5:])]
)
blocks = st.sampled_from([1, 2, 3, 5, 16, 1 << 20])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Return a path in memory, where the system has such a folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder) / "x.fa"


def agrees_with_reading_by_hand(scratch, data, pack, block_bytes):
    packed = pack(data)
    scratch.write_bytes(packed)
    # Bytes drawn at random may start like gzip; they are no archive.
    expected = by_hand(data) if data[:2] != b"\x1f\x8b" else None
    try:
        records = read(scratch, block_bytes)
    except ValueError as error:
        event("refused")
        assert not isinstance(expected, dict), error
        assert not packed or expected is None or names_line(error, scratch, expected)
        assert len(str(error).splitlines()) == 1
    else:
        event("accepted")
        assert records == expected


@settings(max_examples=300, deadline=None)
@given(files, packings, blocks)
def test_any_file_reads_as_by_hand(scratch, data, pack, block_bytes):
    agrees_with_reading_by_hand(scratch, data, pack, block_bytes)


@pytest.mark.nightly
@settings(max_examples=100_000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(files, packings, blocks)
def test_any_of_very_many_files_reads_as_by_hand(scratch, data, pack, block_bytes):
    agrees_with_reading_by_hand(scratch, data, pack, block_bytes)


def test_letters_are_those_of_a_slice_from_whichever_file(tmp_path):
    contigs = {"a": "ACGTNacgtn" * 30, "b": "GATTACA", "c": "T"}
    (tmp_path / "1.fa").write_text(f">b x\n{contigs['b']}\n>unused\nAAAA\n>c\n{contigs['c']}\n")
    (tmp_path / "2.fa").write_text(f">a\n{contigs['a'][:70]}\n{contigs['a'][70:]}\n>b\nCCCCCCC\n")
    rows = [("a", 0, 300), ("b", 2, 5), ("c", 0, 1), ("a", 65, 75), ("b", 0, 7), ("a", 66, 67)]
    found = extract_intervals([tmp_path / "1.fa", tmp_path / "2.fa"], [Interval(*row) for row in rows], str)
    assert found == [contigs[contig][start:end] for contig, start, end in rows]
    assert extract_intervals([tmp_path / "1.fa"], [Interval("b", 0, 4, "-")], str) == ["AATC"]


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "1.fa").write_text(">chr1\nACGT\n")
    with pytest.raises(ValueError, match="row 0: no contig '1' in .*1.fa, which has chr1; there it is named 'chr1'"):
        extract_intervals([tmp_path / "1.fa"], [Interval("1", 0, 2)], lambda row: f"row {row}")
    with pytest.raises(ValueError, match=r"row 1: chr1:3-5 \(0-based, half-open\) ends beyond chr1, which has 4 bp"):
        extract_intervals(
            [tmp_path / "1.fa"], [Interval("chr1", 0, 4), Interval("chr1", 3, 5)], lambda row: f"row {row}"
        )
    with pytest.raises(ValueError, match="no such file"):
        extract_intervals([tmp_path / "2.fa"], [Interval("chr1", 0, 4)], str)
