"""`genolm scan`: regions of a genome → one value a base, how freely it may change in a language model's eyes.

    regions ─ merged ─ pieces, each scored and kept ─ a track, sorted by contig and base

A piece is scored by one process, so any number of processes give the same bytes, and one that is killed goes on.

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

VALUES = ("entropy", "max_llr")


def scan(
    regions: Annotated[Path, typer.Argument(help="BED or GFF file; regions that overlap are merged.")],
    fasta: Annotated[str, typer.Option(help="FASTA of the reference, or a folder of `genolm prepare`.")],
    model: Annotated[str, typer.Option(help="Run of `genolm pretrain`, a model folder, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="File to write: .bw, .bedgraph or .wig.")],
    value: Annotated[str, typer.Option(help="entropy of A, C, G, T, in nats; max_llr, of the three ALTs.")] = "entropy",
    window: Annotated[int | None, typer.Option(help="Bases shown to the model, else as many as in training.")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of tokens in a forward pass.", min=1)] = 32,
    bf16: Annotated[bool, typer.Option("--bf16", help="Faster on GPUs; values differ in the third digit.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer instead of the model's own.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a model on the Hub.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's code.")] = False,
) -> None:
    """Write one value per base of regions: entropy, low where the model is sure, or the greatest LLR of a change.

    Example: genolm scan exons.bed --fasta ref.fa.gz --model runs/first --out constraint.bw
    """
    from genolm.variants.contigs import Contigs
    from genolm.variants.job import zero_shot
    from genolm.variants.regions import merged, pieces_of, spans_of
    from genolm.variants.result_shards import clear
    from genolm.variants.saturation import PIECE
    from genolm.variants.tracks import check_track

    if value not in VALUES:
        raise ValueError(f"--value {value}: allowed are {', '.join(VALUES)}")
    check_track(out)
    folder = out.with_name(f"{out.name}.parts")
    clear(folder)
    if out.exists() and not (folder / "job.json").is_file():
        raise ValueError(f"--out {out} is there already; remove it, or name another file")
    opening = {"tokenizer": tokenizer, "revision": revision, "trust_remote_code": trust_remote_code}
    opening |= {"window_bp": window, "bf16": bf16, "batch_size": batch_size}
    with zero_shot(folder, fasta, model, **opening) as begun:
        state, parts, store, language = begun.state, begun.parts, begun.store, begun.language
        contigs = Contigs(store)
        wanted = merged(spans_of(store, contigs, path=regions))
        # One hidden base tells its entropy; where no token is one base, the likelihoods of its four letters do.
        hidden = value == "entropy" and not language.causal and language.encoder.kind == "char"
        estimators = begun.estimators(["entropy"] if hidden else None)
        begun.take({"regions": wanted, "estimators": estimators})
        if state.is_main_process:
            bases = sum(span.end - span.start for span in wanted)
            print(f"regions    {len(wanted):,} once merged, {bases:,} bp", file=sys.stderr)
            begun.describe(estimators, contigs.used)
        pieces = list(pieces_of(wanted, PIECE))
        began, left = time.perf_counter(), parts.left([piece.end - piece.start for piece in pieces])
        begun.score_pieces(pieces, estimators, substitutions=1 if hidden else 3)
        if state.is_main_process:
            finish(out, parts, pieces, store, estimators[0], value, left / max(time.perf_counter() - began, 1e-9))


def finish(out: Path, parts, pieces, store, estimator: str, value: str, rate: float) -> None:
    """Write the track, and remove what is not needed any more."""
    import numpy as np

    from genolm.genome.alphabet import BASE_INDEX
    from genolm.variants.saturation import entropy, log_probabilities
    from genolm.variants.tracks import runs_of, write_track

    names = [contig.name for contig in store.contigs]

    def runs():
        for number in sorted(range(len(pieces)), key=lambda i: (names[pieces[i].contig].encode(), pieces[i].start)):
            piece, grid = pieces[number], parts.load(number)[estimator][:, :4]
            if value == "max_llr":
                known = np.isfinite(grid).any(1)
                found = np.where(known, np.where(np.isfinite(grid), grid, -np.inf).max(1), np.nan)
            elif estimator == "entropy":
                found = np.where(np.isfinite(grid).any(1), np.nansum(grid, axis=1), np.nan)
            else:
                found = entropy(log_probabilities(grid, BASE_INDEX[store.fetch(*piece)]))
            yield from runs_of(names[piece.contig], piece.start, found)

    lengths = {contig.name: contig.length for contig in store.contigs}
    number = write_track(out, lengths, runs())
    bases = sum(piece.end - piece.start for piece in pieces)
    parts.end()
    unknown = f"   {bases - number:,} without a value: no A, C, G or T" if number < bases else ""
    print(f"{number:,} of {bases:,} bases: {out}   {rate:,.1f} bases/s in this start{unknown}")
