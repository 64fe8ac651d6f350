"""Records of a VCF, a BCF or a table of variants, one after the other, their text kept as it was.

A VCF is split at its tabs and nothing else is parsed, so that nothing is lost or printed anew. The format is recognised
by a file's bytes, not by its name; only a comma-separated table is recognised by `.csv`.

Cost: about 2 us a record without samples. Memory: one line.
"""

import contextlib
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from genolm.genome.alleles import VARIANT_COLUMNS
from genolm.genome.interval import CONTIG_END, parse_region
from genolm.genome.sniff import first_bytes, is_gzip, is_truncated_bgzip, quiet, read_lines, truncated

VCF_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
_ADVICE = {
    "FASTA": "the genome goes into --fasta",
    "Parquet": "save it as TSV with columns chrom, pos, ref, alt",
    "GFF": "variants are needed, not features",
} | dict.fromkeys(("BAM", "CRAM", "SAM", "FASTQ"), "variants are needed, not reads")
_LARGEST = 1 << 60
_END = re.compile(r"(?:^|;)END=(\d+)")
_CONTIG = re.compile(r"##contig=<(?:[^\"]*?,)?ID=([^,>]+)")
_REF = re.compile("[ACGTUNRYSWKMBDHV.*]+", re.IGNORECASE)


class Record(NamedTuple):
    """One line of variants.

    Attributes:
        number: 0, 1, 2 … in the order of the file, or of what the region holds.
        line: line in the file, 1-based, headers counted; None where the file has none (BCF, or read by an index).
        chrom: contig as it is written.
        pos: place of the first letter of REF, 1-based; None where the line cannot be read: too few columns, or a place
            that is no whole number from 0 up.
        id: `.` where there is none.
        ref: as it is written.
        alts: one or more words; `.` where the file has `.` or nothing.
        fields: of a VCF its eight columns and all the rest as one, as many as there are; of a table all its columns.
    """

    number: int
    line: int | None
    chrom: str
    pos: int | None
    id: str
    ref: str
    alts: list[str]
    fields: list[str]


