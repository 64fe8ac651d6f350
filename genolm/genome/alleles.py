"""How files spell variants and chromosomes: columns of tables, bases that REF and ALT share, chr1 and NC_000001.11."""

import re

VARIANT_COLUMNS = {
    "chrom": ("chrom", "#chrom", "chr", "#chr", "contig", "chromosome", "#chromosome", "seqname"),
    "pos": ("pos", "position", "pos_1", "start_1"),
    "ref": ("ref", "reference", "ref_allele"),
    "alt": ("alt", "alternate", "alternative", "alt_allele"),
    "id": ("id", "name", "rsid"),
}
"""Field of a variant → accepted names of its column, in any case; `id` is optional."""


def trim(ref: str, alt: str) -> tuple[int, str, str]:
    """Remove the bases that REF and ALT share at their ends, then at their starts.

    Returns:
        The number of bases removed at the start, REF and ALT.
    """
    longest = min(len(ref), len(alt))
    end = 0
    while end < longest and ref[-1 - end] == alt[-1 - end]:
        end += 1
    ref, alt = ref[: len(ref) - end], alt[: len(alt) - end]
    start = 0
    while start < longest - end and ref[start] == alt[start]:
        start += 1
    return start, ref[start:], alt[start:]


_HUMAN = re.compile(r"NC_0000(\d\d)(?:\.(\d+))?")
_HUMAN_T2T = re.compile(r"NC_0609(\d\d)(?:\.\d+)?")
_MITOCHONDRION = {"M", "MT", "NC_012920", "NC_012920.1", "J01415.2", "rCRS"}
# Version of NC_0000NN in GRCh38, chromosomes 1 to 22, X and Y; GRCh37 has the one before, of every chromosome.
_GRCH38 = (11, 12, 12, 12, 10, 12, 14, 11, 12, 11, 10, 12, 11, 9, 10, 10, 11, 10, 10, 11, 9, 11, 11, 10)


def chromosome(name: str) -> tuple[str, str | None]:
    """Return the bare name of a chromosome, and the assembly that an accession names."""
    if name in _MITOCHONDRION:
        return "MT", None
    if (match := _HUMAN.fullmatch(name)) and 1 <= (number := int(match[1])) <= 24:
        version = match[2]
        newest = _GRCH38[number - 1]
        assembly = None if version is None else {newest: "GRCh38", newest - 1: "GRCh37"}.get(int(version), version)
        return {23: "X", 24: "Y"}.get(number, str(number)), assembly
    if (match := _HUMAN_T2T.fullmatch(name)) and 25 <= int(match[1]) <= 48:
        number = int(match[1]) - 24
        return {23: "X", 24: "Y"}.get(number, str(number)), "T2T-CHM13"
    bare = name[3:] if name[:3].lower() == "chr" and len(name) > 3 else name
    return ("MT" if bare in ("M", "MT") else bare), None


def canonical(name: str) -> str:
    """Return the bare name of a chromosome, whatever the assembly; other names stay, but for a leading `chr`."""
    return chromosome(name)[0]
