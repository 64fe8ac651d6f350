"""`genolm mutate`: every change of every base of regions → a table, heat maps with sequence logos, and a page.

    regions ─ merged ─ pieces, each scored and kept ─ mutations.tsv, a PNG for each region, index.html

| exit code | meaning |
|---|---|
| 0 | written |
| 2 | a mistake to correct; nothing was written |
| 75 | interrupted: the same command goes on |
"""

import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.variants.columns import LLRS, MEANINGS, field


def mutate(
    fasta: Annotated[str, typer.Option(help="FASTA of the reference, or a folder of `genolm prepare`.")],
    model: Annotated[str, typer.Option(help="Run of `genolm pretrain`, a model folder, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    region: Annotated[list[str] | None, typer.Option(help="chr1:1001-1200, 1-based; several at once.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED or GFF file of regions.")] = None,
    deletions: Annotated[bool, typer.Option("--deletions", help="Also the deletion of each base.")] = False,
    estimator: Annotated[list[str] | None, typer.Option(help="As of `genolm score`; the first is drawn.")] = None,
    window: Annotated[int | None, typer.Option(help="Bases shown to the model. [default: those of training]")] = None,
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
    from datetime import timedelta

    import torch
    from accelerate import PartialState

    from genolm.models.language import open_language_model
    from genolm.training.run import locked
    from genolm.variants.alleles import Contigs
    from genolm.variants.likelihood import check_estimators
    from genolm.variants.parts import Parts
    from genolm.variants.reference import open_genome
    from genolm.variants.regions import merged, pieces_of, spans_of
    from genolm.variants.saturation import PIECE, score_pieces

    if not region and not regions:
        raise ValueError("no region was given; set --region chr1:1001-1200 or --regions x.bed")
    parts = Parts(out / "parts")
    if out.exists() and not (parts.folder / "job.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        if not out.is_dir() or {path.name for path in out.iterdir()} != {"parts"}:
            raise ValueError(f"--out {out} is there already; remove it, or name another folder")
    # A rank that is done waits for those that are not.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=30))
    with ExitStack() as held:
        if state.is_main_process:
            parts.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(parts.folder))
        with state.main_process_first():
            store = open_genome(fasta, parts.folder / "genome")
        contigs = Contigs(store)
        shown = spans_of(store, contigs, region or (), regions)
        wanted = merged(shown)
        bases = sum(span.end - span.start for span in wanted)
        if bases > max_bp:
            raise ValueError(
                f"{bases:,} bp in all regions, and a heat map has a column for each; give fewer, or --max-bp {bases}. "
                "One value a base of long regions is written by `genolm scan`"
            )
        language = open_language_model(
            model, tokenizer=tokenizer, window_bp=window, revision=revision, trust_remote_code=trust_remote_code
        )
        estimators = list(dict.fromkeys(estimator or ["likelihood" if language.causal else "masked_llr"]))
        check_estimators(estimators, language.encoder, language.causal)
        if estimators[0] not in LLRS:
            allowed = ", ".join(LLRS[1:2] if language.causal else LLRS)
            raise ValueError(f"--estimator {estimators[0]}: the first one is drawn, and must be of {allowed}")
        job = {
            "regions": shown,
            "genome": store.fingerprint,
            "model": language.sha256,
            "window_bp": language.window_bp,
            "estimators": estimators,
            "deletions": deletions,
            "bf16": bf16,
            "batch_size": batch_size,
        }
        with state.main_process_first():
            if parts.begin(job) and state.is_main_process:
                print(f"going on with {parts.folder}", file=sys.stderr)
        if state.is_main_process:
            for one, other in contigs.used.items():
                print(f"contig {one} of the regions is {other} of the FASTA", file=sys.stderr)
            what = "causal" if language.causal else "masked"
            print(f"regions    {len(shown):,}, {bases:,} bp", file=sys.stderr)
            print(f"model      {what}, {language.window_bp} bp around a base; {', '.join(estimators)}", file=sys.stderr)
        options: dict[str, Any] = {"window_bp": language.window_bp, "estimators": estimators, "autocast": bf16}
        options |= {"causal": language.causal, "batch_size": batch_size, "max_tokens": language.max_tokens}
        pieces = list(pieces_of(wanted, PIECE))
        language.model.to(state.device)  # pyright: ignore[reportArgumentType]
        began = time.perf_counter()
        try:
            score_pieces(
                parts,
                pieces,
                store,
                language.model,
                language.encoder,
                deletions=deletions,
                shared=(state.process_index, state.num_processes),
                show=state.is_main_process,
                **options,
            )
            state.wait_for_everyone()
        except KeyboardInterrupt:
            print(f"stopped: what is done is in {parts.folder}; the same command goes on", file=sys.stderr)
            raise SystemExit(75) from None
        if state.is_main_process:
            num_changes = write_table(out / "mutations.tsv", parts, pieces, store, estimators)
            draw(out, parts, pieces, store, shown, language, estimators, deletions)
            shutil.rmtree(parts.folder)
            rate = bases / max(time.perf_counter() - began, 1e-9)
            told = f"{num_changes:,} changes of {bases:,} bases: {out / 'index.html'}"
            print(f"{told}   {rate:,.1f} bases/s in this start")


def write_table(path: Path, parts, pieces, store, estimators: list[str]) -> int:
    """Write a line for each change, columns named as by `genolm score`; return how many.

    A deletion is written at its own base, ALT `-`, however far a repeat would let it move.
    """
    import numpy as np

    from genolm.genome.alphabet import text
    from genolm.variants.likelihood import columns_of

    columns = [x for name in columns_of(estimators) for x in ([name, f"{name}_strands"] if name in LLRS else [name])]
    number, aside = 0, path.with_name(f"{path.name}.partial")
    with aside.open("w") as file:
        file.write("\t".join(["chrom", "pos", "ref", "alt", *map(field, columns), "GENOLM_CUT"]) + "\n")
        for place, piece in enumerate(pieces):
            grids, ref = parts.load(place), text(store.fetch(*piece)).upper()
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
    from genolm.evaluation.mutation_figure import mutation_figure
    from genolm.evaluation.mutation_map import MutationMap, bits_of, limit_of
    from genolm.evaluation.mutation_page import mutation_page
    from genolm.genome.alphabet import BASE_INDEX, text
    from genolm.provenance import write_text
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
        maps.append(MutationMap(chrom, span.start + 1, text(letters).upper(), scores, heights))
    name = f"{'log-likelihood ratio' if drawn == 'likelihood' else estimator}, nats"
    limit, bits, taken = limit_of(maps), bits_of(maps), set()
    for number, one in enumerate(maps, 1):
        plain = "".join(x if x.isalnum() or x in "._-" else "_" for x in one.chrom)
        png = f"{plain}_{one.first}-{one.first + len(one.ref) - 1}.png"
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
        about["Deletions"] = f"drawn less their mean, {mean:+.2f}".replace("-", "−")
    write_text(out / "index.html", mutation_page(maps, name, about))
