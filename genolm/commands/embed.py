"""`genolm embed`: embeddings of sequences by a pretrained model, one per sequence, base or token."""

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
    import numpy as np

    from genolm.finetuning.build import check_lengths
    from genolm.inference.embed import check_pooling, layer_of, write_vectors
    from genolm.labels.collate import LabelCollator, RowEncoder
    from genolm.labels.dataset import Labelled, read_unlabelled
    from genolm.labels.task import Task
    from genolm.models.label_folder import model_folder
    from genolm.models.label_model import open_backbone
    from genolm.models.language_model import max_row_tokens
    from genolm.models.precision import available_device
    from genolm.tokenizers.build import load_tokenizer
    from genolm.tokenizers.encode import make_encoder

    if out.suffix not in (".parquet", ".npy"):
        raise ValueError(f"--out {out}: its name must end in .parquet or .npy")
    check_pooling(pool, both_strands, windows)
    ids, texts, source, notes = read_unlabelled(sequences, fasta, column or [])
    task, none = Task("regression", ("embedding",)), np.zeros(len(ids))
    labelled = Labelled(task, ids, texts, none, np.full(len(ids), ""), source)
    for note in notes:
        typer.echo(note, err=True)
    folder = model_folder(model)
    backbone: Any = open_backbone(folder).eval()
    backbone.to(available_device())
    index = layer_of(layer, backbone.config.num_hidden_layers)
    encoder = make_encoder(load_tokenizer(folder))
    if pool == "cls" and not encoder.prefix_ids:
        raise ValueError(f"--pool is cls, and the tokenizer of {folder} puts no token before a sequence; take mean")
    rows = RowEncoder(encoder, max_row_tokens(backbone.config), cut=windows, per_base=pool == "per-base")
    try:
        check_lengths(rows, labelled)
    except ValueError as error:
        problem, advice, _ = str(error).partition("Shorten it, or learn with long_inputs")
        averaged = ", or give --windows, which averages over its pieces" if pool in ("mean", "cls") else ""
        raise ValueError(f"{problem}Shorten it{averaged}" if advice else problem) from None
    collator = LabelCollator(labelled, rows, in_order=True)
    options = {"batch_size": batch_size, "both_strands": both_strands, "progress": True}
    width = write_vectors(out, backbone, collator, pool, index, **options)
    typer.echo(f"{len(labelled):,} sequences, vectors of {width}: {out}")
