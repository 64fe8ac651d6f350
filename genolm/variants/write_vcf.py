"""Write records with the values of each ALT as VCF, BCF, TSV or Parquet: every record, in input order.

Records are read a second time; their text is kept and INFO is added to. Everything is written aside and renamed. Lines
of a VCF are written before its header, which says what is in them, and joined to it: all of them readable by htslib.

Memory: a batch of rows.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from genolm.genome.alleles import VARIANT_COLUMNS
from genolm.genome.sniff import quiet
from genolm.variants.vcf import VCF_COLUMNS, Record, Records

SUFFIXES = (".vcf.gz", ".vcf", ".bcf", ".tsv.gz", ".tsv", ".parquet")
STATUS = "GENOLM_STATUS"
"""The INFO field, or column, that holds the word for what became of an ALT."""

_ROW_GROUP = 1 << 16
_TBI_LIMIT = 1 << 29
_BCF_LIMIT = (1 << 31) - 1
_BGZF_END = 28
"""Bytes of the empty block that ends a bgzip file."""
_TYPE = re.compile(r"[<,]Type=(\w+)")
_ID = re.compile(r"##(\w+)=<(?:[^\"]*?,)?ID=([^,>]+)")
_NAME = re.compile(r"[0-9A-Za-z!#$%&+./:;?@^_|~-][0-9A-Za-z!#$%&*+./:;=?@^_|~-]*")
# Names of filters and fields that htslib cannot declare, where the header does not: with < > or a comma, with a space
# at an end, or beginning with a quote or a bracket. One of them ends its reading of the file.
_ODD = re.compile(r"[<>,]|^[\"\[]")
_ODD_NAMES = re.compile(r"[<>,]|(?:^|[;:])[\"\[ ]| (?:$|[;:])")
_ODD_KEY = re.compile(r"(?:^|;)(?:[\"\[ ]|[^=;<>,]*(?:[<>,]| (?:$|[;=])))")
_LINE = (
    '##INFO=<ID=GENOLM_LINE,Number=1,Type=Integer,Description="Line of the input, which could not be kept: '
    'missing columns became ., a place that is no number 0, illegal characters _, surplus columns were left out">'
)

Row = tuple[Record, list[tuple[str, ...]]]
"""A record, and of each of its ALTs the words of all fields, `.` for no value."""


@dataclass
class Written:
    """What was written.

    Attributes:
        num_records: records read.
        num_alts: ALTs of them.
        num_excluded: records that were left out.
        index: the index beside the file, if one was made.
        notes: what a user should know.
    """

    num_records: int = 0
    num_alts: int = 0
    num_excluded: int = 0
    index: Path | None = None
    notes: list[str] = field(default_factory=list)


def check_suffix(out: Path) -> str:
    """Return which of `SUFFIXES` a file's name ends in.

    Raises:
        ValueError: none of them.
    """
    for suffix in SUFFIXES:
        if out.name.lower().endswith(suffix) and len(out.name) > len(suffix):
            return suffix
    raise ValueError(f"--out {out}: its name must end in .vcf, .vcf.gz, .bcf, .tsv, .tsv.gz, .parquet")


def write_records(
    out: str | Path,
    records: Records,
    results: Iterable[Mapping[str, Sequence | np.ndarray]],
    header: Sequence[str],
    exclude: str | None = None,
) -> Written:
    """Write every record with the values of its ALTs.

    VCF: values of the ALTs are joined by commas, `.` where there is none; a field without any is left out. Contigs that
    no line declares get one. Lines end in LF. A line that htslib could not read is mended, and GENOLM_LINE gives its
    number in the input: `.` for columns and samples that are missing or empty, 0 for a place that is no number, `_` for
    characters that a contig, filter or field may not have in its name; columns beyond the samples are left out. What
    the samples hold is not looked at. A `.vcf.gz` is bgzip, with a .tbi index, or a .csi where places reach 2**29;
    without one where records are not sorted.
    TSV and Parquet: a row for each ALT, with chrom, pos, id, ref and alt of a VCF, or all columns of a table; `NA`, or
    null, where there is no value.
    Numbers have five digits in each of them.

    Args:
        out: the file; its name ends in one of `SUFFIXES`.
        records: opened records; they are read again.
        results: parts, one after the other: INFO's ID → a value for each ALT, in the order of records and their ALTs.
            A part may end anywhere. NaN, None and "" are no value.
        header: lines that begin with ##; its INFO lines (Number=A) name the values, in order, and their Type.
        exclude: records whose `GENOLM_STATUS` is this word, of all ALTs, are left out.

    Raises:
        ValueError: the name ends otherwise, `out` is the input, or it cannot be written.
    """
    out = Path(out)
    suffix = check_suffix(out)
    if out.exists() and out.samefile(records.path):
        raise ValueError(f"--out {out} is the file that is read; name another")
    types = {m[2]: (_TYPE.search(line) or ["", "String"])[1] for line in header if (m := _ID.match(line))}
    written = Written()
    rows = _rows(records, results, types, exclude, written)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside, index = out.with_name(f"{out.name}.partial"), None
    try:
        if suffix == ".parquet":
            _write_parquet(aside, records, rows, types)
        elif suffix.startswith(".tsv"):
            _write_lines(aside, _table_lines(records, rows, types), suffix == ".tsv.gz")
        else:
            lines = VcfLines(records, list(types))
            _write_vcf(aside, lines, rows, header, zipped=suffix == ".vcf.gz")
            if lines.mended:
                lines_that = f"{lines.mended:,} line{'s' * (lines.mended != 1)} that"
                written.notes.append(f"{lines_that} htslib could not read had to be mended; see GENOLM_LINE")
            if suffix == ".bcf":
                if lines.largest > _BCF_LIMIT:
                    raise ValueError(f"--out {out}: BCF holds no places beyond {_BCF_LIMIT:,}; write a .vcf.gz instead")
                _to_bcf(aside)
            if suffix != ".vcf":
                index = _index(aside, lines, suffix == ".bcf", written.notes, out)
                for end in (".tbi", ".csi"):
                    out.with_name(out.name + end).unlink(missing_ok=True)  # an older one would be of another file
        os.replace(aside, out)
        if index is not None:
            written.index = out.with_name(out.name + index.suffix)
            os.replace(index, written.index)
    finally:
        for end in ("", ".lines", ".vcf", ".bcf", ".tbi", ".csi"):
            aside.with_name(aside.name + end).unlink(missing_ok=True)
    return written


def _rows(records: Records, results: Iterable, types: Mapping[str, str], exclude: str | None, written: Written):
    """Yield each record with the words of its ALTs; count them, and leave out what is to be left out."""
    fields = (tuple(as_words(part[name], kind) for name, kind in types.items()) for part in results)
    each = (words for columns in fields for words in zip(*columns, strict=True))
    status = list(types).index(STATUS) if exclude is not None else -1
    for record in records:
        alts = list(islice(each, len(record.alts)))
        assert len(alts) == len(record.alts), "fewer results than ALTs"
        written.num_records += 1
        written.num_alts += len(alts)
        if exclude is not None and all(words[status] == exclude for words in alts):
            written.num_excluded += 1
        else:
            yield record, alts
    left = sum(1 for _ in each)
    assert not left, f"{left} results more than ALTs"
    written.notes += records.notes


def as_words(values: Sequence | np.ndarray, kind: str) -> list[str]:
    """Return values as they are written, `.` for none: whole numbers whole, others with five digits, words as they are.

    Equal scores give equal bytes: 0 has no sign, and digits beyond the fifth are dropped.
    """
    if kind == "Float":
        numbers = np.array(values, dtype=np.float64) + 0.0
        return ["." if word == "nan" else word for word in ("%.5g" % number for number in numbers.tolist())]  # noqa: UP031
    if kind == "Integer":
        return ["." if number is None or number != number else str(int(number)) for number in values]
    return [str(word) if word is not None and word != "" else "." for word in values]


# --- tables


def _table_rows(
    records: Records, rows: Iterable[Row], types: Mapping[str, str], pos_as_read: bool = False
) -> Iterator[list[Any]]:
    """Yield the names of the columns, then a row for each ALT; None for no value, and for a POS that was not read."""
    names = records.columns or ["chrom", "pos", "id", "ref", "alt"]
    pos, alt = ([name.lower() in VARIANT_COLUMNS[need] for name in names].index(True) for need in ("pos", "alt"))
    kept = [i for i, name in enumerate(names) if name not in types]
    yield [*(names[i] for i in kept), *types]
    for record, alts in rows:
        cells: list[Any] = [*record.fields[:5], ".", ".", ".", ".", "."][:5]
        if records.kind == "table":
            cells = [cell.replace("\t", " ") for cell in record.fields]
        if pos_as_read:
            cells[pos] = None if record.pos is None else str(record.pos)
        for i, words in enumerate(alts):
            if records.kind != "table" or len(alts) > 1:
                cells[alt] = record.alts[i]
            yield [*(cells[at] for at in kept), *(None if word == "." else word for word in words)]


def _table_lines(records: Records, rows: Iterable[Row], types: Mapping[str, str]) -> Iterator[str]:
    """Yield lines of a TSV."""
    if records.kind == "table":
        yield from (line for line in records.header if line.startswith("##"))
    for row in _table_rows(records, rows, types):
        yield "\t".join("NA" if cell is None else cell for cell in row)


def _write_parquet(path: Path, records: Records, rows: Iterable[Row], types: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    each = _table_rows(records, rows, types, pos_as_read=True)
    kinds = {"Float": pa.float64(), "Integer": pa.int64()}
    of_column = {name: "Integer" for name in records.columns or ["pos"] if name.lower() in VARIANT_COLUMNS["pos"]}
    schema = pa.schema([(name, kinds.get((of_column | dict(types)).get(name, ""), pa.string())) for name in next(each)])
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(each, _ROW_GROUP)):
            columns = [[cell and _plain(cell) for cell in column] for column in zip(*batch, strict=True)]
            arrays = [pa.array(v, pa.string()).cast(f.type) for v, f in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))


def _plain(text: str) -> str:
    """Replace bytes that are no UTF-8, which Parquet cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# --- VCF


