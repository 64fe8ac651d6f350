"""Records to scored records: survey, stretches scored and kept on disk, indel background, output in input order.

A stretch is scored by one process, so any number of processes give the same bytes, and a killed job resumes. The
records are read twice: to resolve their alleles, which are kept in `alleles.jsonl`, a line for each stretch; and to be
written.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import genolm
from genolm.config.console import progress_bar
from genolm.config.files import file_sha256, write_text
from genolm.genome.alphabet import BASE_INDEX, to_text
from genolm.genome.reference import Reference
from genolm.training.memory import trim_freed_pages
from genolm.variants.alleles import STATUSES, Allele, Contigs, ReferenceCheck, read_aliases, resolve_allele
from genolm.variants.job import ScoringJob
from genolm.variants.likelihood import CALIBRATED, LLRS, MEANINGS, columns_of_estimators, field_name
from genolm.variants.vcf import Records
from genolm.variants.write_vcf import Written, write_records

STRETCH = 512
"""Records whose results share a file; rows of tokens that they have in common are computed once."""
TRIES = 1000
"""Random places that are tried for each indel of a background."""


@dataclass(frozen=True)
class ScoreOptions:
    """What is scored, and how; names and defaults as in `genolm score`.

    Attributes:
        estimators: requested estimators; None for the model's default.
        step: windows start at multiples of it.
        check_ref: what to do where REF differs from the FASTA.
        aliases: table of contig names.
        region: only these records.
        drop_samples: leave genotypes out.
        max_allele: longest allele in bp; None for a quarter of the window.
        background: random indels of each length.
        seed: of random indels.
    """

    estimators: list[str] | None = None
    step: int = 1
    check_ref: str = "warn"
    aliases: Path | None = None
    region: str | None = None
    drop_samples: bool = False
    max_allele: int | None = None
    background: int = 100
    seed: int = 0


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
    """

    num_records: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    scored: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: dict[str, str] = field(default_factory=dict)


@dataclass
class Scored:
    """A finished job.

    Attributes:
        survey: what the records are.
        written: what was written; None on all processes but the first.
        histogram: values and signed lengths of the first column, stretch by stretch.
        column: name of that column.
        summary: for `summary.json`.
        rate: variants scored a second in this start.
    """

    survey: VariantSurvey
    written: Written | None
    histogram: list[tuple[np.ndarray, np.ndarray]]
    column: str
    summary: dict[str, Any]
    rate: float


def score_variants(job: ScoringJob, variants: str, out: Path, options: ScoreOptions) -> Scored:
    """Score a file of variants and write the scored file.

    Args:
        job: an opened job.
        variants: VCF, BCF or table; "-" for stdin.
        out: the file to write.
        options: what is scored, and how.

    Raises:
        ValueError: the variants cannot be read, or an option does not fit the model.
    """
    check = ReferenceCheck(options.check_ref)
    with job.state.main_process_first():
        source = _spooled(job.shards.folder, job.state.is_main_process) if variants == "-" else Path(variants)
    estimators = job.estimators(options.estimators)
    longest = _longest_allele(job, options)
    records = Records(source, options.region, options.drop_samples)
    aliases = read_aliases(options.aliases) if options.aliases else None
    contigs = Contigs(job.store, aliases)
    if not source.is_file():
        raise ValueError(f"{source}: no such file")
    settings = {"estimators": estimators, "max_allele": longest, "aliases": aliases}
    job.begin({"variants": file_sha256(source), **asdict(options), **settings})
    with job.state.main_process_first():
        survey = survey_records(job, records, contigs, longest, check)
    if job.state.is_main_process:
        for note in survey.notes:
            print(note, file=sys.stderr)
        counts = ", ".join(f"{status} {count:,}" for status, count in survey.statuses.items())
        print(f"records    {survey.num_records:,}; ALTs: {counts or 'none'}", file=sys.stderr)
        job.describe(estimators, survey.used)
    start, todo = time.perf_counter(), job.shards.num_left(survey.scored)
    _score_stretches(job, survey, estimators, options.step)
    _score_background(job, survey, estimators, options)
    job.state.wait_for_everyone()
    rate = todo / max(time.perf_counter() - start, 1e-9)
    columns = columns_of_estimators(estimators)
    scored = Scored(survey, None, [], columns[0], {}, rate)
    if job.state.is_main_process:
        _write(job, scored, records, columns, estimators, out, options)
    return scored


