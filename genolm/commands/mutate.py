"""`genolm mutate`: every change of every base of regions → a table, heat maps with sequence logos, and a page.

    regions ─ merged ─ pieces, each scored and kept ─ mutations.tsv, a PNG for each region, index.html

| exit code | meaning |
|---|---|
| 0 | written |
| 2 | a mistake to correct; nothing was written |
| 75 | interrupted: the same command goes on |
"""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from genolm.variants.score_columns import LLRS, MEANINGS, field


def mutate(
    fasta: Annotated[str, typer.Option(help="FASTA of the reference, or a folder of `genolm prepare`.")],
    model: Annotated[str, typer.Option(help="Run of `genolm pretrain`, a model folder, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    region: Annotated[list[str] | None, typer.Option(help="chr1:1001-1200, 1-based; several at once.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED or GFF file of regions.")] = None,
    deletions: Annotated[bool, typer.Option("--deletions", help="Also the deletion of each base.")] = False,
    estimator: Annotated[list[str] | None, typer.Option(help="As of `genolm score`; the first is drawn.")] = None,
    window: Annotated[int | None, typer.Option(help="Bases shown to the model, else as many as in training.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of tokens in a forward pass.", min=1)] = 32,
    max_bp: Annotated[int, typer.Option(help="Most bases of all regions: each is a column to look at.")] = 5000,
    bf16: Annotated[bool, typer.Option("--bf16", help="Faster on GPUs; scores differ in the third digit.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer instead of the model's own.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a model on the Hub.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's code.")] = False,
) -> None:
    """Score every change of every base of regions, and draw heat maps with sequence logos; positive favours ALT.

    Example: genolm mutate --fasta ref.fa.gz --region chr1:1001-1200 --model runs/first --out promoter
    """
    from genolm.variants.contigs import Contigs
    from genolm.variants.job import zero_shot
    from genolm.variants.regions import merged, pieces_of, spans_of
    from genolm.variants.result_shards import clear
    from genolm.variants.saturation import PIECE

    if not region and not regions:
        raise ValueError("no region was given; set --region chr1:1001-1200 or --regions x.bed")
    folder = out / "parts"
    clear(folder)
    if out.exists() and not (folder / "job.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        if not out.is_dir() or {path.name for path in out.iterdir()} != {"parts"}:
            raise ValueError(f"--out {out} is there already; remove it, or name another folder")
    opening = {"tokenizer": tokenizer, "revision": revision, "trust_remote_code": trust_remote_code}
    opening |= {"window_bp": window, "bf16": bf16, "batch_size": batch_size}
    with zero_shot(folder, fasta, model, **opening) as begun:
        state, parts, store, language = begun.state, begun.parts, begun.store, begun.language
        contigs = Contigs(store)
        shown = spans_of(store, contigs, region or (), regions)
        wanted = merged(shown)
        bases = sum(span.end - span.start for span in wanted)
        if bases > max_bp:
            raise ValueError(
                f"{bases:,} bp in all regions, and a heat map has a column for each; give fewer, or --max-bp {bases}. "
                "One value a base of long regions is written by `genolm scan`"
            )
        estimators = begun.estimators(estimator)
        if estimators[0] not in LLRS:
            allowed = ", ".join(LLRS[1:2] if language.causal else LLRS)
            raise ValueError(f"--estimator {estimators[0]}: the first one is drawn, and must be of {allowed}")
        begun.take({"regions": shown, "estimators": estimators, "deletions": deletions})
        if state.is_main_process:
            print(f"regions    {len(shown):,}, {bases:,} bp", file=sys.stderr)
            begun.describe(estimators, contigs.used)
        pieces = list(pieces_of(wanted, PIECE))
        began, left = time.perf_counter(), parts.left([piece.end - piece.start for piece in pieces])
        begun.score_pieces(pieces, estimators, deletions=deletions)
        if state.is_main_process:
            num_changes = write_table(out / "mutations.tsv", parts, pieces, store, estimators)
            draw(out, parts, pieces, store, shown, language, estimators, deletions)
            parts.end()
            rate = left / max(time.perf_counter() - began, 1e-9)
            told = f"{num_changes:,} changes of {bases:,} bases: {out / 'index.html'}"
            print(f"{told}   {rate:,.1f} bases/s in this start")


def write_table(path: Path, parts, pieces, store, estimators: list[str]) -> int:
    """Write a line for each change, columns named as by `genolm score`; return how many.

    A deletion is written at its own base, ALT `-`, however far a repeat would let it move.
    """
    import numpy as np

    from genolm.genome.alphabet import to_text
    from genolm.variants.likelihood import columns_of

    columns = [x for name in columns_of(estimators) for x in ([name, f"{name}_strands"] if name in LLRS else [name])]
    number, aside = 0, path.with_name(f"{path.name}.partial")
    with aside.open("w") as file:
        file.write("\t".join(["chrom", "pos", "ref", "alt", *map(field, columns), "GENOLM_CUT"]) + "\n")
        for place, piece in enumerate(pieces):
            grids, ref = parts.load(place), to_text(store.fetch(*piece)).upper()
            scored, chrom = np.isfinite(grids["cut"]), store.contigs[piece.contig].name
            for base, row in np.argwhere(scored).tolist():
                values = [grids[column][base, row] for column in columns]
                told = ["." if np.isnan(value) else f"{value:.6g}" for value in values]
                cut = "1" if grids["cut"][base, row] else "."
                file.write("\t".join([chrom, str(piece.start + base + 1), ref[base], "ACGT-"[row], *told, cut]) + "\n")
            number += int(scored.sum())
    aside.replace(path)
    return number


def draw(out: Path, parts, pieces, store, shown, language, estimators: list[str], deletions: bool) -> None:
    """Write a figure for each region, and the page."""
    import numpy as np

    import genolm
    from genolm.config.files import write_text
    from genolm.genome.alphabet import BASE_INDEX, to_text
    from genolm.reports.mutation_figure import mutation_figure
    from genolm.reports.mutation_map import MutationMap, bits_of, limit_of
    from genolm.reports.mutation_page import mutation_page
    from genolm.variants.saturation import DELETION, information, log_probabilities

    drawn, estimator = estimators[0], estimators[0].replace("_", " ").replace("llr", "LLR")
    grids = [parts.load(place)[drawn] for place in range(len(pieces))]
    # A deletion leaves a token less to be paid for, which would paint all of its row in one colour.
    known = np.concatenate([grid[np.isfinite(grid[:, DELETION]), DELETION] for grid in grids])
    mean = float(known.mean()) if len(known) else 0.0
    for grid in grids:
        grid[:, DELETION] -= mean
    maps = []
    for span in shown:
        values = np.full((span.end - span.start, 5), np.nan)
        for piece, grid in zip(pieces, grids, strict=True):
            first, last = max(piece.start, span.start), min(piece.end, span.end)
            if piece.contig == span.contig and first < last:
                values[first - span.start : last - span.start] = grid[first - piece.start : last - piece.start]
        letters = store.fetch(*span)
        heights = information(log_probabilities(values, BASE_INDEX[letters]))
        scores, chrom = values[:, : 5 if deletions else 4], store.contigs[span.contig].name
        maps.append(MutationMap(chrom, span.start, to_text(letters).upper(), scores, heights))
    name = f"{'log-likelihood ratio' if drawn == 'likelihood' else estimator}, nats"
    limit, bits, taken = limit_of(maps), bits_of(maps), set()
    for number, one in enumerate(maps, 1):
        plain = "".join(x if x.isalnum() or x in "._-" else "_" for x in one.chrom)
        png = f"{plain}_{one.start + 1}-{one.start + len(one.ref)}.png"
        png = f"{number}-{png}" if png in taken else png
        taken.add(png)
        mutation_figure(one, f"{name}: {language.name}", out / png, limit, bits)
    kind = "causal: it reads from left to right" if language.causal else "masked: it fills in hidden bases"
    about = {
        "Model": f"{language.name}, {kind}",
        "Weights": f"sha256 {language.sha256[:16]}…",
        "Window": f"{language.window_bp} bp around each base",
        "Estimator": f"{drawn}: {MEANINGS[drawn]}; positive favours the change",
        "Made by": f"genolm {genolm.__version__}",
    }
    if deletions:
        about["Deletions"] = f"drawn minus their mean, {mean:+.2f}".replace("-", "−")
    write_text(out / "index.html", mutation_page(maps, name, about))