class VcfLines:
    """Lines of a VCF, and what its header must say of those that were made.

    Attributes:
        contigs: names of contigs in the records, in order → the legal names that they are written by.
        unsorted: where the first record that is out of order stands, and why; None where all are sorted.
        largest: greatest end of a record, 1-based.
        mended: number of lines that could not be kept as they are.
        num_samples: samples of a line; None before the first record.
    """

    def __init__(self, records: Records, names: list[str]):
        """Make lines of records with INFO fields of these names."""
        self.records, self.names = records, names
        self.contigs: dict[str, str] = {}
        self.unsorted: str | None = None
        self.largest = self.mended = 0
        self.num_samples: int | None = None
        self._last: tuple[str | None, int] = (None, 0)
        self._has_names = records.kind != "vcf" or any(line.startswith("#CHROM") for line in records.header)

    def header(self, ours: Sequence[str]) -> Iterator[str]:
        """Yield header lines: the input's own, minus those that ours replace, then ours, then the columns."""
        records, ours = self.records, [_LINE, *ours] if self.mended else ours
        mine = {_identity(line) for line in ours}
        kept = [line for line in records.header if line.startswith("##")] if records.kind != "table" else []
        version = next((line for line in kept if line.startswith("##fileformat=VCF")), "##fileformat=VCFv4.2")
        yield version
        yield from (line for line in kept if line != version and _identity(line) not in mine)
        declared = set(records.declared)
        yield from (f"##contig=<ID={x}>" for x in dict.fromkeys(self.contigs.values()) if x not in declared)
        yield from ours
        columns, num_samples = list(VCF_COLUMNS), self.num_samples
        if num_samples := len(records.names) if num_samples is None else num_samples:
            names = records.names if self._has_names else [f"sample{i}" for i in range(1, num_samples + 1)]
            columns += ["FORMAT", *names]
        yield "\t".join(columns)

    def line(self, record: Record, alts: list[tuple[str, ...]]) -> str:
        """Return the line of a record; values of the same fields that an earlier run left are replaced."""
        self._take(record)
        fields, mended = self._fields(record)
        self.mended += mended
        ours = [f"GENOLM_LINE={record.line or record.number + 1}"] if mended else []
        for name, values in zip(self.names, zip(*alts, strict=True), strict=True):
            word = ",".join(values)
            if word.strip(".,"):
                ours.append(f"{name}={word}")
        info = fields[7]
        if "GENOLM_" in info:
            older = {*self.names, "GENOLM_LINE"} if mended else set(self.names)
            info = ";".join(entry for entry in info.split(";") if entry.partition("=")[0] not in older) or "."
        fields[7] = ";".join(ours if info == "." else [info.rstrip(";"), *ours]) or "."
        return "\t".join(fields)

    def _take(self, record: Record) -> None:
        """Take the next record into account."""
        records = self.records
        if self.num_samples is None:
            unnamed = not self._has_names and len(record.fields) > 8
            self.num_samples = record.fields[8].count("\t") if unnamed else len(records.names)
        chrom, before = self._last
        if record.chrom != chrom:
            if record.chrom in self.contigs and self.unsorted is None:
                self.unsorted = f"{records.where(record)}: {record.chrom} comes a second time"
            chrom, before = record.chrom, 0
            if chrom not in self.contigs:
                self.contigs[chrom] = chrom if chrom in records.declared else _legal(chrom)
        pos = record.pos or 0
        if pos < before and self.unsorted is None:
            self.unsorted = f"{records.where(record)}: {chrom}:{pos} comes after {chrom}:{before}"
        self._last = (chrom, pos)
        self.largest = max(self.largest, pos + len(record.ref))

    def _fields(self, record: Record) -> tuple[list[str], bool]:
        """Return the columns of a line as htslib can read them, and whether they had to be mended."""
        before = record.fields
        if self.records.kind == "table":
            before = [record.chrom, str(record.pos), record.id, record.ref, ",".join(record.alts), ".", ".", "."]
        fields = [*before, *["."] * (8 - len(before))]
        fields[0] = self.contigs[record.chrom]
        if record.pos is None:
            fields[1] = "0"
        count = self.num_samples
        if count and (len(fields) < 9 or fields[8].count("\t") != count):
            samples = fields[8].split("\t") if len(fields) > 8 else []
            fields[8:] = ["\t".join([*samples, *["."] * (count + 1)][: count + 1])]
        if _ODD_NAMES.search(fields[6]) or _ODD_KEY.search(fields[7]):
            fields[6] = _even(fields[6], ";")
            pairs = [entry.partition("=") for entry in fields[7].split(";")]
            fields[7] = ";".join(_even(key, ";") + sign + value for key, sign, value in pairs)
        if len(fields) > 8:
            if "\t\t" in fields[8] or fields[8][:1] in ("", "\t") or fields[8][-1:] == "\t":
                fields[8] = "\t".join(word or "." for word in fields[8].split("\t"))
            if _ODD_NAMES.search(names := fields[8].partition("\t")[0]):
                fields[8] = _even(names, ":") + fields[8][len(names) :]
        if "" in fields[:8]:
            fields[:8] = [word or "." for word in fields[:8]]
        return fields, fields != before


