"""`genolm score`: variants of a VCF, BCF or table → the same file with what a language model says of every ALT.

    variants ─ statuses, alleles ─ stretches, each scored and kept ─ indels beside random ones ─ output, in input order

A stretch is scored by one process, so any number of processes give the same bytes, and one that is killed goes on.

| exit code | meaning |
|---|---|
| 0 | every record is in the output, with scores or the reason why not |
| 2 | a mistake to correct; nothing was written |
| 3 | written, and no ALT was scored: mostly names of contigs, or another assembly |
| 75 | interrupted: the same command goes on |
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.variants.score_columns import LLRS, MEANINGS, field

CALIBRATED = ("masked_llr", "likelihood")
"""Estimators that sum over more tokens the longer an indel is."""


def score(
    variants: Annotated[str, typer.Argument(help="VCF, BCF, or TSV of chrom, pos, ref, alt; - for stdin.")],
    fasta: Annotated[str, typer.Option(help="FASTA of the reference, or a folder of `genolm prepare`.")],
    model: Annotated[str, typer.Option(help="Run of `genolm pretrain`, a model folder, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="File to write: .vcf, .vcf.gz, .bcf, .tsv, .tsv.gz or .parquet.")],
    estimator: Annotated[
        list[str] | None, typer.Option(help="masked_llr, likelihood, …; give it again for more.")
    ] = None,
    window: Annotated[int | None, typer.Option(help="Bases shown to the model, else as many as in training.")] = None,
    step: Annotated[int, typer.Option(help="Windows start at multiples of it: dense variants are faster.", min=1)] = 1,
    batch_size: Annotated[int, typer.Option(help="Rows of tokens in a forward pass.", min=1)] = 32,
    check_ref: Annotated[str, typer.Option(help="Where REF is another: exit, warn, exclude, set-status.")] = "warn",
    aliases: Annotated[Path | None, typer.Option(help="Names of contigs: in the VCF, tab, in the FASTA.")] = None,
    region: Annotated[str | None, typer.Option(help="Only these records: chr20:1000001-2000000.")] = None,
    drop_samples: Annotated[bool, typer.Option("--drop-samples", help="Leave genotypes out.")] = False,
    max_allele: Annotated[int | None, typer.Option(help="Longest allele, else a quarter of the window.")] = None,
    background: Annotated[int, typer.Option(help="Random indels of each length, for z-scores; 0 for none.")] = 100,
    seed: Annotated[int, typer.Option(help="Of random indels.")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Faster on GPUs; scores differ in the third digit.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer instead of the model's own.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a model on the Hub.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's code.")] = False,
) -> None:
    """Score small variants zero-shot: log-likelihood ratios, embeddings, entropy; positive favours ALT.

    Example: genolm score calls.vcf.gz --fasta ref.fa.gz --model runs/first --out scored.vcf.gz
    """
    from genolm.variants.alleles import ReferenceCheck
    from genolm.variants.contigs import Contigs, read_aliases
    from genolm.variants.job import zero_shot
    from genolm.variants.result_shards import clear, look_through
    from genolm.variants.vcf import open_records
    from genolm.variants.write_vcf import check_suffix

    check_suffix(out)
    check = ReferenceCheck(check_ref)
    folder = out.with_name(f"{out.name}.parts")
    clear(folder)
    if out.exists() and not (folder / "job.json").is_file():
        raise ValueError(f"--out {out} is there already; remove it, or name another file")
    opening = {"tokenizer": tokenizer, "revision": revision, "trust_remote_code": trust_remote_code}
    opening |= {"window_bp": window, "bf16": bf16, "batch_size": batch_size}
    with zero_shot(folder, fasta, model, **opening) as begun:
        state, parts, store, language = begun.state, begun.parts, begun.store, begun.language
        with state.main_process_first():
            source = spooled(folder, state.is_main_process) if variants == "-" else Path(variants)
        estimators = begun.estimators(estimator)
        width = language.window_bp
        if step > width // 4:
            raise ValueError(f"--step {step}: at most a quarter of the window, {width // 4} of {width} bp")
        # An allele begins at most so far from the end of its window, whatever the step and the phase of k-mers.
        longest = min(max_allele or width // 4, width - width // 2 - (step - 1) - (language.encoder.k - 1))
        records = open_records(source, region, drop_samples)
        names = read_aliases(aliases) if aliases else None
        contigs = Contigs(store, names)
        begun.take(
            {
                "variants": sha256(source),
                "step": step,
                "estimators": estimators,
                "region": region,
                "drop_samples": drop_samples,
                "max_allele": longest,
                "aliases": names,
                "check_ref": check_ref,
                "background": background,
                "seed": seed,
            }
        )
        with state.main_process_first():
            survey = parts.survey(lambda: look_through(records, contigs, store, longest, check))
        options = begun.options(estimators) | {"step": step}
        if state.is_main_process:
            for note in survey.notes:
                print(note, file=sys.stderr)
            counts = ", ".join(f"{status} {count:,}" for status, count in survey.statuses.items())
            print(f"records    {survey.num_records:,}; ALTs: {counts or 'none'}", file=sys.stderr)
            begun.describe(estimators, survey.used)
        began, left = time.perf_counter(), parts.left(survey.scored)
        score_stretches(parts, survey, records, contigs, store, language, longest, options, state)
        score_backgrounds(parts, survey, store, language, background, seed, options, state)
        state.wait_for_everyone()
        if state.is_main_process:
            rate = left / max(time.perf_counter() - began, 1e-9)
            finish(out, parts, survey, records, language, estimators, background, check_ref, rate)
    if not any(survey.scored) and survey.num_records:
        raise SystemExit(3)


def spooled(folder: Path, main: bool) -> Path:
    """Keep what comes from stdin in a file, since it is read more than once."""
    path = folder / "stdin"
    if main:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def sha256(path: Path) -> str:
    """Return the sha256 of a file that is there."""
    from genolm.config.files import file_sha256

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return file_sha256(path)


def score_stretches(parts, survey, records, contigs, store, language, max_allele, options, state) -> None:
    """Score the stretches of this process that are left."""
    import numpy as np
    from tqdm.auto import tqdm

    from genolm.variants.alleles import STATUSES
    from genolm.variants.likelihood import score_alleles
    from genolm.variants.result_shards import length_of, resolve_record, stretches

    mine = range(state.process_index, len(survey.scored), state.num_processes)
    left = {stretch for stretch in mine if not parts.path(stretch).is_file()}
    total = sum(survey.scored[stretch] for stretch in mine)
    bar = tqdm(
        total=total,
        initial=total - sum(survey.scored[stretch] for stretch in left),
        desc="scoring",
        unit="variant",
        disable=not state.is_main_process or not left,
        mininterval=0.5 if sys.stderr.isatty() else 30,
    )
    with bar:
        for number, stretch in enumerate(stretches(records) if left else ()):
            if number not in left:
                continue
            alts = [alt for record in stretch for alt in resolve_record(record, contigs, store, max_allele)]
            alleles = [allele for _, allele in alts if allele is not None]
            found = score_alleles(language.model, language.encoder, store, alleles, on_done=bar.update, **options)
            chosen = np.array([allele is not None for _, allele in alts], dtype=bool)
            values: dict[str, Any] = {
                "status": np.array([STATUSES.index(status) for status, _ in alts], dtype=np.uint8),
                "length": np.array([length_of(allele) for _, allele in alts], dtype=np.int32),
                "cut": spread(found.cut, chosen, False),
            }
            for column, array in found.values.items():
                values[column] = spread(array, chosen, np.nan)
                if column in LLRS:
                    values[f"{column}_strands"] = spread(found.strand_difference[column], chosen, np.nan)
            parts.save(number, values)


def spread(values, chosen, empty):
    """Put the values of those that were scored in their places among all."""
    import numpy as np

    found = np.full(len(chosen), empty)
    found[chosen] = values
    return found


def score_backgrounds(parts, survey, store, language, number: int, seed: int, options, state) -> None:
    """Score random indels of the lengths that are there."""
    from tqdm.auto import tqdm

    from genolm.variants.indel_background import draw
    from genolm.variants.likelihood import score_alleles

    wanted = [name for name in options["estimators"] if name in CALIBRATED]
    lengths = survey.lengths if number and wanted else []
    left = [x for x in lengths[state.process_index :: state.num_processes] if not parts.background(x).is_file()]
    for length in tqdm(left, desc="random indels", unit="length", disable=not state.is_main_process or not left):
        alleles = draw(store, length, number, seed)
        values = score_alleles(
            language.model, language.encoder, store, alleles, **(options | {"estimators": wanted})
        ).values
        parts.save_background(
            length, {name: [float(v.mean()), float(v.std()), len(v)] for name, v in values.items() if len(v) > 1}
        )


def finish(out: Path, parts, survey, records, language, estimators, background: int, check_ref: str, rate: float):
    """Write the output, a summary and a histogram, and remove what is not needed any more."""
    from rich.console import Console
    from rich.table import Table

    import genolm
    from genolm.config.files import write_text
    from genolm.reports.figures import score_histogram
    from genolm.variants.alleles import STATUSES
    from genolm.variants.indel_background import z_scores
    from genolm.variants.likelihood import columns_of
    from genolm.variants.vcf_lines import HeaderSurvey
    from genolm.variants.write_vcf import write_records

    columns = columns_of(estimators)
    calibrated = {}
    for name in [name for name in columns if background and name in CALIBRATED]:
        found = [(x, json.loads(parts.background(x).read_text())) for x in survey.lengths]
        calibrated |= {name: [(x, *known[name][:2]) for x, known in found if name in known]}
    kept: dict[str, list] = {column: [] for column in columns[:1]}

    def results():
        for stretch in range(len(survey.scored)):
            values = parts.load(stretch)
            for column in kept:
                kept[column].append((values[column], values["length"]))
            told: dict[str, Any] = {"GENOLM_STATUS": [STATUSES[i] for i in values["status"].tolist()]}
            for column in columns:
                told[field(column)] = values[column]
                if column in LLRS:
                    told[field(f"{column}_strands")] = values[f"{column}_strands"]
                if column in calibrated:
                    told[field(f"{column}_z")] = z_scores(values[column], values["length"], calibrated[column])
            told["GENOLM_CUT"] = [1 if cut else None for cut in values["cut"].tolist()]
            yield told

    header = info_lines(language, columns, calibrated, genolm.__version__)
    exclude = "ref_mismatch" if check_ref == "exclude" else None
    written = write_records(out, records, results(), header, exclude, HeaderSurvey(**survey.header))
    score_histogram(kept[columns[0]], columns[0], out.with_name(f"{out.name}.png"))
    summary = {
        "records": written.num_records,
        "left_out": written.num_excluded,
        "alts": written.num_alts,
        "statuses": survey.statuses,
        "model": {
            "name": language.name,
            "revision": language.revision,
            "sha256": language.sha256,
            "causal": language.causal,
        },
        "window_bp": language.window_bp,
        "estimators": estimators,
        "contigs": survey.used,
        "notes": [*survey.notes, *written.notes],
        "genolm_version": genolm.__version__,
    }
    write_text(out.with_name(f"{out.name}.summary.json"), json.dumps(summary, indent=1))
    parts.end()
    table = Table("status", "ALTs", box=None, padding=(0, 2, 0, 0))
    for status, count in survey.statuses.items():
        table.add_row(status, f"{count:,}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for note in written.notes:
        console.print(note, markup=False)
    console.print(
        f"{written.num_records - written.num_excluded:,} of {written.num_records:,} records: {out}   "
        f"{rate:,.1f} variants/s in this start",
        markup=False,
    )


def info_lines(language, columns: list[str], calibrated: dict, version: str) -> list[str]:
    """Return header lines that say what each field is, and by which model."""
    plain = "".join(x if x.isalnum() or x in "._-/ " else "_" for x in language.name)
    kind = "pseudo-likelihood of touched tokens, hidden one at a time: " if not language.causal else ""
    commit = f", revision {language.revision}" if language.revision else ""
    by = f"{plain}{commit}, weights {language.sha256[:12]}, {language.window_bp} bp, genolm {version}"
    lines = [("GENOLM_STATUS", "String", "what became of the ALT: scored, or why it was not")]
    for column in columns:
        meaning = MEANINGS.get(column, f"{column.replace('_', ' ')} of REF and ALT, mean of both strands")
        if column == "likelihood":
            meaning = kind + meaning
        favours = "; positive favours ALT" if column in LLRS else ""
        lines.append((field(column), "Float", f"{meaning}{favours}; model {by}"))
        if column in LLRS:
            lines.append((field(f"{column}_strands"), "Float", f"{column}: forward minus reverse strand, nats"))
        if column in calibrated:
            lines.append((field(f"{column}_z"), "Float", f"{column} of an indel among random ones of its length"))
    lines.append(("GENOLM_CUT", "Integer", "1 where an end of the contig made the window shorter"))
    return [f'##INFO=<ID={name},Number=A,Type={kind},Description="{text}">' for name, kind, text in lines]
