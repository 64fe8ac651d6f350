"""What a variant score must beat: scores that need no language model, on the same rows.

    markov-K        log p(window with ALT) - log p(window with REF) by an order-K Markov model, sum of strands, nats
    transversion    0 for a transition, 1 for a transversion (of several bases: how many); of an insertion or deletion
                    the bases it changes: the longer of REF and ALT without what they share at their ends
    gc              share of G and C among the 101 bp around the first base of REF

Cost: one pass over the training letters, one over the reference, one contig of it in memory at a time; the Markov
ratios of a million SNVs take about half a minute.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from genolm.genome.alleles import trim
from genolm.genome.alphabet import BASE_INDEX, reverse_complement, to_array
from genolm.genome.chromosomes import canonical
from genolm.genome.fasta import check_file, read_fasta
from genolm.metrics.markov import MarkovLadder, fit
from genolm.metrics.variant_table import Variants

MARKOV_ORDERS = (3, 6, 9)
GC_BP = 101
_VARIANTS_AT_ONCE = 1 << 14
_PURINES = frozenset("AG")


def contigs(path: str | Path, rename: bool = False) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and letters, shape (length,), uint8, of each contig of a FASTA, one in memory at a time.

    Args:
        path: the FASTA.
        rename: let records share a name.
    """
    check_file(Path(path))
    name, held = "", []
    for block in read_fasta(path, rename=rename):
        if not block.opens:
            held.append(block.letters)
            continue
        if held:
            yield name, np.concatenate(held)
        name, held = block.name, []
    if held:
        yield name, np.concatenate(held)


def fit_markov(paths: Sequence[str | Path], orders: Sequence[int] = MARKOV_ORDERS) -> MarkovLadder:
    """Count k-mers of both strands of every contig of some FASTA files. Arguments and errors as in `markov.fit`."""
    return fit((sequence for path in paths for _, sequence in contigs(path, rename=True)), orders)


def transversions(ref: Iterable[str], alt: Iterable[str]) -> np.ndarray:
    """Return shape (n,), float64, how coarse each change is: see `transversion` at the top of this file."""
    return np.array([_coarseness(*trim(r, a)[1:]) for r, a in zip(ref, alt, strict=True)], dtype=np.float64)


def _coarseness(ref: str, alt: str) -> float:
    if len(ref) != len(alt):
        return max(len(ref), len(alt))
    return sum((r in _PURINES) != (a in _PURINES) for r, a in zip(ref, alt, strict=True))