def _identity(line: str) -> tuple[str, ...]:
    """Tell header lines apart: by kind and ID where they have one, else by their key."""
    match = _ID.match(line)
    return (match[1], match[2]) if match else (line.split("=", 1)[0],)


def _legal(name: str) -> str:
    """Return a contig's name as a VCF may have it."""
    if _NAME.fullmatch(name):
        return name
    return "".join(c if _NAME.fullmatch(f"a{c}") else "_" for c in name.replace("*", "_", 1)) or "_"


def _even(names: str, separator: str) -> str:
    """Return names of filters or fields as htslib can declare them."""
    return separator.join(_ODD.sub("_", name.strip(" ")) for name in names.split(separator))


# --- files


def _write_vcf(path: Path, lines: VcfLines, rows: Iterable[Row], header: Sequence[str], zipped: bool) -> None:
    """Write the records, then the header before them."""
    body = path.with_name(f"{path.name}.lines")
    _write_lines(body, (lines.line(*row) for row in rows), zipped)
    _write_lines(path, lines.header(header), zipped)
    with path.open("r+b") as file, body.open("rb") as rest:
        file.seek(-_BGZF_END if zipped else 0, os.SEEK_END)
        shutil.copyfileobj(rest, file)


def _write_lines(path: Path, lines: Iterator[str], zipped: bool) -> None:
    """Write lines, bgzip or plain, a few thousand at a time."""
    import pysam

    with pysam.BGZFile(str(path), "wb", None) if zipped else path.open("wb") as file:
        while batch := list(islice(lines, 4096)):
            file.write(("\n".join(batch) + "\n").encode("utf-8", "surrogateescape"))


