"""Alleles as they are scored: contigs by their names, REF checked, trimmed and left-aligned.

Two records that make the same sequence of the reference give equal `Allele`s, however they are spelled: what REF and
ALT share is trimmed (the anchor base too), and an insertion or deletion in a repeat moves to its left end.

Cost: a fetch of REF for each allele; for an insertion or deletion also of the repeat it stands in, in growing blocks.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genolm.genome.alleles import chromosome, trim
from genolm.genome.alphabet import to_array
from genolm.genome.reference import Reference

STATUSES = (
    "scored",
    "ref_mismatch",  # REF is not what the FASTA has there
    "contig_missing",  # the FASTA has no such contig
    "beyond_contig",  # REF reaches past the end of the contig
    "star",  # `*`, `<*>`, `<NON_REF>`
    "symbolic",  # `<DEL>`
    "breakend",  # `G]17:198982]`, `.A`
    "missing",  # `.`
    "ambiguous",  # N or IUPAC letters in REF, in ALT, or in the FASTA under REF
    "same",  # ALT is REF
    "too_long",  # more letters than are allowed
    "malformed",  # POS 0 or no number, letters that are no DNA, too few columns
)
CHECK_REF = ("exit", "warn", "exclude", "set-status")

_SETS = {"A": 1, "C": 2, "G": 4, "T": 8, "R": 5, "Y": 10, "S": 6, "W": 9, "K": 12, "M": 3}
_SETS |= {"B": 14, "D": 13, "H": 11, "V": 7, "N": 15}
_BITS = np.zeros(256, dtype=np.uint8)
for _letter, _bits in _SETS.items():
    _BITS[ord(_letter)] = _BITS[ord(_letter) | 0x20] = _bits

_BASES = re.compile("[ACGT]+", re.IGNORECASE)
_LETTERS = re.compile("[ACGTNRYSWKMBDHV]+", re.IGNORECASE)
_NO_REFERENCE = {"*", "<*>", "<NON_REF>"}


class Contigs:
    """Names in a VCF → numbers of contigs in a store.

    A name is looked for in the user's table, then among the store's names as it is, then as another name of the same
    chromosome: `chr1`, `1`, and of human `NC_000001.11` (GRCh38), `NC_000001.10` (GRCh37) or `NC_060925.1` (T2T);
    `chrM`, `M`, `MT`, `chrMT`, `NC_012920.1`, `rCRS`. Two accessions of one chromosome in different assemblies never
    stand for each other.

    Attributes:
        used: name in the VCF → name in the FASTA, where they differ.
        missing: names that the FASTA does not have.
    """

    def __init__(self, store: Reference, aliases: Mapping[str, str] | None = None):
        """Name the contigs of a store.

        Args:
            store: the genome.
            aliases: the user's table, name in the VCF → name in the FASTA; it wins.

        Raises:
            ValueError: the FASTA has none of the table's contigs.
        """
        self._aliases = dict(aliases or {})
        self._contigs = store.contigs
        self._by_name: dict[str, list[int]] = {}
        self._by_chromosome: dict[str, list[int]] = {}
        for number, contig in enumerate(store.contigs):
            self._by_name.setdefault(contig.name, []).append(number)
            self._by_chromosome.setdefault(chromosome(contig.name)[0], []).append(number)
        if self._aliases and not any(name in self._by_name for name in self._aliases.values()):
            first = next(iter(self._aliases.values()))
            raise ValueError(
                f"the FASTA has none of the contigs in the table of names, such as {first!r}; "
                "its first column is the name in the VCF, its second the name in the FASTA"
            )
        self._numbers: dict[str, int | None] = {}
        self.used: dict[str, str] = {}
        self.missing: list[str] = []

    def number(self, name: str) -> int | None:
        """Return the number of a contig in the store, or None where the store does not have it.

        Raises:
            ValueError: the name fits two contigs.
        """
        if name not in self._numbers:
            number = self._numbers[name] = self._find(name)
            if number is None:
                self.missing.append(name)
            elif (fasta_name := self._contigs[number].name) != name:
                self.used[name] = fasta_name
        return self._numbers[name]

    def _find(self, name: str) -> int | None:
        alias = self._aliases.get(name)
        numbers = self._by_name.get(name if alias is None else alias, [])
        if not numbers and alias is None:
            bare, assembly = chromosome(name)
            for number in self._by_chromosome.get(bare, []):
                if assembly is None or chromosome(self._contigs[number].name)[1] in (None, assembly):
                    numbers = [*numbers, number]
        if len(numbers) > 1:
            two = [self._contigs[number] for number in numbers[:2]]
            same = two[0].name == two[1].name
            first, second = (f"{contig.name} of {contig.genome}" if same else contig.name for contig in two)
            raise ValueError(
                f"contig {name!r} of the VCF fits two contigs of the FASTA, {first} and {second}; "
                + ("give a FASTA of one genome" if same else "say which one in a table of names")
            )
        return numbers[0] if numbers else None


def read_aliases(path: str | Path) -> dict[str, str]:
    """Read a table of contig names: name in the VCF, tab, name in the FASTA; lines that start with # are comments.

    Raises:
        ValueError: no such file, a line without two columns, or a name with two meanings; file and line are named.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; it holds two columns, name in the VCF and name in the FASTA")
    aliases: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text ({error}); it holds two columns, separated by a tab") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = [word.strip() for word in line.split("\t")]
        if len(columns) != 2 or not all(columns):
            raise ValueError(f"{path}:{number}: two columns separated by a tab are needed, got {line[:60]!r}")
        if (before := aliases.setdefault(*columns)) != columns[1]:
            raise ValueError(f"{path}:{number}: {columns[0]!r} is {columns[1]!r} here and {before!r} above")
    if not aliases:
        raise ValueError(f"{path}: no names in it; it holds two columns, name in the VCF and name in the FASTA")
    return aliases


