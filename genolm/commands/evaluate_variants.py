"""`genolm evaluate-variants`: how well scores of labelled variants separate the labels, compared with baselines."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate_variants(
    variants: Annotated[str, typer.Argument(help="Table of variants, one row per ALT.")],
    label: Annotated[str, typer.Option(help="Its column of labels: 0 and 1, words, or numbers.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and curves.png.")],
    joined: Annotated[
        str | None, typer.Option("--with", help="Table of the same variants to join, such as their scores.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            help="Columns, separated by commas; +NAME: greater means label 1, -NAME: label 0. Default: genolm_…"
        ),
    ] = None,
    higher_is: Annotated[
        str, typer.Option(help="Label that a higher ratio means. negative: label 1 is deleterious.")
    ] = "negative",
    positive: Annotated[list[str] | None, typer.Option(help="Word that is label 1; repeatable.")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="Word that is label 0; default: all others.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of rows that the bootstrap draws together.")] = None,
    fasta: Annotated[str | None, typer.Option(help="Reference, for the Markov and GC baselines.")] = None,
    aliases: Annotated[str | None, typer.Option(help="Table: contig in the variants, tab, contig in --fasta.")] = None,
    track: Annotated[list[str] | None, typer.Option(help="Conservation, a bigWig; repeatable.")] = None,
    train_fasta: Annotated[
        list[str] | None, typer.Option(help="FASTA that Markov models are fitted on; default: --fasta.")
    ] = None,
    markov_orders: Annotated[str, typer.Option(help="Orders of the Markov models, separated by commas.")] = "3,6,9",
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Measure how well scores of labelled variants separate the labels, and compare them with baselines.

    Example: genolm evaluate-variants scored.tsv --label pathogenic --fasta hg38.fa --track phyloP.bw --out judged
    """
    from genolm.reports.tables import print_variants
    from genolm.reports.variant_report import write_variant_evaluation
    from genolm.variants.alleles import read_aliases

    evaluation = write_variant_evaluation(
        variants,
        label,
        out,
        reading={"other": joined, "positive": positive or [], "negative": negative or [], "group": group},
        scores=None if scores is None else [name.strip() for name in scores.split(",")],
        higher_is=higher_is,
        fasta=fasta,
        aliases=read_aliases(aliases) if aliases else None,
        tracks=track or [],
        train_fasta=train_fasta or [],
        markov_orders=whole_numbers(markov_orders, "--markov-orders"),
        num_replicates=replicates,
        seed=seed,
        on_note=lambda note: typer.echo(f"note: {note}", err=True),
    )
    print_variants(evaluation)
    typer.echo(f"written: {out}")


def whole_numbers(text: str, option: str) -> list[int]:
    """Read whole numbers separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} is {text!r}; give whole numbers separated by commas, such as 3,6,9") from None
