"""Lines of a VCF, made of records and of what was found of their ALTs: all of them readable by htslib.

Cost: the records are read twice, once for what the header must say of them, once to be written.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from genolm.variants.vcf import VCF_COLUMNS, Record, Records

HEADER_ID = re.compile(r"##(\w+)=<(?:[^\"]*?,)?ID=([^,>]+)")
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


@dataclass
class HeaderSurvey:
    """What the header of a VCF must say of its records, and whether an index can be made.

    Attributes:
        contigs: names of contigs in the records, in order → the legal names that they are written by.
        unsorted: where the first record that is out of order stands, and why; None where all are sorted.
        largest: greatest end of a record, 1-based.
        mended: number of lines that cannot be kept as they are.
        num_samples: samples of a line; None before the first record.
        last: contig and position of the last record.
    """

    contigs: dict[str, str] = field(default_factory=dict)
    unsorted: str | None = None
    largest: int = 0
    mended: int = 0
    num_samples: int | None = None
    last: tuple[str | None, int] = (None, 0)

    def add(self, records: Records, record: Record) -> None:
        """Take the next record of `records` into account."""
        if self.num_samples is None:
            unnamed = not _has_names(records) and len(record.fields) > 8
            self.num_samples = record.fields[8].count("\t") if unnamed else len(records.names)
        chrom, before = self.last
        if record.chrom != chrom:
            if record.chrom in self.contigs and self.unsorted is None:
                self.unsorted = f"{records.where(record)}: {record.chrom} comes a second time"
            chrom, before = record.chrom, 0
            if chrom not in self.contigs:
                self.contigs[chrom] = chrom if chrom in records.declared else _legal(chrom)
        pos = record.pos or 0
        if pos < before and self.unsorted is None:
            self.unsorted = f"{records.where(record)}: {chrom}:{pos} comes after {chrom}:{before}"
        self.last = (chrom, pos)
        self.largest = max(self.largest, pos + len(record.ref))
        self.mended += _fields(records, record, self)[1]


def survey_header(records: Records) -> HeaderSurvey:
    """Read all records once for what the header of the output must say."""
    survey = HeaderSurvey()
    for record in records:
        survey.add(records, record)
    return survey


def _has_names(records: Records) -> bool:
    return records.kind != "vcf" or any(line.startswith("#CHROM") for line in records.header)


def vcf_lines(
    records: Records, rows: Iterator, header: Sequence[str], names: list[str], survey: HeaderSurvey
) -> Iterator[str]:
    """Yield the header and the records of a VCF."""
    declared = set(records.declared)
    new = [name for name in dict.fromkeys(survey.contigs.values()) if name not in declared]
    ours = [_LINE, *header] if survey.mended else header
    num_samples = len(records.names) if survey.num_samples is None else survey.num_samples
    yield from _header(records, ours, new, num_samples)
    yield from _body(records, rows, names, survey)


def _header(records: Records, ours: Sequence[str], contigs: Sequence[str], num_samples: int) -> Iterator[str]:
    """Yield header lines: the input's own, less those that ours replace, then ours, then the columns."""
    mine = {_identity(line) for line in ours}
    kept = [line for line in records.header if line.startswith("##")] if records.kind != "table" else []
    version = next((line for line in kept if line.startswith("##fileformat=VCF")), "##fileformat=VCFv4.2")
    yield version
    yield from (line for line in kept if line != version and _identity(line) not in mine)
    yield from (f"##contig=<ID={name}>" for name in contigs)
    yield from ours
    columns = list(VCF_COLUMNS)
    if num_samples:
        names = records.names if _has_names(records) else [f"sample{i}" for i in range(1, num_samples + 1)]
        columns += ["FORMAT", *names]
    yield "\t".join(columns)


def _identity(line: str) -> tuple[str, ...]:
    """Tell header lines apart: by kind and ID where they have one, else by their key."""
    match = HEADER_ID.match(line)
    return (match[1], match[2]) if match else (line.split("=", 1)[0],)


def _legal(name: str) -> str:
    """Return a contig's name as a VCF may have it."""
    if _NAME.fullmatch(name):
        return name
    return "".join(c if _NAME.fullmatch(f"a{c}") else "_" for c in name.replace("*", "_", 1)) or "_"


def _body(records: Records, rows: Iterator, names: list[str], survey: HeaderSurvey) -> Iterator[str]:
    """Yield the records of a VCF; values of the same fields that an earlier run left are replaced."""
    table = records.kind == "table"
    shared = os.path.commonprefix([*names, "GENOLM_LINE"])
    for record, words in rows:
        fields, mended = _fields(records, record, survey) if survey.mended or table else (list(record.fields), False)
        ours = []
        if mended:
            ours.append(f"GENOLM_LINE={record.line or record.number + 1}")
        for name, values in zip(names, words, strict=True):
            word = values[0] if len(values) == 1 else ",".join(values)
            if word.strip(".,"):
                ours.append(f"{name}={word}")
        info = fields[7]
        if shared in info:
            older = {*names, "GENOLM_LINE"} if mended else set(names)
            info = ";".join(entry for entry in info.split(";") if entry.partition("=")[0] not in older) or "."
        fields[7] = ";".join(ours if info == "." else [info.rstrip(";"), *ours]) or "."
        yield "\t".join(fields)


def _fields(records: Records, record: Record, survey: HeaderSurvey) -> tuple[list[str], bool]:
    """Return the columns of a VCF's line as htslib can read them, and whether they had to be mended."""
    if records.kind == "table":
        place = "0" if record.pos is None else str(record.pos)
        fields = [record.chrom, place, record.id, record.ref, ",".join(record.alts), ".", ".", "."]
        mended = record.pos is None
    else:
        fields = list(record.fields)
        mended = record.pos is None or len(fields) < 8
        fields += ["."] * (8 - len(fields))
        if record.pos is None:
            fields[1] = "0"
        count = survey.num_samples
        if count and (len(fields) < 9 or fields[8].count("\t") != count):
            mended = True
            samples = fields[8].split("\t") if len(fields) > 8 else []
            fields[8:] = ["\t".join([*samples, *["."] * (count + 1)][: count + 1])]
    name = survey.contigs[record.chrom]
    if name != record.chrom:
        fields[0], mended = name, True
    if _ODD_NAMES.search(fields[6]) or _ODD_KEY.search(fields[7]):
        fields[6] = _even(fields[6], ";")
        pairs = [entry.partition("=") for entry in fields[7].split(";")]
        fields[7] = ";".join(_even(key, ";") + sign + value for key, sign, value in pairs)
        mended = True
    if len(fields) > 8 and ("\t\t" in fields[8] or fields[8][:1] in ("", "\t") or fields[8][-1:] == "\t"):
        fields[8] = "\t".join(word or "." for word in fields[8].split("\t"))
        mended = True
    if len(fields) > 8 and _ODD_NAMES.search(names := fields[8].partition("\t")[0]):
        fields[8] = _even(names, ":") + fields[8][len(names) :]
        mended = True
    if "" in fields[:8]:
        fields[:8] = [word or "." for word in fields[:8]]
        mended = True
    return fields, mended


def _even(names: str, separator: str) -> str:
    """Return names of filters or fields as htslib can declare them."""
    return separator.join(_ODD.sub("_", name.strip(" ")) for name in names.split(separator))
