"""`genolm embed`: embeddings of sequences by a pretrained model, one per sequence, base or token."""

from pathlib import Path
from typing import Annotated

import typer


def embed(
    model: Annotated[str, typer.Argument(help="Run of `genolm pretrain`, its checkpoint, or a name on the Hub.")],
    sequences: Annotated[str, typer.Argument(help="FASTA; or a table with `sequence`, or with chrom, start, end.")],
    out: Annotated[Path, typer.Option(help="File to write: .parquet or .npy.")],
    fasta: Annotated[str | None, typer.Option(help="FASTA of a table of intervals, such as a BED.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Name of a column in the table: sequence=seq.")] = None,
    pool: Annotated[str, typer.Option(help="mean, cls (the first token), per-base or tokens.")] = "mean",
    layer: Annotated[int, typer.Option(help="-1 is the last, 0 the embedding.")] = -1,
    both_strands: Annotated[bool, typer.Option(help="The mean over both strands, twice the time.")] = False,
    windows: Annotated[bool, typer.Option(help="Average over pieces of what is too long for the model.")] = False,
    batch_size: Annotated[int, typer.Option(help="Sequences in a forward pass.", min=1)] = 64,
) -> None:
    """Write embeddings of sequences with their ids, in their order.

    Example: genolm embed runs/first peaks.bed --fasta hg38.fa --pool mean --out peaks.parquet
    """
    from genolm.inference.embed import check_pooling, open_embedder, write_vectors
    from genolm.labels.dataset import read_unlabelled, unlabelled_rows
    from genolm.models.label_folder import model_folder

    if out.suffix not in (".parquet", ".npy"):
        raise ValueError(f"--out {out}: its name must end in .parquet or .npy")
    check_pooling(pool, both_strands, windows)
    ids, texts, source, notes = read_unlabelled(sequences, fasta, column or [])
    for note in notes:
        typer.echo(note, err=True)
    labelled = unlabelled_rows(ids, texts, source)
    backbone, collator = open_embedder(model_folder(model), labelled, pool, windows)
    options = {"batch_size": batch_size, "both_strands": both_strands, "progress": True}
    width = write_vectors(out, backbone, collator, pool, layer, **options)
    typer.echo(f"{len(labelled):,} sequences, vectors of {width}: {out}")
