"""Write records with the values of each ALT as VCF, BCF, TSV or Parquet: every record, in input order.

Records are read a second time; their text is kept and INFO is added to. Everything is written aside and renamed.

Memory: a batch of rows. Cost: the records are read twice, once for what the header must say, once to be written.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genolm.genome.alleles import VARIANT_COLUMNS
from genolm.variants.vcf import Record, Records
from genolm.variants.vcf_lines import HEADER_ID, HeaderSurvey, survey_header, vcf_lines

SUFFIXES = (".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet")
STATUS = "GENOLM_STATUS"
"""The INFO field, or column, that holds the word for what became of an ALT."""

_ROW_GROUP = 1 << 16
_TBI_LIMIT = 1 << 29
_BCF_LIMIT = (1 << 31) - 1
_TYPE = re.compile(r"[<,]Type=(\w+)")


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
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if out.name.lower().endswith(suffix) and len(out.name) > len(suffix):
            return suffix
    raise ValueError(f"--out {out}: its name must end in {', '.join(SUFFIXES)}")


def write_records(
    out: str | Path,
    records: Records,
    results: Iterable[Mapping[str, Sequence | np.ndarray]],
    header: Sequence[str],
    exclude: str | None = None,
    survey: HeaderSurvey | None = None,
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
        survey: of all records; where not given, they are read once more for it.

    Raises:
        ValueError: the name ends otherwise, `out` is the input, or it cannot be written.
    """
    out = Path(out)
    suffix = check_suffix(out)
    if out.exists() and out.samefile(records.path):
        raise ValueError(f"--out {out} is the file that is read; name another")
    types = {m[2]: (_TYPE.search(line) or ["", "String"])[1] for line in header if (m := HEADER_ID.match(line))}
    written = Written()
    rows = _rows(records, _Feed(results, types), exclude, written)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f"{out.name}.partial")
    indexes = [out.with_name(out.name + end) for end in (".tbi", ".csi")]
    try:
        if suffix == ".parquet":
            _write_parquet(aside, records, rows, types)
        elif suffix.startswith(".tsv"):
            _write_lines(aside, _table_lines(records, rows, types), suffix.endswith(".gz"))
        else:
            header_survey = survey or survey_header(records)
            if suffix == ".bcf" and header_survey.largest > _BCF_LIMIT:
                raise ValueError(f"--out {out}: BCF holds no places beyond {_BCF_LIMIT:,}; write a .vcf.gz instead")
            lines = vcf_lines(records, rows, header, list(types), header_survey)
            _write_lines(aside, lines, zipped=suffix == ".vcf.gz")
            if header_survey.mended:
                lines_that = f"{header_survey.mended:,} line{'s' * (header_survey.mended != 1)} that"
                written.notes.append(f"{lines_that} htslib could not read had to be mended; see GENOLM_LINE")
            if suffix == ".bcf":
                _to_bcf(aside)
        if suffix in (".vcf.gz", ".bcf"):
            made = _index(aside, header_survey, suffix == ".bcf", written.notes, out)
            for end in indexes:
                end.unlink(missing_ok=True)  # an older one would be of another file
            os.replace(aside, out)
            if made is not None:
                written.index = out.with_name(out.name + made.suffix)
                os.replace(made, written.index)
        else:
            os.replace(aside, out)
    finally:
        for path in (aside, *(aside.with_name(aside.name + end) for end in (".tbi", ".csi", ".bcf"))):
            path.unlink(missing_ok=True)
    return written


class _Feed:
    """Values of one ALT after another, as words, from parts that may end anywhere."""

    def __init__(self, parts: Iterable[Mapping[str, Sequence | np.ndarray]], types: Mapping[str, str]):
        self._parts = iter(parts)
        self._types = types
        self._words: list[list[str]] = [[] for _ in types]
        self._at = 0

    def take(self, count: int) -> list[list[str]]:
        """Return the words of the next ALTs: a list for each field."""
        end = self._at + count
        while self._words and end > len(self._words[0]):
            part = next(self._parts, None)
            assert part is not None, "fewer results than ALTs"
            assert part.keys() == self._types.keys(), f"{sorted(part)} are not {sorted(self._types)}"
            for i, (name, kind) in enumerate(self._types.items()):
                self._words[i] = self._words[i][self._at :] + as_words(part[name], kind)
            assert len({len(words) for words in self._words}) == 1, "fields of different lengths"
            self._at, end = 0, count
        taken = [words[self._at : end] for words in self._words]
        self._at = end
        return taken

    def finish(self) -> None:
        """Check that nothing is left."""
        left = (len(self._words[0]) - self._at if self._words else 0) + sum(
            len(values) for part in self._parts for values in list(part.values())[:1]
        )
        assert not left, f"{left} results more than ALTs"


def as_words(values: Sequence | np.ndarray, kind: str) -> list[str]:
    """Return values as they are written, `.` for none: whole numbers whole, others with five digits, words as they are.

    Equal scores give equal bytes: 0 has no sign, and digits beyond the fifth are dropped.
    """
    if kind == "Float":
        numbers = np.array(values, dtype=np.float64) + 0.0
        return ["." if word == "nan" else word for word in ("%.5g" % number for number in numbers.tolist())]  # noqa: UP031
    if kind == "Integer":
        if isinstance(values, np.ndarray) and values.dtype.kind in "biu":
            return [str(int(number)) for number in values.tolist()]
        return ["." if number is None or number != number else str(int(number)) for number in values]
    return [str(word) if word is not None and word != "" else "." for word in values]