class Records:
    """Variants of a VCF or a table, plain, gzip or bgzip, or of a BCF. Every iteration reads the file anew.

    A VCF without its #CHROM line is read by its columns, and a note says so. A line with too few columns, or whose
    place is no number, is a record with `pos` None. Line ends are LF or CRLF; neither is part of a record.

    Attributes:
        path: the file.
        kind: `vcf`, `bcf` or `table`.
        header: lines before the first record, without line ends; of a VCF all that start with #, of a table the
            comments that start with ## and the line with the names.
        names: samples of a VCF.
        columns: names of a table's columns; of a VCF none.
        notes: what a user should know of how the file was read; complete once all was read.
    """

    def __init__(self, path: str | Path, region: str | None = None, drop_samples: bool = False):
        """Open a file.

        Args:
            path: the file.
            region: `chrom:start-end`, 1-based, both ends in it, and records that reach into it by REF or INFO/END; read
                by the file's index (.tbi or .csi) if there is one, else from the whole file.
            drop_samples: leave out FORMAT and the samples.

        Raises:
            ValueError: no such file, an empty or broken one, or something else than variants. While reading: the file
                is truncated, or has no contig of the region's name.
        """
        self.path = Path(path)
        self.drop_samples = drop_samples
        self.header: list[str] = []
        self.names: list[str] = []
        self.columns: list[str] = []
        self.notes: list[str] = []
        self.kind = "vcf"
        self._header_ends = 0
        start = first_bytes(self.path, "a VCF, a BCF or a table of variants", ("VCF", "BCF"), _ADVICE)
        if not start.strip():
            raise ValueError(f"{self.path}: the file is empty; an empty VCF has at least its #CHROM line")
        self._zipped = is_gzip(self.path)
        if start.startswith(b"BCF\2"):
            self.kind = "bcf"
            self._open_bcf()
        elif b"\0" in start:
            raise ValueError(f"{self.path}: not text, and not BCF; a VCF, a BCF or a table of variants is needed")
        else:
            self._open_text()
        if drop_samples:
            self.names = []
        self.region = None if region is None else parse_region(region, self.declared)

    def __iter__(self) -> Iterator[Record]:
        if self.kind == "bcf":
            yield from self._from_bcf()
        elif self.region is not None and (index := self._index()) is not None:
            yield from self._from_index(index)
        elif self.region is not None:
            yield from self._inside(self._scan())
        else:
            yield from self._scan()

    def where(self, record: Record) -> str:
        """Name a record as messages do: `calls.vcf:812`, or `calls.bcf:record 12` where there are no lines."""
        return f"{self.path}:{record.line if record.line is not None else f'record {record.number + 1}'}"

    @property
    def declared(self) -> list[str]:
        """Contigs that the header names, in its order."""
        return [match[1] for line in self.header if (match := _CONTIG.match(line))]

    # --- what the file is

    def _open_text(self) -> None:
        if self._zipped and is_truncated_bgzip(self.path):
            last = max((number for number, _ in read_lines(self.path, "surrogateescape")), default=0)
            raise truncated(self.path, last, "bgzip without its end-of-file block")
        first = None
        for number, line in read_lines(self.path, "surrogateescape"):
            if not line.startswith("#"):
                first = line
                break
            self.header.append(line)
            self._header_ends = number
            if not line.startswith("##") and self._read_names(line):
                break
        if self.kind == "vcf" and not self.columns and not any(_is_column_line(line) for line in self.header):
            self._without_column_line(first)

    def _read_names(self, line: str) -> bool:
        """Read the line that names the columns, of a VCF or of a table; say whether it was one."""
        if _is_column_line(line):
            if "\t" not in line:
                raise ValueError(f"{self.path}: columns of the #CHROM line are separated by spaces; VCF needs tabs")
            self.names = line.rstrip("\t").split("\t")[9:]  # tabs at the end name no samples
            return True
        return not self._read_table(line)[1]

    def _read_table(self, line: str) -> tuple[list[str], list[str]]:
        """Take a line as the names of a table's columns, and return them, and which of the four are not there."""
        commas = ".csv" in [suffix.lower() for suffix in self.path.suffixes] or ("\t" not in line and "," in line)
        names = [name.strip() for name in (_parted(line) if commas else line.split("\t"))]
        at = {need: [i for i, name in enumerate(names) if name.lower() in may] for need, may in VARIANT_COLUMNS.items()}
        if lacking := [need for need, places in at.items() if need != "id" and not places]:
            return names, lacking
        for need, places in at.items():
            if need != "id" and len(places) > 1:
                raise ValueError(f"{self.path}: {names[places[0]]!r} and {names[places[1]]!r} both name the {need}")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{self.path}: column {twice!r} is there twice; names must differ")
        self.kind, self.columns, self._commas = "table", names, commas
        self._at = [places[0] if places else -1 for places in at.values()]
        return names, []

    def _without_column_line(self, first: str | None) -> None:
        """Find out what a file is that has no #CHROM line; `first` is its first line that is no comment."""
        if first is None:
            raise ValueError(f"{self.path}: only comments, no records and no #CHROM line; the file may be cut off")
        names, lacking = self._read_table(first)
        if not lacking:
            self.header.append(first)
            return
        if len(lacking) < 3:
            need = lacking[0]
            raise ValueError(
                f"{self.path}: a table without a column {need!r}: it may be called {', '.join(VARIANT_COLUMNS[need])}; "
                f"there are {', '.join(names)}"
            )
        columns = first.split("\t")
        if len(columns) >= 5 and columns[1].isdecimal() and _REF.fullmatch(columns[3]):
            self.notes.append(f"{self.path} has no #CHROM line; read as a VCF, by its columns")
            return
        raise ValueError(
            f"{self.path}: neither VCF nor a table of variants; its first line is {first[:60]!r}. A VCF has a #CHROM "
            "line and tabs, a table a first line with the names chrom, pos, ref and alt"
        )

    # --- reading

    def _scan(self) -> Iterator[Record]:
        """Yield all records of a text."""
        table = self.kind == "table"
        number, repeated = 0, 0
        names = self.header[-1] if table else None
        for line_number, line in read_lines(self.path, "surrogateescape"):
            if line[0] == "#":
                repeated += line_number > self._header_ends
                continue
            if names is not None and line == names and not number:
                names = None
                continue
            yield self._of_table(number, line_number, line) if table else self._of_vcf(number, line_number, line)
            number += 1
        note = f"{self.path}: {repeated:,} lines with # among the records are comments, and not in the output"
        if repeated and note not in self.notes:
            self.notes.append(note)

    def _of_vcf(self, number: int, line_number: int | None, line: str) -> Record:
        fields = line.split("\t", 8)
        if self.drop_samples:
            del fields[8:]
        whole = len(fields) >= 5
        chrom, pos, name, ref, alt = fields[:5] if whole else [*fields, "", "", "", ""][:5]
        alts = alt.split(",") if alt else ["."]
        return Record(number, line_number, chrom, _place(pos) if whole else None, name or ".", ref, alts, fields)

    def _of_table(self, number: int, line_number: int, line: str) -> Record:
        fields = _parted(line) if self._commas else line.split("\t")
        whole = len(fields) == len(self.columns)
        fields += [""] * (len(self.columns) - len(fields))
        fields[len(self.columns) - 1 :] = [" ".join(fields[len(self.columns) - 1 :])]  # more values than names
        chrom, pos, ref, alt = (fields[at].strip() for at in self._at[:4])
        name = (fields[self._at[4]] if self._at[4] >= 0 else "") or "."
        alts = alt.split(",") if alt else ["."]
        return Record(number, line_number, chrom, _place(pos) if whole else None, name, ref, alts, fields)

    # --- regions

    def _inside(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the records that touch the region with REF, or up to INFO/END, numbered anew."""
        assert self.region is not None
        chrom, number, others = self.region.contig, 0, dict.fromkeys(self.declared)
        seen = chrom in others
        for record in records:
            if record.chrom != chrom:
                if len(others) < 5:
                    others[record.chrom] = None
                continue
            seen = True
            if record.pos is None or record.pos > self.region.end:
                continue
            last = record.pos + max(len(record.ref), 1) - 1
            if last <= self.region.start and self.kind != "table" and len(record.fields) > 7:
                match = _END.search(record.fields[7])
                last = int(match[1]) if match else last
            if last > self.region.start:
                yield record._replace(number=number)
                number += 1
        if not seen:
            names = ", ".join(list(others)[:5]) or "none"
            raise ValueError(f"region {chrom}: {self.path} has no such contig; it has {names}")

    def _index(self) -> Path | None:
        """Return the tabix or CSI index of a bgzip VCF, if there is one and it is not older than its file."""
        if not self._zipped or self.kind != "vcf":
            return None
        for suffix in (".tbi", ".csi"):
            index = self.path.with_name(self.path.name + suffix)
            if index.is_file():
                if index.stat().st_mtime >= self.path.stat().st_mtime:
                    return index
                note = f"{index} is older than its file, and is not used; the whole file is read"
                self.notes += [note] if note not in self.notes else []
        return None

    def _from_index(self, index: Path) -> Iterator[Record]:
        import pysam

        assert self.region is not None
        chrom, start, end = self.region.contig, self.region.start, self.region.end
        try:
            # Latin-1 keeps every byte; what the bytes mean is decided as where the whole file is read.
            with quiet():
                opened = pysam.TabixFile(str(self.path), index=str(index), encoding="latin-1")
            with opened as file:
                contigs = file.contigs
                lines = file.fetch(chrom, start, None if end == CONTIG_END else end) if chrom in contigs else iter(())
                records = self._inside(self._of_vcf(0, None, _decoded(line)) for line in lines)
                if chrom in contigs or chrom in self.declared:
                    yield from records
                    return
        except OSError as error:
            raise ValueError(f"{self.path}: could not be read by {index.name} ({error}); index it anew") from None
        raise ValueError(f"region {chrom}: {self.path} has no such contig; it has {', '.join(contigs[:5])}")

    # --- BCF

    def _open_bcf(self) -> None:
        if self._zipped and is_truncated_bgzip(self.path):
            with quiet(), self._bcf(ignore_truncation=True) as file:
                last = 0
                with contextlib.suppress(OSError, ValueError):
                    for _ in file:
                        last += 1
            raise ValueError(f"{self.path}: truncated after record {last} (bgzip without its end-of-file block)")
        with self._bcf() as file:
            self.header = str(file.header).splitlines()
            self.names = list(file.header.samples)

    @contextlib.contextmanager
    def _bcf(self, **options):
        import pysam

        try:
            with quiet():  # htslib would print that there is no index
                file = pysam.VariantFile(str(self.path), "rb", drop_samples=self.drop_samples, **options)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path}: this BCF cannot be read ({error}); copy the file again") from None
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):  # closing a file that could not be read fails once more
                file.close()

    def _from_bcf(self) -> Iterator[Record]:
        with self._bcf() as file:
            if self.region is not None and file.index is not None and self.region.contig in file.header.contigs:
                end = None if self.region.end == CONTIG_END else self.region.end
                lines = file.fetch(self.region.contig, self.region.start, end)
            else:
                lines = iter(file)
            records = self._of_bcf(lines)
            yield from records if self.region is None else self._inside(records)

    def _of_bcf(self, lines) -> Iterator[Record]:
        number = 0
        while True:
            try:
                line = str(next(lines)).rstrip("\n")
            except StopIteration:
                return
            except UnicodeDecodeError:
                raise ValueError(
                    f"{self.path}:record {number + 1}: not UTF-8, which pysam cannot read from a BCF; "
                    f"give it as a VCF: bcftools view -Oz {self.path}"
                ) from None
            except (OSError, ValueError) as error:
                raise ValueError(f"{self.path}: broken or truncated after record {number} ({error})") from None
            yield self._of_vcf(number, None, line)
            number += 1


def _parted(line: str) -> list[str]:
    """Part a line at its commas, quotes heeded."""
    try:
        return next(csv.reader([line]))
    except csv.Error:  # a value of more than 128 KiB
        return line.split(",")


def _decoded(line: str) -> str:
    return line.rstrip("\r").encode("latin-1").decode("utf-8", "surrogateescape")


def _is_column_line(line: str) -> bool:
    return line.split(None, 5)[:5] == list(VCF_COLUMNS[:5])


def _place(text: str) -> int | None:
    """Return a whole number from 0 up, or None."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        return None
    place = int(text)
    return place if place <= _LARGEST else None