def _spooled(folder: Path, main: bool) -> Path:
    """Keep stdin in a file, since it is read more than once."""
    path = folder / "stdin"
    if main:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def _longest_allele(job: ScoringJob, options: ScoreOptions) -> int:
    """Return the longest allele that fits its window wherever the window starts."""
    width = job.language.window_bp
    if options.step > width // 4:
        raise ValueError(f"--step {options.step}: at most a quarter of the window, {width // 4} of {width} bp")
    # An allele begins at most so far from the end of its window, whatever the step and the phase of k-mers.
    room = width - width // 2 - (options.step - 1) - (job.language.encoder.k - 1)
    return min(options.max_allele or width // 4, room)


def survey_records(
    job: ScoringJob, records: Records, contigs: Contigs, max_allele: int, check: ReferenceCheck
) -> VariantSurvey:
    """Resolve the alleles of all records, once for a job. Where that fails, no job has begun.

    Raises:
        ValueError: the file cannot be read to its end, or a REF differs and `check` refuses that.
    """
    folder = job.shards.folder
    path = folder / "survey.json"
    if path.is_file():
        return VariantSurvey(**json.loads(path.read_text()))
    survey, statuses, lengths, rows = VariantSurvey(), Counter(), set(), iter(records)
    try:
        with (folder / "alleles.jsonl").open("w") as file:
            while stretch := list(islice(rows, STRETCH)):
                alts = []
                for record in stretch:
                    resolved = [
                        resolve_allele(contigs, job.store, record.chrom, record.pos, record.ref, alt, max_allele)
                        for alt in record.alts
                    ]
                    if resolved[0][0] == "ref_mismatch":
                        assert record.pos is not None
                        check.meet(records.where(record), contigs, job.store, record.chrom, record.pos, record.ref)
                    alts += resolved
                file.write(json.dumps(alts) + "\n")
                statuses.update(status for status, _ in alts)
                lengths.update(signed_length(allele) for _, allele in alts if allele)
                survey.scored.append(sum(allele is not None for _, allele in alts))
                survey.num_records += len(stretch)
    except ValueError:
        (folder / "job.json").unlink()
        raise
    survey.statuses, survey.lengths = dict(statuses.most_common()), sorted(lengths - {0})
    survey.notes, survey.used = [*records.notes, *check.notes()], dict(contigs.used)
    write_text(path, json.dumps(asdict(survey)))
    return survey


def signed_length(allele: Allele) -> int:
    """Return the length change of an indel in bp: positive for insertions, negative for deletions, else 0."""
    return 0 if allele.ref and allele.alt else len(allele.alt) - len(allele.ref)


def _score_stretches(job: ScoringJob, survey: VariantSurvey, estimators: list[str], step: int) -> None:
    """Score this process's stretches that have no results yet."""
    mine = range(job.state.process_index, len(survey.scored), job.state.num_processes)
    left = {stretch for stretch in mine if not job.shards.path(stretch).is_file()}
    total = sum(survey.scored[stretch] for stretch in mine)
    done = total - sum(survey.scored[stretch] for stretch in left)
    hidden = not job.state.is_main_process or not left
    bar = progress_bar(total=total, initial=done, desc="scoring", unit="variant", disable=hidden)
    with bar, (job.shards.folder / "alleles.jsonl").open() as file:
        for stretch, line in enumerate(file):
            if stretch not in left:
                continue
            alts = [(STATUSES.index(status), allele and Allele(*allele)) for status, allele in json.loads(line)]
            alleles = [allele for _, allele in alts if allele]
            scores = job.score(alleles, estimators, step=step, on_done=bar.update)
            chosen = np.array([allele is not None for _, allele in alts], dtype=bool)
            values: dict[str, Any] = {
                "status": np.array([status for status, _ in alts], dtype=np.uint8),
                "length": np.array([signed_length(allele) if allele else 0 for _, allele in alts], dtype=np.int32),
                "cut": _spread(scores.cut, chosen, False),
            }
            for column, array in scores.values.items():
                values[column] = _spread(array, chosen, np.nan)
                if column in LLRS:
                    values[f"{column}_strands"] = _spread(scores.strand_difference[column], chosen, np.nan)
            job.shards.save(stretch, values)


def _spread(values: np.ndarray, chosen: np.ndarray, empty: Any) -> np.ndarray:
    """Put the values of scored ALTs in their places among all ALTs."""
    spread = np.full(len(chosen), empty)
    spread[chosen] = values
    return spread


def _score_background(job: ScoringJob, survey: VariantSurvey, estimators: list[str], options: ScoreOptions) -> None:
    """Score random indels of the lengths in the file: the magnitude of an LLR grows with the length of an indel."""
    calibrated = [name for name in estimators if name in CALIBRATED]
    lengths = survey.lengths if options.background and calibrated else []
    mine = lengths[job.state.process_index :: job.state.num_processes]
    left = [length for length in mine if not job.shards.background(length).is_file()]
    hidden = not job.state.is_main_process or not left
    for length in progress_bar(left, desc="random indels", unit="length", disable=hidden):
        alleles = draw_indels(job.store, length, options.background, options.seed)
        scores = job.score(alleles, calibrated, step=options.step)
        moments = {name: [float(v.mean()), float(v.std())] for name, v in scores.values.items() if len(v) > 1}
        write_text(job.shards.background(length), json.dumps(moments))
        trim_freed_pages()


def draw_indels(store: Reference, length: int, number: int, seed: int) -> list[Allele]:
    """Draw random indels of one length: deletions of the bases there, insertions of bases from elsewhere.

    Args:
        store: the genome.
        length: above 0 of insertions, below 0 of deletions, in bases.
        number: of indels; fewer where the genome has hardly a place for them.
        seed: of the places.
    """
    size = abs(length)
    random = np.random.default_rng([seed, size, int(length > 0)])
    room = np.maximum(store.lengths - size, 0).astype(np.float64)
    indels: list[Allele] = []
    for _ in range(TRIES * number if room.any() else 0):
        contig, other = random.choice(len(room), 2, p=room / room.sum())
        start, there = (int(random.integers(0, int(room[c]) + 1)) for c in (contig, other))
        sequence = store.fetch(*((other, there, there + size) if length > 0 else (contig, start, start + size)))
        if (BASE_INDEX[sequence] < 4).all():
            bases = to_text(sequence).upper()
            ref, alt = ("", bases) if length > 0 else (bases, "")
            indels.append(Allele(int(contig), start, ref, alt))
            if len(indels) == number:
                break
    return indels


def _write(
    job: ScoringJob,
    scored: Scored,
    records: Records,
    columns: list[str],
    estimators: list[str],
    out: Path,
    options: ScoreOptions,
) -> None:
    """Write the scored file and fill in the summary."""
    survey, language = scored.survey, job.language
    calibrated = {}
    for name in [name for name in columns if options.background and name in CALIBRATED]:
        backgrounds = [(x, json.loads(job.shards.background(x).read_text())) for x in survey.lengths]
        calibrated[name] = [(x, *moments[name]) for x, moments in backgrounds if name in moments]
    header = info_lines(language, columns, calibrated)
    exclude = "ref_mismatch" if options.check_ref == "exclude" else None
    written = write_records(out, records, _results(job, scored, columns, calibrated), header, exclude)
    scored.written = written
    model = {name: getattr(language, name) for name in ("name", "revision", "sha256", "causal")}
    scored.summary |= {
        "records": written.num_records,
        "left_out": written.num_excluded,
        "alts": written.num_alts,
        "statuses": survey.statuses,
        "model": model,
        "window_bp": language.window_bp,
        "estimators": estimators,
        "contigs": survey.used,
        "notes": [*survey.notes, *written.notes],
        "genolm_version": genolm.__version__,
    }


def _results(job: ScoringJob, scored: Scored, columns: list[str], calibrated: dict) -> Iterator[dict[str, Any]]:
    """Yield the output fields of each stretch."""
    for stretch in range(len(scored.survey.scored)):
        values = job.shards.load(stretch)
        scored.histogram.append((values[scored.column], values["length"]))
        fields: dict[str, Any] = {"GENOLM_STATUS": [STATUSES[i] for i in values["status"].tolist()]}
        for column in columns:
            fields[field_name(column)] = values[column]
            if column in LLRS:
                fields[field_name(f"{column}_strands")] = values[f"{column}_strands"]
            if column in calibrated:
                z_scores = np.full(len(values[column]), np.nan)
                for length, mean, deviation in calibrated[column]:
                    rows = values["length"] == length
                    z_scores[rows] = (values[column][rows] - mean) / deviation if deviation > 0 else np.nan
                fields[field_name(f"{column}_z")] = z_scores
        fields["GENOLM_CUT"] = [1 if cut else None for cut in values["cut"].tolist()]
        yield fields


def info_lines(language: Any, columns: list[str], calibrated: dict) -> list[str]:
    """Return the ##INFO lines: what each field is, and by which model."""
    plain = "".join(x if x.isalnum() or x in "._-/ " else "_" for x in language.name)
    kind = "pseudo-likelihood of touched tokens, hidden one at a time: " if not language.causal else ""
    commit = f", revision {language.revision}" if language.revision else ""
    version = genolm.__version__
    by = f"{plain}{commit}, weights {language.sha256[:12]}, {language.window_bp} bp, genolm {version}"
    lines = [("GENOLM_STATUS", "String", "what became of the ALT: scored, or why it was not")]
    for column in columns:
        meaning = MEANINGS.get(column, f"{column.replace('_', ' ')} of REF and ALT, mean of both strands")
        if column == "likelihood":
            meaning = kind + meaning
        favours = "; positive favours ALT" if column in LLRS else ""
        lines.append((field_name(column), "Float", f"{meaning}{favours}; model {by}"))
        if column in LLRS:
            lines.append((field_name(f"{column}_strands"), "Float", f"{column}: forward minus reverse strand, nats"))
        if column in calibrated:
            lines.append((field_name(f"{column}_z"), "Float", f"{column} of an indel among random ones of its length"))
    lines.append(("GENOLM_CUT", "Integer", "1 where an end of the contig made the window shorter"))
    return [f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">' for name, kind, text in lines]
