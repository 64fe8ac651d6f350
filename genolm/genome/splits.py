"""Divide genomes into train, valid and test regions, before any window is cut; no base is in two of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genolm.genome.interval import Interval, read_intervals
from genolm.genome.regions import Regions
from genolm.genome.store import Store


@dataclass(frozen=True)
class SplitRule:
    """What one split takes: any of named contigs, a fraction of the bases, and intervals.

    Attributes:
        contigs: names, or `genome/name` where two genomes share a name.
        fraction: of all bases. Whole contigs, smallest last, while they fit; what is then missing is taken from the
            end of the largest contig that is left, so that a single chromosome can be split too.
        intervals: intervals by contig name, as read from a BED file.
    """

    contigs: Sequence[str] = ()
    fraction: float = 0.0
    intervals: Sequence[Interval] = field(default_factory=tuple)

    @classmethod
    def read(cls, contigs: Sequence[str], fraction: float, regions: str | None) -> "SplitRule":
        """Build a rule whose intervals, if any, are in a BED or GFF file."""
        return cls(tuple(contigs), fraction, tuple(read_intervals(Path(regions))) if regions else ())


def split_genomes(
    store: Store, valid: SplitRule, test: SplitRule, available: Regions | None = None
) -> dict[str, Regions]:
    """Divide the genomes into `train`, `valid` and `test`.

    Named contigs and intervals are taken first, then the fractions, test before valid; train is the rest.

    Args:
        store: the genomes.
        valid: what valid takes.
        test: what test takes.
        available: the regions to divide; None for whole genomes.

    Raises:
        ValueError: valid and test overlap, or a name is unknown, or nothing is left for training.
    """
    available = Regions.whole(store) if available is None else available
    total = available.num_bases
    rules = {"test": test, "valid": valid}
    parts = {}
    for name, rule in rules.items():
        contigs = (store.contig_index(contig) for contig in rule.contigs)
        named = Regions.from_rows((i, 0, store.contigs[i].length) for i in contigs)
        parts[name] = named.union(Regions.from_intervals(store, rule.intervals)).intersect(available)
    for contig, start, end in parts["test"].intersect(parts["valid"]):
        raise ValueError(f"valid and test share {store.contigs[contig].name}:{start}-{end}; a base has one split")
    for name, rule in rules.items():
        if rule.fraction:
            rest = available.subtract(parts["test"].union(parts["valid"]))
            parts[name] = parts[name].union(_take_fraction(rest, round(rule.fraction * total)))
    train = available.subtract(parts["test"].union(parts["valid"]))
    if not train.num_bases:
        raise ValueError("valid and test leave no base to train on; give them fewer contigs or a smaller fraction")
    return {"train": train, "valid": parts["valid"], "test": parts["test"]}


def _take_fraction(available: Regions, num_bases: int) -> Regions:
    """Take whole regions, large to small, while they fit; then the ends of the largest ones left."""
    rows, left, missing = [], [], num_bases
    for contig, start, end in sorted(available, key=lambda row: (row[1] - row[2], row)):
        # A region larger than half of the split would decide alone what the split looks like.
        if end - start <= missing // 2:
            rows.append((contig, start, end))
            missing -= end - start
        else:
            left.append((contig, start, end))
    for contig, start, end in left:
        taken = min(missing, end - start)
        rows.append((contig, end - taken, end))
        missing -= taken
    return Regions.from_rows(rows)


def available_regions(store: Store, include: str | Path | None = None, exclude: str | Path | None = None) -> Regions:
    """Return all bases, or those inside `include`, minus those inside `exclude`, which are BED or GFF files."""
    regions = Regions.whole(store)
    if include is not None:
        regions = regions.intersect(Regions.from_intervals(store, read_intervals(Path(include))))
    if exclude is not None:
        regions = regions.subtract(Regions.from_intervals(store, read_intervals(Path(exclude))))
    return regions
