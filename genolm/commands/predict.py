"""`genolm predict`: predictions of a fine-tuned model for a table, a FASTA, or a BED with its FASTA."""

from pathlib import Path
from typing import Annotated, Any

import typer

WRITES = (".csv", ".tsv", ".parquet")


def predict(
    run: Annotated[str, typer.Argument(help="Run folder of `genolm finetune`.")],
    sequences: Annotated[str, typer.Argument(help="FASTA; or a table with `sequence`, or with chrom, start, end.")],
    out: Annotated[Path, typer.Option(help="File to write: .csv, .tsv or .parquet.")],
    fasta: Annotated[str | None, typer.Option(help="FASTA of a table of intervals, such as a BED.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="Name of a column in the table: sequence=seq.")] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences in a forward pass.", min=1)] = 64,
) -> None:
    """Predict labels of new sequences, one row for each, in their order.

    Example: genolm predict runs/promoters new.fa --out predictions.csv
    """
    from genolm.api import FinetunedModel
    from genolm.labels.dataset import read_unlabelled, unlabelled_rows

    if out.suffix not in WRITES:
        raise ValueError(f"--out {out}: its name must end in {', '.join(WRITES)}")
    ids, letters, source, notes = read_unlabelled(sequences, fasta, column or [])
    for note in notes:
        typer.echo(note, err=True)
    model = FinetunedModel(run)
    labelled = unlabelled_rows(ids, letters, source, model.task)
    values = model.predict_rows(labelled, batch_size=batch_size)
    write_prediction_table(out, labelled, values, threshold_of(run))
    typer.echo(f"{len(ids):,} predictions: {out}")


def threshold_of(run: str) -> Any:
    """Return the threshold that was chosen on the valid rows; None where there is none."""
    import json

    for path in (Path(run) / "metrics.json", Path(run).parent / "metrics.json"):  # or of its `model` or `merged`
        if path.is_file():
            return json.loads(path.read_text()).get("threshold")
    return None


def write_prediction_table(out: Path, labelled, values: list[Any], threshold: Any) -> None:
    """Write predictions whole or not at all: a column for each class, label or target; of bases, a list a row."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    from genolm.config.files import atomic_path

    task = labelled.task
    columns: dict[str, Any] = {"id": [str(name) for name in labelled.ids]}
    if task.kind in ("per-base", "tracks"):
        lists = [np.asarray(value).tolist() for value in values]
        columns["prediction"] = lists if out.suffix == ".parquet" else [str(value) for value in lists]
    elif task.kind == "binary":
        positive = np.array(values)
        columns |= {f"probability_{task.names[1]}": positive}
        least = 0.5 if threshold is None else threshold
        columns["label"] = [task.names[int(value >= least)] for value in positive]
    else:
        table = np.stack(values)
        prefix = "" if task.kind == "regression" else "probability_"
        columns |= {f"{prefix}{name}": table[:, i] for i, name in enumerate(task.names)}
        if task.kind == "multiclass":
            columns["label"] = [task.names[i] for i in table.argmax(1)]
        if task.kind == "multilabel":
            least = np.array(threshold if threshold is not None else [0.5] * len(task.names))
            columns["label"] = [
                ";".join(n for n, yes in zip(task.names, row >= least, strict=True) if yes) for row in table
            ]
    with atomic_path(out) as aside:
        if out.suffix == ".parquet":
            pyarrow.parquet.write_table(pa.table(columns), aside)
        else:
            options = pyarrow.csv.WriteOptions(delimiter="\t" if out.suffix == ".tsv" else ",", quoting_style="needed")
            pyarrow.csv.write_csv(pa.table(columns), aside, options)
