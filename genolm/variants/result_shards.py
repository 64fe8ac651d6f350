"""Results of a scoring job on disk, shard by shard, so that a long job resumes.

A folder `OUT.parts` next to the output holds the settings of the job (`job.json`), the survey of the records
(`survey.json`), results of each stretch (`00000012.npz`) and of backgrounds (`background-+3.json`), each written
atomically.
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
from genolm.variants.alleles import Allele, ReferenceCheck, resolve_allele
from genolm.variants.contigs import Contigs
from genolm.variants.vcf import Record, Records
from genolm.variants.vcf_lines import HeaderSurvey

STRETCH = 512
"""Records whose results share a file; rows of tokens that they have in common are computed once."""

ENDED = '"ended"'
"""Content of `job.json` once the job is finished and its folder is being removed."""

ResolvedAlts = list[tuple[str, Allele | None]]
"""Status and allele of each ALT of a record."""


@dataclass
class VariantSurvey:
    """Survey of the records of a file, before anything is scored.

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
    """Yield records in stretches: the unit of work and of results on disk."""
    each = iter(records)
    while stretch := list(islice(each, STRETCH)):
        yield stretch


def resolve_alts(record: Record, contigs: Contigs, store: Reference, max_allele: int) -> ResolvedAlts:
    """Return status and allele of every ALT of a record."""
    return [
        resolve_allele(contigs, store, record.chrom, record.pos, record.ref, alt, max_allele) for alt in record.alts
    ]


def signed_length(allele: Allele | None) -> int:
    """Return the length change of an indel in bp: positive for insertions, negative for deletions, else 0."""
    return len(allele.alt) - len(allele.ref) if allele and not (allele.ref and allele.alt) else 0


def survey_records(
    records: Records,
    contigs: Contigs,
    store: Reference,
    max_allele: int,
    check: ReferenceCheck,
    on_progress: Callable[[int], object] | None = None,
) -> VariantSurvey:
    """Read all records once, before anything is scored.

    Raises:
        ValueError: the file cannot be read to its end, or a REF differs and `check` refuses that.
    """
    survey, header, statuses, lengths = VariantSurvey(), HeaderSurvey(), Counter(), set()
    for stretch in stretches(records):
        scored = 0
        for record in stretch:
            header.add(records, record)
            alts = resolve_alts(record, contigs, store, max_allele)
            statuses.update(status for status, _ in alts)
            scored += sum(status == "scored" for status, _ in alts)
            lengths.update(signed_length(allele) for _, allele in alts)
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
    """Remove the folder of a finished job, or the rest of it; `job.json` goes last."""
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


class ResultShards:
    """The folder of a job: its settings, its survey and its results."""

    def __init__(self, folder: Path):
        self.folder = folder

    def begin(self, job: dict[str, Any]) -> bool:
        """Record the settings of a job; return whether it had begun before.

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
                        f"{value!r}; use the former value, remove the folder, or give another --out"
                    )
            return True
        self._write(path, json.dumps(job, indent=1).encode())
        return False

    def survey(self, make: Callable[[], VariantSurvey]) -> VariantSurvey:
        """Return the survey of the records, made once. Where it fails, no job has begun.

        Raises:
            ValueError: they cannot be read.
        """
        path = self.folder / "survey.json"
        if not path.is_file():
            try:
                survey = make()
            except ValueError:
                (self.folder / "job.json").unlink()
                raise
            self._write(path, json.dumps(asdict(survey)).encode())
        return VariantSurvey(**json.loads(path.read_text()))

    def path(self, stretch: int) -> Path:
        """Return the file of a stretch."""
        return self.folder / f"{stretch:08d}.npz"

    def num_left(self, sizes: Sequence[int]) -> int:
        """Return the sum of the sizes of stretches that have no results yet."""
        return sum(size for stretch, size in enumerate(sizes) if not self.path(stretch).is_file())

    def save(self, stretch: int, values: dict[str, np.ndarray]) -> None:
        """Save the results of a stretch."""
        aside = self.folder / f"{stretch:08d}.{os.getpid()}.partial"
        with aside.open("wb") as file:
            np.savez(file, **values)  # pyright: ignore[reportArgumentType]
        aside.replace(self.path(stretch))
        malloc.trim_freed_pages()

    def load(self, stretch: int) -> dict[str, np.ndarray]:
        """Return the results of a stretch."""
        with np.load(self.path(stretch), allow_pickle=False) as arrays:
            return dict(arrays)

    def end(self) -> None:
        """Mark the job as finished and remove its folder; killed in between, it is not begun again."""
        self._write(self.folder / "job.json", ENDED.encode())
        clear(self.folder)

    def background(self, length: int) -> Path:
        """Return the file of the background of a signed length."""
        return self.folder / f"background-{length:+d}.json"

    def save_background(self, length: int, moments: dict[str, list[float]]) -> None:
        """Save mean, standard deviation and number of the background of each column."""
        self._write(self.background(length), json.dumps(moments).encode())
        malloc.trim_freed_pages()

    def _write(self, path: Path, data: bytes) -> None:
        aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        aside.write_bytes(data)
        aside.replace(path)