class Allele(NamedTuple):
    """One ALT of a record, as it is scored: trimmed and left-aligned. `Allele(0, 4, "", "T")` puts T before base 4.

    Attributes:
        contig: number of the contig in the store.
        start: first base of `ref`, 0-based; of an insertion the base before which it goes.
        ref: upper-case A C G T, as the store has them from `start`; empty for an insertion.
        alt: upper-case A C G T; empty for a deletion. Never both empty, never equal.
    """

    contig: int
    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """One past the last base of `ref`, 0-based."""
        return self.start + len(self.ref)

    @property
    def kind(self) -> str:
        """`snv`, `mnv` (same length, more than one base), `insertion`, `deletion` or `delins`."""
        if len(self.ref) == len(self.alt):
            return "snv" if len(self.ref) == 1 else "mnv"
        return "insertion" if not self.ref else "deletion" if not self.alt else "delins"


def resolve_allele(
    contigs: Contigs, store: Reference, name: str, pos: int | None, ref: str, alt: str, max_allele: int
) -> tuple[str, Allele | None]:
    """Resolve one ALT of a record to the allele that is scored.

    What is wrong with a record as a whole (its line, contig, place or REF) is said of all its ALTs, before what an ALT
    is. REF fits where every letter can be the FASTA's, whatever the case; but a variant whose REF has a letter other
    than A C G T, in the VCF or in the FASTA, is `ambiguous`: the base that it replaces is not known.

    Args:
        contigs: names of the store's contigs.
        store: the genome.
        name: contig as the VCF names it.
        pos: place of the first letter of REF, 1-based; None where it could not be read.
        ref: REF of the record.
        alt: one ALT of the record.
        max_allele: most letters of REF and of ALT, once trimmed.

    Returns:
        One of `STATUSES`, and the allele where it is `scored`, else None.
    """
    if pos is None or pos < 1 or not _LETTERS.fullmatch(ref):
        return "malformed", None
    contig = contigs.number(name)
    if contig is None:
        return "contig_missing", None
    start = pos - 1
    if start + len(ref) > store.lengths[contig]:
        return "beyond_contig", None
    ref = ref.upper()
    bases = store.fetch(contig, start, start + len(ref)).tobytes().upper().decode("ascii")
    if bases != ref and not (_BITS[to_array(ref)] & _BITS[to_array(bases)]).all():
        return "ref_mismatch", None
    if not _BASES.fullmatch(alt):
        return _status_without_bases(ref, alt), None
    alt = alt.upper()
    if alt == ref:
        return "same", None
    if bases != ref or not _BASES.fullmatch(ref):
        return "ambiguous", None
    if len(ref) > 1 or len(alt) > 1:
        shared, ref, alt = trim(ref, alt)
        start += shared
        if max(len(ref), len(alt)) > max_allele:
            return "too_long", None
        if not ref or not alt:
            unit = ref or alt
            shift = left_shift(store, contig, start, unit)
            turn = len(unit) - shift % len(unit)
            unit = unit[turn:] + unit[:turn]
            start, ref, alt = start - shift, unit if ref else "", unit if alt else ""
    return "scored", Allele(contig, start, ref, alt)