def _to_bcf(path: Path) -> None:
    """Turn a VCF into a BCF; fields and filters that its header lacks are declared as htslib takes them to be."""
    import pysam
    import pysam.bcftools

    made, whole = (path.with_name(path.name + end) for end in (".bcf", ".vcf"))
    try:
        with quiet():
            with pysam.VariantFile(str(path)) as file:
                for _ in file:
                    pass
                header = str(file.header)
            with path.open("rb") as old, whole.open("wb") as new:
                new.write(header.encode())
                new.writelines(line for line in old if not line.startswith(b"#"))
            pysam.bcftools.view("--no-version", "-Ob", "-o", str(made), str(whole), catch_stdout=False)
    except (pysam.SamtoolsError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[-200:]
        raise ValueError(f"BCF cannot hold these records ({reason}); write a .vcf.gz instead") from None
    os.replace(made, path)


def _index(aside: Path, lines: VcfLines, bcf: bool, notes: list[str], out: Path) -> Path | None:
    """Index a bgzip VCF or a BCF; where that cannot be, say why."""
    import pysam

    if lines.unsorted is not None:
        notes.append(f"{out} has no index, because the records are not sorted ({lines.unsorted})")
        return None
    for suffix in (".csi",) if bcf or lines.largest >= _TBI_LIMIT else (".tbi", ".csi"):
        index = aside.with_name(aside.name + suffix)
        options: dict[str, Any] = {"preset": "bcf" if bcf else "vcf", "csi": suffix == ".csi", "index": str(index)}
        try:
            with quiet():
                pysam.tabix_index(str(aside), force=True, keep_original=True, **options)
            return index
        except (OSError, ValueError):
            index.unlink(missing_ok=True)
    notes.append(f"{out} has no index: htslib cannot index its records")
    return None
