"""`genolm score`: variants of a VCF, BCF or table to the same file with zero-shot scores of every ALT.

| exit code | meaning |
|---|---|
| 0 | every record is in the output, with scores or the reason why not |
| 2 | a mistake to correct; nothing was written |
| 3 | written, and no ALT was scored: mostly names of contigs, or another assembly |
| 75 | interrupted: the same command resumes |
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.variants.options import (
    BatchSize,
    Bf16,
    Fasta,
    Model,
    RemoteCode,
    Revision,
    Tokenizer,
    Window,
)


def score(
    variants: Annotated[str, typer.Argument(help="VCF, BCF, or TSV of chrom, pos, ref, alt; - for stdin.")],
    fasta: Fasta,
    model: Model,
    out: Annotated[Path, typer.Option(help="File to write: .vcf, .vcf.gz, .bcf, .tsv, .tsv.gz or .parquet.")],
    estimator: Annotated[
        list[str] | None, typer.Option(help="masked_llr, likelihood, …; give it again for more.")
    ] = None,
    window: Window = None,
    step: Annotated[int, typer.Option(help="Windows start at multiples of it: dense variants are faster.", min=1)] = 1,
    batch_size: BatchSize = 32,
    check_ref: Annotated[str, typer.Option(help="Where REF differs: exit, warn, exclude, set-status.")] = "warn",
    aliases: Annotated[Path | None, typer.Option(help="Names of contigs: in the VCF, tab, in the FASTA.")] = None,
    region: Annotated[str | None, typer.Option(help="Only these records: chr20:1000001-2000000.")] = None,
    drop_samples: Annotated[bool, typer.Option("--drop-samples", help="Leave genotypes out.")] = False,
    max_allele: Annotated[int | None, typer.Option(help="Longest allele, else a quarter of the window.")] = None,
    background: Annotated[int, typer.Option(help="Random indels of each length, for z-scores; 0 for none.")] = 100,
    seed: Annotated[int, typer.Option(help="Of random indels.")] = 0,
    bf16: Bf16 = False,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Score small variants zero-shot: log-likelihood ratios, embeddings, entropy; positive favours ALT.

    A FASTA with an index (samtools faidx) is read where it lies.

    Example: genolm score calls.vcf.gz --fasta ref.fa.gz --model runs/first --out scored.vcf.gz
    """
    from genolm.variants.alleles import ReferenceCheck
    from genolm.variants.job import refuse_existing, scoring_job
    from genolm.variants.scoring import ScoreOptions, score_variants
    from genolm.variants.write_vcf import check_suffix

    check_suffix(out)
    ReferenceCheck(check_ref)  # a mistyped word is refused before the model is opened
    folder = out.with_name(f"{out.name}.parts")
    refuse_existing(out, folder)
    opening: dict[str, Any] = {"window_bp": window, "tokenizer": tokenizer, "revision": revision}
    opening["trust_remote_code"] = trust_remote_code
    options = ScoreOptions(estimator, step, check_ref, aliases, region, drop_samples, max_allele, background, seed)
    with scoring_job(folder, fasta, model, batch_size, bf16, **opening) as job:
        scored = score_variants(job, variants, out, options)
        if scored.written is not None:
            report_scores(out, scored)
            job.shards.end()
    if not any(scored.survey.scored) and scored.survey.num_records:
        raise SystemExit(3)


def report_scores(out: Path, scored) -> None:
    """Write the summary and the histogram, and print counts of statuses."""
    from rich.console import Console
    from rich.table import Table

    from genolm.config.files import write_text
    from genolm.reports.figures import score_histogram

    score_histogram(scored.histogram, scored.column, out.with_name(f"{out.name}.png"))
    write_text(out.with_name(f"{out.name}.summary.json"), json.dumps(scored.summary, indent=1))
    table = Table("status", "ALTs", box=None, padding=(0, 2, 0, 0))
    for status, count in scored.survey.statuses.items():
        table.add_row(status, f"{count:,}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    written = scored.written
    for note in written.notes:
        console.print(note, markup=False)
    console.print(
        f"{written.num_records - written.num_excluded:,} of {written.num_records:,} records: {out}   "
        f"{scored.rate:,.1f} variants/s in this start",
        markup=False,
    )