def _status_without_bases(ref: str, alt: str) -> str:
    """Say why an ALT that is not written in A C G T cannot be scored."""
    if alt == ".":
        return "missing"
    if alt in _NO_REFERENCE:
        return "star"
    if "[" in alt or "]" in alt:
        return "breakend"
    if "<" in alt and ">" in alt:
        return "symbolic"
    if _LETTERS.fullmatch(alt):
        return "same" if alt.upper() == ref else "ambiguous"
    if (alt[:1] == "." or alt[-1:] == ".") and _LETTERS.fullmatch(alt.strip(".")):
        return "breakend"
    return "malformed"


def left_shift(store: Reference, contig: int, start: int, unit: str) -> int:
    """Count by how many bases letters that are put in, or taken out, before or at `start` can move left.

    Moving by one is possible where the base before is the last letter of the unit, which is turned by one with it. So
    the letters before `start`, read backwards, must be the unit read backwards, again and again. Letters of the store
    other than A C G T are equal to none of these.
    """
    backwards = to_array(unit[::-1])
    shift, block = 0, 32
    while shift < start:
        step = min(block, start - shift)
        before = store.fetch(contig, start - shift - step, start - shift)[::-1] & 0xDF  # upper case
        differs = before != backwards[np.arange(shift, shift + step) % len(backwards)]
        if differs.any():
            return shift + int(differs.argmax())
        shift += step
        block = min(2 * block, 1 << 20)
    return shift


class ReferenceCheck:
    """Policy for records whose REF differs from the FASTA, in bcftools norm's words.

    `exit`: an error at the first of them. `warn`: they keep the status ref_mismatch, each contig is reported once.
    `exclude`: they are left out of the output, and each contig is reported once. `set-status`: the status says it.

    Attributes:
        mode: one of `CHECK_REF`.
        counts: contig → number of its records.
    """

    def __init__(self, mode: str):
        if mode not in CHECK_REF:
            raise ValueError(f"--check-ref {mode}: allowed are {', '.join(CHECK_REF)}")
        self.mode = mode
        self.counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def meet(self, where: str, contigs: Contigs, store: Reference, name: str, pos: int, ref: str) -> None:
        """Count a record whose status is ref_mismatch; `where` is its file and line.

        Raises:
            ValueError: the mode is `exit`.
        """
        if name not in self._first:
            contig = contigs.number(name)
            assert contig is not None
            bases = store.fetch(contig, pos - 1, pos - 1 + len(ref)).tobytes().decode("ascii")
            self._first[name] = (
                f"{where}: REF is {_short(ref)} but the FASTA has {_short(bases)} at {name}:{pos}. "
                "VCF and FASTA may be different assemblies"
            )
        if self.mode == "exit":
            raise ValueError(self._first[name])
        self.counts[name] = self.counts.get(name, 0) + 1

    def notes(self) -> Sequence[str]:
        """Return the messages for the user: a line for each contig."""
        if self.mode == "set-status":
            return []
        done = "left out" if self.mode == "exclude" else "not scored"
        return [
            f"{count:,} record{'s' * (count != 1)} of {name} {done}; the first: {self._first[name]}"
            for name, count in self.counts.items()
        ]


def _short(sequence: str) -> str:
    return sequence if len(sequence) <= 20 else f"{sequence[:17]}… ({len(sequence):,} letters)"
