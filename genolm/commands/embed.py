"""`genolm embed`: what a pretrained model makes of sequences: a vector each, or one for every base or token."""

from pathlib import Path
from typing import Annotated, Any

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
    import sys

    import numpy as np
    import torch
    from tqdm.auto import tqdm

    from genolm.finetuning.build import check_lengths
    from genolm.inference.embed import POOLING, layer_of, write_vectors
    from genolm.labels.collate import LabelCollator, RowEncoder
    from genolm.labels.dataset import Labelled
    from genolm.labels.task import Task
    from genolm.models.label_folder import model_folder
    from genolm.models.label_model import open_backbone
    from genolm.models.language_model import longest
    from genolm.tokenizers.build import load_tokenizer
    from genolm.tokenizers.encode import make_encoder

    if out.suffix not in (".parquet", ".npy"):
        raise ValueError(f"--out {out}: its name must end in .parquet or .npy")
    if pool not in POOLING:
        raise ValueError(f"--pool is {pool!r}; allowed: {', '.join(POOLING)}")
    if pool == "tokens" and both_strands:
        raise ValueError("--both-strands: tokens of the other strand lie elsewhere; take --pool per-base")
    if windows and pool in ("per-base", "tokens"):
        raise ValueError(f"--windows averages over pieces, and --pool {pool} does not; cut the sequences yourself")
    ids, letters, source = rows_of(sequences, fasta, column)
    folder = model_folder(model)
    opened: Any = open_backbone(folder).eval()
    opened.to(torch.accelerator.current_accelerator() or "cpu")
    place = layer_of(layer, opened.config.num_hidden_layers)
    encoder = make_encoder(load_tokenizer(folder))
    if pool == "cls" and not encoder.prefix_ids:
        raise ValueError(f"--pool is cls, and the tokenizer of {folder} puts no token before a sequence; take mean")
    none = np.zeros(len(ids))
    task = Task("regression", ("embedding",))
    labelled = Labelled(task, np.array(ids), letters, none, np.full(len(ids), ""), np.array(source))
    rows = RowEncoder(encoder, longest(opened.config), cut=windows, per_base=pool == "per-base")
    try:
        check_lengths(rows, labelled)
    except ValueError as error:
        raise ValueError(as_options(str(error), pool)) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    with tqdm(total=len(ids), desc="embedding", unit="seq", mininterval=0.5 if sys.stderr.isatty() else 30) as bar:
        options = {"batch_size": batch_size, "both_strands": both_strands, "bar": bar}
        width = write_vectors(out, opened, LabelCollator(labelled, rows, in_order=True), pool, place, **options)
    typer.echo(f"{len(ids):,} sequences, vectors of {width}: {out}")


def rows_of(sequences: str, fasta: str | None, column: list[str] | None) -> tuple[Any, list[str], Any]:
    """Return ids, letters and places of the records of a FASTA, or of the rows of a table."""
    from genolm.genome.extract import FASTA_SUFFIXES, read_records
    from genolm.labels.columns import read_rows

    if sequences.endswith(FASTA_SUFFIXES):
        if column or fasta:
            raise ValueError(f"{sequences} is a FASTA; --column and --fasta are for tables")
        return read_records(sequences)
    pairs = [word.partition("=") for word in column or []]
    names: dict[str, Any] = {key: value if value not in ("", "null") else None for key, _, value in pairs}
    try:
        rows = read_rows(sequences, fasta, {"label": None} | names, need_labels=False)
    except ValueError as error:
        raise ValueError(as_options(str(error), "")) from None
    for note in rows.notes:
        typer.echo(as_options(note, ""), err=True)
    return rows.ids, rows.sequences, rows.source


def as_options(message: str, pool: str) -> str:
    """Name what a user sets by this command's options, not by the keys of a recipe."""
    message, _, advice = message.partition("Shorten it, or learn with long_inputs")
    if advice:
        averaged = ", or give --windows, which averages over its pieces" if pool in ("mean", "cls") else ""
        return f"{message}Shorten it{averaged}"
    return message.replace("labels.columns.", "--column ").replace("labels.fasta", "--fasta")
