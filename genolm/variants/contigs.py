"""Names of contigs: those in a VCF, and those in the FASTA."""

from collections.abc import Mapping
from pathlib import Path

from genolm.genome.chromosomes import chromosome
from genolm.genome.reference import Reference


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
        self._labels: list[tuple[str, str]] = []
        self._by_name: dict[str, list[int]] = {}
        self._by_chromosome: dict[str, list[int]] = {}
        for number, contig in enumerate(store.contigs):
            self._labels.append((contig.genome, contig.name))
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
            elif self._labels[number][1] != name:
                self.used[name] = self._labels[number][1]
        return self._numbers[name]

    def _find(self, name: str) -> int | None:
        alias = self._aliases.get(name)
        numbers = self._by_name.get(name if alias is None else alias, [])
        if not numbers and alias is None:
            bare, assembly = chromosome(name)
            for number in self._by_chromosome.get(bare, []):
                if assembly is None or chromosome(self._labels[number][1])[1] in (None, assembly):
                    numbers = [*numbers, number]
        if len(numbers) > 1:
            labels = [self._labels[number] for number in numbers[:2]]
            same = labels[0][1] == labels[1][1]
            first, second = (f"{label} of {genome}" if same else label for genome, label in labels)
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
