"""`genolm mutate`: every change of every base of regions to a table, heat maps with sequence logos, and a page.

| exit code | meaning |
|---|---|
| 0 | written |
| 2 | a mistake to correct; nothing was written |
| 75 | interrupted: the same command resumes |
"""

import sys
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


def mutate(
    fasta: Fasta,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    region: Annotated[list[str] | None, typer.Option(help="chr1:1001-1200, 1-based; several at once.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED or GFF file of regions.")] = None,
    deletions: Annotated[bool, typer.Option("--deletions", help="Also the deletion of each base.")] = False,
    estimator: Annotated[list[str] | None, typer.Option(help="As of `genolm score`; the first is drawn.")] = None,
    window: Window = None,
    batch_size: BatchSize = 32,
    max_bp: Annotated[int, typer.Option(help="Most bases of all regions: each is a column to look at.")] = 5000,
    bf16: Bf16 = False,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Score every change of every base of regions, and draw heat maps with sequence logos; positive favours ALT.

    Example: genolm mutate --fasta ref.fa.gz --region chr1:1001-1200 --model runs/first --out promoter
    """
    from genolm.reports.mutation_report import write_mutation_page, write_mutation_table
    from genolm.variants.alleles import Contigs
    from genolm.variants.job import refuse_existing, scoring_job
    from genolm.variants.likelihood import check_drawn
    from genolm.variants.saturation import locate_regions, pieces_of, score_pieces

    if not region and not regions:
        raise ValueError("no region was given; set --region chr1:1001-1200 or --regions x.bed")
    refuse_existing(out, out / "parts")
    opening: dict[str, Any] = {"window_bp": window, "tokenizer": tokenizer, "revision": revision}
    opening["trust_remote_code"] = trust_remote_code
    with scoring_job(out / "parts", fasta, model, batch_size, bf16, **opening) as job:
        contigs = Contigs(job.store)
        shown = locate_regions(job.store, contigs, region or (), regions)
        pieces = pieces_of(shown)
        num_bases = sum(piece.end - piece.start for piece in pieces)
        check_size(num_bases, max_bp)
        estimators = job.estimators(estimator)
        check_drawn(estimators[0], job.language.causal)
        job.begin({"regions": shown, "estimators": estimators, "deletions": deletions})
        if job.state.is_main_process:
            print(f"regions    {len(shown):,}, {num_bases:,} bp", file=sys.stderr)
            job.describe(estimators, contigs.used)
        rate = score_pieces(job, pieces, estimators, deletions=deletions)
        if job.state.is_main_process:
            num_changes = write_mutation_table(out / "mutations.tsv", job, pieces, estimators)
            write_mutation_page(out, job, pieces, shown, estimators, deletions)
            job.shards.end()
            changes = f"{num_changes:,} changes of {num_bases:,} bases"
            print(f"{changes}: {out / 'index.html'}   {rate:,.1f} bases/s in this start")


def check_size(num_bases: int, max_bp: int) -> None:
    """Refuse more bases than a heat map can show."""
    if num_bases > max_bp:
        raise ValueError(
            f"{num_bases:,} bp in all regions, and a heat map has a column for each; give fewer, or --max-bp "
            f"{num_bases}. One value a base of long regions is written by `genolm scan`"
        )