def from_reference(
    variants: Variants, fasta: str | Path, ladder: MarkovLadder | None, aliases: Mapping[str, str] | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Compute the baselines that read the reference.

    Args:
        variants: at 0-based places of it; human chromosomes may be spelled otherwise, as 1 for chr1.
        fasta: the reference.
        ladder: Markov models, or None for none.
        aliases: contig name of the variants → that of the FASTA, where they differ more.

    Returns:
        Baseline → shape (n,), float64; and why a row has none, shape (n,) of str, empty where it has.

    Raises:
        ValueError: no variant lies on a contig of the FASTA, two of its contigs answer to one name, or more than half
            of the variants on its contigs have another REF than it.
    """
    num = len(variants)
    found = {f"markov-{order}": np.full(num, np.nan) for order in (ladder.orders if ladder else ())}
    found["gc"] = np.full(num, np.nan)
    reasons = np.full(num, "contig not in --fasta", dtype=object)
    known = aliases or {}
    names = np.array([canonical(known.get(str(name), str(name))) for name in variants.chrom], dtype=object)
    others: list[str] = []
    seen: dict[str, str] = {}
    example = ""
    for name, sequence in contigs(fasta):
        key = canonical(name)
        here = np.flatnonzero(names == key)
        if not len(here):
            others.append(name)
            continue
        if key in seen:
            raise ValueError(f"{fasta}: contigs {seen[key]!r} and {name!r} both answer to {key!r}; give one of them")
        seen[key] = name
        reasons[here] = [_misfit(sequence, variants, int(row)) for row in here]
        for row in here[reasons[here] == "REF differs from --fasta"][:1]:
            example = example or (
                f"at {variants.chrom[row]}:{variants.start[row] + 1} REF is {variants.ref[row][:20]}, "
                f"{name} of {fasta} has {_stretch(sequence, variants, row)[:20]}"
            )
        fits = here[reasons[here] == ""]
        found["gc"][fits] = gc_around(sequence, variants.start[fits])
        for start in range(0, len(fits) if ladder else 0, _VARIANTS_AT_ONCE):
            rows = fits[start : start + _VARIANTS_AT_ONCE]
            for order, values in markov_llr(ladder, sequence, variants, rows).items():  # pyright: ignore[reportArgumentType]
                found[f"markov-{order}"][rows] = values
    if not seen:
        asked, have = (
            ", ".join(names[:3]) + " …" * (len(names) > 3) for names in (list(dict.fromkeys(variants.chrom)), others)
        )
        raise ValueError(f"{fasta}: variants are on {asked}, its contigs are {have}; --aliases FILE says what is what")
    misfits = int(np.count_nonzero(reasons == "REF differs from --fasta"))
    if 2 * misfits > np.count_nonzero(reasons != "contig not in --fasta"):
        raise ValueError(f"{misfits:,} of {num:,} variants have another REF than --fasta: {example}; another assembly?")
    return found, reasons


def gc_around(sequence: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the share of G and C among the bases within 50 bp of each place, shape (n,); NaN where all are N.

    Args:
        sequence: letters of a contig, shape (length,), uint8.
        place: shape (n,), 0-based.
    """
    code = BASE_INDEX[sequence]
    strong = np.append(0, np.cumsum((code == 1) | (code == 2)))
    known = np.append(0, np.cumsum(code < 4))
    low = np.maximum(place - GC_BP // 2, 0)
    high = np.minimum(place + GC_BP // 2 + 1, len(sequence))
    bases = known[high] - known[low]
    return np.where(bases > 0, (strong[high] - strong[low]) / np.maximum(bases, 1), np.nan)


def markov_llr(
    ladder: MarkovLadder, sequence: np.ndarray, variants: Variants, rows: np.ndarray
) -> dict[int, np.ndarray]:
    """Return order → log p(ALT) - log p(REF) in nats, shape (len(rows),), summed over both strands.

    A window holds REF and as many bases on either side as the highest order looks back: on each strand, letters before
    the change cost alike with either allele, and letters further behind it do not see it.

    Args:
        ladder: Markov models.
        sequence: letters of the contig that the rows lie on, shape (length,), uint8.
        variants: all of them.
        rows: numbers of those to score; their REF must be what the contig has.
    """
    flank = ladder.orders[-1]
    gap = to_array("N")  # no context reaches over it
    pieces, lengths = [], []
    for row in rows:
        start = int(variants.start[row])
        end = start + len(variants.ref[row])
        left, right = sequence[max(start - flank, 0) : start], sequence[end : end + flank]
        for allele in (variants.ref[row], variants.alt[row]):
            piece = [gap, left, to_array(str(allele)), right]
            pieces += piece
            lengths.append(sum(map(len, piece)))
    joined = np.concatenate(pieces)
    begins = np.append(0, np.cumsum(lengths)[:-1])
    forward, backward = ladder.bits(joined), ladder.bits(reverse_complement(joined))
    found = {}
    for order in ladder.orders:
        bits = np.nan_to_num(forward[order].astype(np.float64)) + np.nan_to_num(
            backward[order][::-1].astype(np.float64)
        )
        ref, alt = np.add.reduceat(bits, begins).reshape(-1, 2).T
        found[order] = (ref - alt) * np.log(2)
    return found


def _stretch(sequence: np.ndarray, variants: Variants, row: int) -> str:
    start = int(variants.start[row])
    return sequence[start : start + len(variants.ref[row])].tobytes().decode("ascii").upper()


def _misfit(sequence: np.ndarray, variants: Variants, row: int) -> str:
    if variants.start[row] + len(variants.ref[row]) > len(sequence):
        return "beyond the end of its contig"
    return "" if _stretch(sequence, variants, row) == variants.ref[row] else "REF differs from --fasta"
