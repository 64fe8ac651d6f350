"""Baselines of variant scores, which need no language model.

    markov-K        log p(window with ALT) - log p(window with REF) by an order-K Markov model, sum of strands, nats
    transversion    number of transversions among the substituted bases, 0 for a transition; of an insertion or deletion
                    the bases it changes: the longer of REF and ALT without their shared ends
    gc              fraction of G and C among the 101 bp around the first base of REF
    NAME            mean of a genome-wide track, such as conservation, over the bases of REF: NAME.bw, read by pyBigWig

Cost: one pass over the training sequences, one over the reference, one contig of it in memory at a time; the Markov
ratios of a million SNVs take about half a minute.

Source of the track's format: genome.ucsc.edu/goldenPath/help/bigWig.html.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from genolm.genome.alleles import canonical, trim
from genolm.genome.alphabet import BASE_INDEX, reverse_complement, to_array
from genolm.genome.fasta import read_contigs
from genolm.genome.reference import is_indexed, open_reference
from genolm.metrics.markov import MarkovLadder, fit
from genolm.metrics.variant_table import Variants

MARKOV_ORDERS = (3, 6, 9)
GC_BP = 101
ABSENT, DIFFERS, BEYOND = "contig not in --fasta", "REF differs from --fasta", "beyond the end of its contig"
_VARIANTS_AT_ONCE = 1 << 14
_PURINES = frozenset("AG")


def reference_contigs(path: str | Path) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Yield name and a function that returns the sequence of each contig of a FASTA or a prepared genome.

    With an index (`samtools faidx`), or of a prepared genome, only the contigs are read whose function is called.
    """
    if Path(path).is_dir() or is_indexed(Path(path)):
        reference = open_reference(path, Path(path))
        for number, contig in enumerate(reference.contigs):
            yield contig.name, partial(reference.fetch, number, 0, contig.length)
    else:
        for name, sequence, _ in read_contigs(path):
            yield name, partial(np.asarray, sequence)


def fit_markov(paths: Sequence[str | Path], orders: Sequence[int] = MARKOV_ORDERS) -> MarkovLadder:
    """Count k-mers of both strands of every contig of some FASTA files. Arguments and errors as in `markov.fit`."""
    return fit((sequence for path in paths for _, sequence, _ in read_contigs(path, rename=True)), orders)


def transversions(ref: Iterable[str], alt: Iterable[str]) -> np.ndarray:
    """Return the `transversion` baseline of variants, shape (n,), float64."""
    counts = []
    for _, r, a in (trim(*alleles) for alleles in zip(ref, alt, strict=True)):
        changed = sum((x in _PURINES) != (y in _PURINES) for x, y in zip(r, a, strict=False))
        counts.append(changed if len(r) == len(a) else max(len(r), len(a)))
    return np.array(counts, dtype=np.float64)


