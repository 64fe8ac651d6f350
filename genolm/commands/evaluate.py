"""`genolm evaluate`: bits per base of a run, or how well scores of labelled variants tell labels apart.

RUN          bits per base on held-out regions, beside Markov models of every order on the same bases
--variants   AUROC, AUPRC or correlation with intervals, beside baselines on the same rows
"""

import json
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    run: Annotated[str | None, typer.Argument(help="Run folder that `genolm pretrain` wrote.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to its recipe: key=value.")] = None,
    variants: Annotated[str | None, typer.Option(help="Table of variants, a row an ALT, instead of RUN.")] = None,
    label: Annotated[str | None, typer.Option(help="Its column of labels: 0 and 1, words, or numbers.")] = None,
    joined: Annotated[
        str | None, typer.Option("--with", help="Table of the same variants to join, such as their scores.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(help="Columns, by commas; +NAME: greater speaks for label 1, -NAME: for label 0. Else: genolm_…"),
    ] = None,
    higher_is: Annotated[
        str, typer.Option(help="Label that a higher ratio speaks for. negative: label 1 is deleterious.")
    ] = "negative",
    positive: Annotated[list[str] | None, typer.Option(help="Word that is label 1; may be repeated.")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="Word that is label 0; else all others.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of rows that the bootstrap draws together.")] = None,
    fasta: Annotated[str | None, typer.Option(help="Reference, for the Markov and GC baselines.")] = None,
    aliases: Annotated[str | None, typer.Option(help="Table: contig in the variants, tab, contig in --fasta.")] = None,
    track: Annotated[list[str] | None, typer.Option(help="Conservation: wig, bedGraph, bigWig.")] = None,
    train_fasta: Annotated[list[str] | None, typer.Option(help="What Markov models count; else --fasta.")] = None,
    markov_orders: Annotated[str, typer.Option(help="Orders of the Markov models, by commas.")] = "3,6,9",
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.json and curves.png.")] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Evaluate a pretrained model on its test regions, or scores of variants on their labels.

    Example: genolm evaluate runs/first evaluation.regions=genes.gff3

    Example: genolm evaluate --variants scored.tsv --label pathogenic --fasta hg38.fa --track phyloP.bw --out judged
    """
    if variants is None:
        asked = {"--label": label, "--with": joined, "--scores": scores, "--positive": positive, "--fasta": fasta}
        asked |= {
            "--negative": negative,
            "--group": group,
            "--aliases": aliases,
            "--track": track,
            "--train-fasta": train_fasta,
        }
        given = [option for option, value in (asked | {"--out": out}).items() if value]
        if given:
            raise ValueError(f"{given[0]} goes with --variants TABLE, which is not given")
        if run is None:
            raise ValueError("give a run folder of `genolm pretrain`, or labelled variants: --variants TABLE")
        evaluate_run(run, overrides)
        return
    if run is not None:
        raise ValueError(f"got the run {run!r} and --variants; give one of them")
    if label is None or out is None:
        raise ValueError("--variants needs --label COLUMN and --out FOLDER")
    from genolm.reports.tables import print_variants
    from genolm.reports.variant_report import write_variant_evaluation
    from genolm.variants.contigs import read_aliases

    found = write_variant_evaluation(
        variants,
        label,
        out,
        other=joined,
        scores=None if scores is None else [name.strip() for name in scores.split(",")],
        higher_is=higher_is,
        positive=positive or [],
        negative=negative or [],
        group=group,
        fasta=fasta,
        aliases=read_aliases(aliases) if aliases else None,
        tracks=track or [],
        train_fasta=train_fasta or [],
        markov_orders=whole_numbers(markov_orders, "--markov-orders"),
        num_replicates=replicates,
        seed=seed,
        on_note=lambda note: typer.echo(f"note: {note}", err=True),
        show=True,
    )
    print_variants(found)
    typer.echo(f"written: {out}")


def whole_numbers(text: str, option: str) -> list[int]:
    """Read numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} is {text!r}; give whole numbers with commas between them, such as 3,6,9") from None


def evaluate_run(run: str, overrides: list[str] | None) -> None:
    """Measure bits per base of a run on its test regions, or on others, write metrics.json and print a table."""
    import torch

    from genolm.config.files import write_text
    from genolm.config.recipes import PretrainRecipe
    from genolm.config.yaml import load_settings
    from genolm.data.collate import hide_all
    from genolm.genome.store import Store
    from genolm.inference.perplexity import measure_splits
    from genolm.models.build import load_model
    from genolm.models.precision import has_fast_bf16
    from genolm.pretraining.build import split_regions
    from genolm.reports.tables import print_metrics
    from genolm.tokenizers.build import load_tokenizer
    from genolm.tokenizers.encode import make_encoder

    run_dir = Path(run)
    checkpoint = run_dir / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        raise ValueError(f"{run} has no checkpoint/config.json; give the run folder of a finished `genolm pretrain`")
    recipe = load_settings(PretrainRecipe, run_dir / "recipe.yaml", [*(overrides or []), f"run_dir={run}"])
    trained = load_settings(PretrainRecipe, run_dir / "recipe.yaml")
    data, objective = recipe.data, recipe.objective
    store = Store.open(run_dir / "genome")
    regions = split_regions(data, store)
    # Whatever is asked for now, the model has seen what its own recipe says.
    regions["train"] = split_regions(trained.data, store)["train"]
    name = "test" if len(regions["test"]) else "valid"
    seen = regions[name].intersect(regions["train"]).num_bases
    if seen:
        typer.echo(f"warning: {seen:,} of these {regions[name].num_bases:,} bp were trained on", err=True)
    encoder = make_encoder(load_tokenizer(checkpoint))
    causal = objective.kind == "causal"
    model = load_model(checkpoint, objective.kind)
    device = torch.accelerator.current_accelerator()
    if device is not None:
        model.to(device)  # pyright: ignore[reportArgumentType]
    metrics = measure_splits(
        model,
        encoder,
        store,
        regions,
        window_bp=data.window_bp,
        window_tokens=json.loads((checkpoint / "genolm.json").read_text())["window_tokens"],
        masking=None if causal else hide_all(encoder, objective.mask_rate, objective.span_tokens),
        seed=recipe.seed,
        soft_masked_weight=data.eval_soft_masked_weight,
        annotation=recipe.evaluation.regions,
        max_bp=recipe.evaluation.max_bp,
        markov_orders=recipe.evaluation.markov_orders,
        markov_mixture=recipe.evaluation.markov_mixture,
        autocast=has_fast_bf16(),
        both_strands=recipe.model.get("reverse_complement") == "average",
        progress=True,
    )
    write_text(run_dir / "metrics.json", json.dumps(metrics, indent=1))
    print_metrics(metrics)
