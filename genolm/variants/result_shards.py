"""What was found of stretches of records, kept on disk as it comes, so that a long job goes on where it stopped.

A folder `OUT.parts` beside the output: what the job is (`job.json`), what the records are (`survey.json`), results of
stretch after stretch (`00000012.npz`), and of backgrounds (`background-+3.json`). Each is written aside and renamed.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from genolm.genome.reference import Reference
from genolm.training import malloc
from genolm.variants.alleles import Allele, ReferenceCheck, resolve
from genolm.variants.contigs import Contigs
from genolm.variants.vcf import Record, Records
from genolm.variants.vcf_lines import HeaderSurvey

STRETCH = 512
"""Records whose results share a file; they also share the rows of tokens that they have in common."""

ENDED = '"ended"'
"""What `job.json` holds once nothing of the job is wanted any more."""

ResolvedAlts = list[tuple[str, Allele | None]]
"""Status and allele of each ALT of a record."""


@dataclass
class Survey:
    """What the records of a file are, before anything is scored.

    Attributes:
        num_records: of the file, or of the region.
        statuses: status → ALTs.
        scored: ALTs to be scored of each stretch.
        lengths: signed lengths of the insertions and deletions among them.
        notes: what a user should know.
        used: name of a contig in the VCF → in the FASTA, where they differ.
        header: fields of a `HeaderSurvey`: what the header of the output must say.
    """

    num_records: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    scored: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)


def stretches(records: Records) -> Iterator[list[Record]]:
    """Yield records by stretches: the unit of work, and of what is kept on disk."""
    each = iter(records)
    while stretch := list(islice(each, STRETCH)):
        yield stretch


def resolve_record(record: Record, contigs: Contigs, store: Reference, max_allele: int) -> ResolvedAlts:
    """Return status and allele of every ALT of a record."""
    return [resolve(contigs, store, record.chrom, record.pos, record.ref, alt, max_allele) for alt in record.alts]


def length_of(allele: Allele | None) -> int:
    """Return the bases that an insertion adds, above 0, or a deletion takes, below 0; 0 for all else."""
    return len(allele.alt) - len(allele.ref) if allele and not (allele.ref and allele.alt) else 0


def look_through(
    records: Records,
    contigs: Contigs,
    store: Reference,
    max_allele: int,
    check: ReferenceCheck,
    on_progress: Callable[[int], object] | None = None,
) -> Survey:
    """Read all records once, before anything is spent on them.

    Raises:
        ValueError: the file cannot be read to its end, or a REF is another and `check` is to end at that.
    """
    survey, header, statuses, lengths = Survey(), HeaderSurvey(), Counter(), set()
    for stretch in stretches(records):
        scored = 0
        for record in stretch:
            header.add(records, record)
            alts = resolve_record(record, contigs, store, max_allele)
            statuses.update(status for status, _ in alts)
            scored += sum(status == "scored" for status, _ in alts)
            lengths.update(length_of(allele) for _, allele in alts)
            if alts[0][0] == "ref_mismatch":
                assert record.pos is not None
                check.meet(records.where(record), contigs, store, record.chrom, record.pos, record.ref)
        survey.num_records += len(stretch)
        survey.scored.append(scored)
        if on_progress is not None:
            on_progress(len(stretch))
    survey.statuses, survey.lengths = dict(statuses.most_common()), sorted(lengths - {0})
    survey.notes, survey.used, survey.header = [*records.notes, *check.notes()], dict(contigs.used), asdict(header)
    return survey


def clear(folder: Path) -> None:
    """Remove the folder of a job that has ended, or what is left of it where that was cut off; `job.json` goes last."""
    job = folder / "job.json"
    if not job.is_file() or job.read_text() != ENDED:
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != job:
            path.unlink()
    job.unlink()
    folder.rmdir()


class Parts:
    """The folder of a job."""

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, job: dict[str, Any]) -> bool:
        """Take the folder for a job; say whether it had begun before.

        Raises:
            ValueError: it holds another one, or something else.
        """
        path = self.folder / "job.json"
        job = json.loads(json.dumps(job))
        if path.is_file():
            before = json.loads(path.read_text())
            for key, value in job.items():
                if before.get(key) != value:
                    raise ValueError(
                        f"{self.folder} holds an unfinished job whose {key} was {before.get(key)!r} and is now "
                        f"{value!r}; go on with that, remove the folder, or give another --out"
                    )
            return True
        self._write(path, json.dumps(job, indent=1).encode())
        return False

    def survey(self, make: Callable[[], Survey]) -> Survey:
        """Return what the records are, made once. Where that is a mistake of the user's, no job has begun.

        Raises:
            ValueError: they cannot be read.
        """
        path = self.folder / "survey.json"
        if not path.is_file():
            try:
                found = make()
            except ValueError:
                (self.folder / "job.json").unlink()
                raise
            self._write(path, json.dumps(asdict(found)).encode())
        return Survey(**json.loads(path.read_text()))

    def path(self, stretch: int) -> Path:
        """Return the file of a stretch."""
        return self.folder / f"{stretch:08d}.npz"

    def left(self, sizes: Sequence[int]) -> int:
        """Return the sum of the sizes of stretches whose results are not there yet."""
        return sum(size for stretch, size in enumerate(sizes) if not self.path(stretch).is_file())

    def save(self, stretch: int, values: dict[str, np.ndarray]) -> None:
        """Keep the results of a stretch."""
        aside = self.folder / f"{stretch:08d}.{os.getpid()}.partial"
        with aside.open("wb") as file:
            np.savez(file, **values)  # pyright: ignore[reportArgumentType]
        aside.replace(self.path(stretch))
        malloc.trim_freed_pages()

    def load(self, stretch: int) -> dict[str, np.ndarray]:
        """Return the results of a stretch."""
        with np.load(self.path(stretch), allow_pickle=False) as held:
            return dict(held)

    def end(self) -> None:
        """Remove the folder. From here on, killed or not, the job is not begun again."""
        self._write(self.folder / "job.json", ENDED.encode())
        clear(self.folder)

    def background(self, length: int) -> Path:
        """Return the file of the background of a signed length."""
        return self.folder / f"background-{length:+d}.json"

    def save_background(self, length: int, found: dict[str, list[float]]) -> None:
        """Keep mean and standard deviation of each column, and from how many."""
        self._write(self.background(length), json.dumps(found).encode())
        malloc.trim_freed_pages()

    def _write(self, path: Path, data: bytes) -> None:
        aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        aside.write_bytes(data)
        aside.replace(path)
