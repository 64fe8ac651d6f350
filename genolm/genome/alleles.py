"""How files spell variants: names of table columns, and bases that REF and ALT share."""

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