def _rows(records: Records, feed: _Feed, exclude: str | None, written: Written) -> Iterator[tuple[Record, list]]:
    """Yield records and the words of their ALTs; count them, and leave out what is to be left out."""
    status = list(feed._types).index(STATUS) if exclude is not None else -1
    for record in records:
        words = feed.take(len(record.alts))
        written.num_records += 1
        written.num_alts += len(record.alts)
        if exclude is not None and all(word == exclude for word in words[status]):
            written.num_excluded += 1
            continue
        yield record, words
    feed.finish()
    written.notes += records.notes


# --- tables


def _table_columns(records: Records, types: Mapping[str, str]) -> tuple[list[str], list[int]]:
    """Return names of the input's columns that are written, and where they stand in a row of `_cells`."""
    names = records.columns or ["chrom", "pos", "id", "ref", "alt"]
    kept = [i for i, name in enumerate(names) if name not in types]
    return [names[i] for i in kept], kept


def _cells(records: Records, record: Record, alt: str) -> list[str]:
    """Return the input's columns of one ALT."""
    if records.kind != "table":
        fields = [*record.fields[:5], ".", ".", ".", ".", "."][:5]
        return [*fields[:4], alt]
    cells = [cell.replace("\t", " ") for cell in record.fields]
    if len(record.alts) > 1:
        cells[_position(records, "alt")] = alt
    return cells


def _position(records: Records, need: str) -> int:
    """Return where chrom, pos, id, ref or alt stands among the columns that `_cells` returns."""
    names = records.columns or ["chrom", "pos", "id", "ref", "alt"]
    return next(i for i, name in enumerate(names) if name.lower() in VARIANT_COLUMNS[need])


def _table_lines(records: Records, rows: Iterator, types: Mapping[str, str]) -> Iterator[str]:
    """Yield lines of a TSV: a row for each ALT."""
    columns, kept = _table_columns(records, types)
    if records.kind == "table":
        yield from (line for line in records.header if line.startswith("##"))
    yield "\t".join([*columns, *types])
    for record, words in rows:
        for i, alt in enumerate(record.alts):
            cells = _cells(records, record, alt)
            ours = ["NA" if values[i] == "." else values[i] for values in words]
            yield "\t".join([*(cells[at] for at in kept), *ours])


def _write_parquet(path: Path, records: Records, rows: Iterator, types: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, kept = _table_columns(records, types)
    place = _position(records, "pos")
    kinds = {"Float": pa.float64(), "Integer": pa.int64()}
    schema = pa.schema(
        [pa.field(name, pa.int64() if at == place else pa.string()) for name, at in zip(columns, kept, strict=True)]
        + [pa.field(name, kinds.get(kind, pa.string())) for name, kind in types.items()]
    )
    read: list[Any] = [{"Float": float, "Integer": int}.get(kind, str) for kind in types.values()]
    arrays: list[list] = [[] for _ in schema]

    def flush() -> None:
        writer.write_table(pa.table([pa.array(v, f.type) for v, f in zip(arrays, schema, strict=True)], schema=schema))
        for values in arrays:
            values.clear()

    with pq.ParquetWriter(path, schema) as writer:
        for record, words in rows:
            for i, alt in enumerate(record.alts):
                cells = [_plain(cell) for cell in _cells(records, record, alt)]
                row: list[Any] = [record.pos if at == place else cells[at] for at in kept]
                row += [None if v[i] == "." else r(v[i]) for r, v in zip(read, words, strict=True)]
                for values, value in zip(arrays, row, strict=True):
                    values.append(value)
            if len(arrays[0]) >= _ROW_GROUP:
                flush()
        if arrays[0]:
            flush()


def _plain(text: str) -> str:
    """Replace bytes that are no UTF-8, which Parquet cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# --- files


def _write_lines(path: Path, lines: Iterator[str], zipped: bool) -> None:
    """Write lines, bgzip or plain, a few thousand at a time."""
    import pysam

    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(pysam.BGZFile(str(path), "wb", None) if zipped else path.open("wb"))
        batch: list[str] = []
        for line in lines:
            batch.append(line)
            if len(batch) == 4096:
                file.write(("\n".join(batch) + "\n").encode("utf-8", "surrogateescape"))
                batch.clear()
        if batch:
            file.write(("\n".join(batch) + "\n").encode("utf-8", "surrogateescape"))


def _to_bcf(path: Path) -> None:
    """Turn a VCF into a BCF; fields and filters that its header lacks are declared as htslib takes them to be."""
    import pysam
    import pysam.bcftools

    made = path.with_name(path.name + ".bcf")
    whole = path.with_name(path.name + ".vcf")
    said = pysam.set_verbosity(0)
    try:
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
    finally:
        pysam.set_verbosity(said)
        whole.unlink(missing_ok=True)
    os.replace(made, path)


def _index(aside: Path, header_survey: HeaderSurvey, bcf: bool, notes: list[str], out: Path) -> Path | None:
    """Index a bgzip VCF or a BCF; where that cannot be, say why."""
    import pysam

    if header_survey.unsorted is not None:
        notes.append(f"{out} has no index, because the records are not sorted ({header_survey.unsorted})")
        return None
    csi = bcf or header_survey.largest >= _TBI_LIMIT
    said = pysam.set_verbosity(0)
    for suffix in [".csi"] if csi else [".tbi", ".csi"]:
        index = aside.with_name(aside.name + suffix)
        options: dict[str, Any] = {"preset": "bcf" if bcf else "vcf", "csi": suffix == ".csi", "index": str(index)}
        try:
            pysam.tabix_index(str(aside), force=True, keep_original=True, **options)
        except (OSError, ValueError):
            index.unlink(missing_ok=True)
            continue
        finally:
            pysam.set_verbosity(said)
        return index
    notes.append(f"{out} has no index: htslib cannot index its records")
    return None