def from_reference(
    variants: Variants, fasta: str | Path, ladder: MarkovLadder | None, aliases: Mapping[str, str] | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Compute the baselines that need the reference.

    Args:
        variants: at 0-based places of it; human chromosomes may be spelled otherwise, as 1 for chr1.
        fasta: the reference, a FASTA or a folder of `genolm prepare`.
        ladder: Markov models, or None for none.
        aliases: contig name of the variants → that of the FASTA, where they differ more.

    Returns:
        Baseline → shape (n,), float64; and why a row has none, shape (n,) of str, empty where it has.

    Raises:
        ValueError: no variant lies on a contig of the FASTA, two of its contigs have one canonical name, or more than
            half of the variants on its contigs have another REF than it.
    """
    baselines = {f"markov-{order}": np.full(len(variants), np.nan) for order in (ladder.orders if ladder else ())}
    baselines["gc"] = np.full(len(variants), np.nan)
    reasons = np.full(len(variants), ABSENT, dtype=object)
    renamed = [(aliases or {}).get(str(name), str(name)) for name in variants.chrom]
    chrom = np.array([canonical(name) for name in renamed], dtype=object)
    name_of: dict[str, str] = {}
    example = ""
    for name, read in reference_contigs(fasta):
        key = canonical(name)
        rows = np.flatnonzero(chrom == key)
        if key in name_of and len(rows):
            raise ValueError(
                f"{fasta}: contigs {name_of[key]!r} and {name!r} are both {key!r}; keep one of them in the file"
            )
        name_of[key] = name
        if not len(rows):
            continue
        sequence = read()
        reasons[rows] = [_mismatch(sequence, variants, int(row)) for row in rows]
        for row in rows[reasons[rows] == DIFFERS][:1]:
            example = example or (
                f"at {variants.chrom[row]}:{variants.start[row] + 1} REF is {variants.ref[row][:20]}, "
                f"{name} of {fasta} has {_bases_at(sequence, variants, row)[:20]}"
            )
        rows = rows[reasons[rows] == ""]
        baselines["gc"][rows] = gc_around(sequence, variants.start[rows])
        if ladder is not None:
            for start in range(0, len(rows), _VARIANTS_AT_ONCE):
                part = rows[start : start + _VARIANTS_AT_ONCE]
                for order, values in markov_llr(ladder, sequence, variants, part).items():
                    baselines[f"markov-{order}"][part] = values
    _refuse_another_assembly(variants, fasta, reasons, list(name_of.values()), example)
    return baselines, reasons


def _refuse_another_assembly(
    variants: Variants, fasta: str | Path, reasons: np.ndarray, names: Sequence[str], example: str
) -> None:
    """Refuse a FASTA without the contigs of the variants, or whose bases differ from most REFs."""
    num_there = np.count_nonzero(reasons != ABSENT)
    if len(variants) and not num_there:
        on, have = (
            ", ".join(some[:3]) + " …" * (len(some) > 3) for some in (list(dict.fromkeys(variants.chrom)), names)
        )
        raise ValueError(f"{fasta}: variants are on {on}, its contigs are {have}; --aliases FILE maps them")
    mismatches = int(np.count_nonzero(reasons == DIFFERS))
    if 2 * mismatches > num_there:
        raise ValueError(
            f"{mismatches:,} of {len(variants):,} variants have another REF than --fasta: {example}; another assembly?"
        )


def gc_around(sequence: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the fraction of G and C among the bases within 50 bp of places (n,), 0-based; NaN where all are N."""
    code = BASE_INDEX[sequence]
    strong = np.append(0, np.cumsum((code == 1) | (code == 2)))
    base = np.append(0, np.cumsum(code < 4))
    low = np.maximum(place - GC_BP // 2, 0)
    high = np.minimum(place + GC_BP // 2 + 1, len(sequence))
    num_bases = base[high] - base[low]
    return np.where(num_bases > 0, (strong[high] - strong[low]) / np.maximum(num_bases, 1), np.nan)


def markov_llr(
    ladder: MarkovLadder, sequence: np.ndarray, variants: Variants, rows: np.ndarray
) -> dict[int, np.ndarray]:
    """Return order → log p(ALT) - log p(REF) in nats, shape (len(rows),), summed over both strands.

    A window holds REF and as many bases on either side as the highest order looks back: on each strand, bases before
    the change cost the same with either allele, and bases further behind it do not see it. `sequence` is the contig of
    these rows of `variants`, whose REF must match it.
    """
    flank = ladder.orders[-1]
    gap = to_array("N")  # no context crosses it
    pieces, lengths = [], []
    for row in rows:
        start = int(variants.start[row])
        end = start + len(variants.ref[row])
        left, right = sequence[max(start - flank, 0) : start], sequence[end : end + flank]
        for allele in (variants.ref[row], variants.alt[row]):
            window = [gap, left, to_array(str(allele)), right]
            pieces += window
            lengths.append(sum(map(len, window)))
    joined = np.concatenate(pieces)
    starts = np.append(0, np.cumsum(lengths)[:-1])
    forward, backward = ladder.bits(joined), ladder.bits(reverse_complement(joined))
    ratios = {}
    for order in ladder.orders:
        strands = forward[order].astype(np.float64), backward[order][::-1].astype(np.float64)
        ref, alt = np.add.reduceat(sum(map(np.nan_to_num, strands)), starts).reshape(-1, 2).T
        ratios[order] = (ref - alt) * np.log(2)
    return ratios


def _bases_at(sequence: np.ndarray, variants: Variants, row: int) -> str:
    """Return the bases of the reference where a variant has its REF."""
    start = int(variants.start[row])
    return sequence[start : start + len(variants.ref[row])].tobytes().decode("ascii").upper()


def _mismatch(sequence: np.ndarray, variants: Variants, row: int) -> str:
    if variants.start[row] + len(variants.ref[row]) > len(sequence):
        return BEYOND
    return "" if _bases_at(sequence, variants, row) == variants.ref[row] else DIFFERS


_BIGWIG = (bytes.fromhex("26fc8f88"), bytes.fromhex("888ffc26"))


def track_values(path: str | Path, chrom: Iterable[str], start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the mean of a bigWig file over the bases of each interval that have a value; NaN where none has.

    Args:
        path: the file.
        chrom: n names; chr1 matches 1, and MT matches chrM.
        start: shape (n,), 0-based.
        length: shape (n,), bases, 1 or more.

    Raises:
        ValueError: no such file, another format, a damaged file, or pyBigWig is not installed.
    """
    means = np.full(len(start), np.nan)
    file = _open(Path(path))
    try:
        contigs = {canonical(name): (name, size) for name, size in file.chroms().items()}
        for row, name in enumerate(chrom):
            contig, size = contigs.get(canonical(name), ("", 0))
            first, last = max(int(start[row]), 0), min(int(start[row] + length[row]), size)
            if first < last:
                values = np.array(file.values(contig, first, last), dtype=np.float64)
                covered = values[~np.isnan(values)]
                means[row] = covered.mean() if len(covered) else np.nan
    except RuntimeError as error:
        raise ValueError(f"{path}: damaged bigWig ({error}); copy the file again") from None
    finally:
        file.close()
    return means


def _open(path: Path):
    """Open a bigWig, or say in one sentence why not."""
    if not path.is_file():
        raise ValueError(f"{path}: {'a folder, not a track' if path.is_dir() else 'no such file'}")
    with path.open("rb") as file:
        if file.read(4) not in _BIGWIG:
            raise ValueError(
                f"{path}: not a bigWig; convert a wig with UCSC's wigToBigWig, a bedGraph with bedGraphToBigWig"
            )
    try:
        import pyBigWig  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"{path}: pyBigWig is not installed; pip install 'genolm[bigwig]'") from None
    try:
        return pyBigWig.open(str(path))
    except RuntimeError:
        raise ValueError(f"{path}: damaged bigWig; copy the file again") from None
