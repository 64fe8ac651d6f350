"""`genolm scan`: regions of a genome → one value a base, how freely it may change in a language model's eyes.

    regions ─ merged ─ pieces, each scored and kept ─ a track, sorted by contig and base

A piece is scored by one process, so any number of processes give the same bytes, and one that is killed goes on.

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

VALUES = ("entropy", "max_llr")


def scan(
    regions: Annotated[Path, typer.Argument(help="BED or GFF file; regions that overlap are merged.")],
    fasta: Annotated[str, typer.Option(help="FASTA of the reference, or a folder of `genolm prepare`.")],
    model: Annotated[str, typer.Option(help="Run of `genolm pretrain`, a model folder, or a name on the Hub.")],
    out: Annotated[Path, typer.Option(help="File to write: .bw, .bedgraph or .wig.")],
    value: Annotated[str, typer.Option(help="entropy of A, C, G, T, in nats; max_llr, of the three ALTs.")] = "entropy",
    window: Annotated[int | None, typer.Option(help="Bases shown to the model. [default: those of training]")] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of tokens in a forward pass.", min=1)] = 32,
    bf16: Annotated[bool, typer.Option("--bf16", help="Faster on GPUs; values differ in the third digit.")] = False,
    tokenizer: Annotated[str | None, typer.Option(help="Tokenizer instead of the model's own.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a model on the Hub.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the model's code.")] = False,
) -> None:
    """Write one value per base of regions: entropy, low where the model is sure, or the greatest LLR of a change.

    Example: genolm scan exons.bed --fasta ref.fa.gz --model runs/first --out constraint.bw
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
    from genolm.variants.tracks import check_track

    if value not in VALUES:
        raise ValueError(f"--value {value}: allowed are {', '.join(VALUES)}")
    check_track(out)
    parts = Parts(out.with_name(f"{out.name}.parts"))
    if out.exists() and not (parts.folder / "job.json").is_file():
        raise ValueError(f"--out {out} is there already; remove it, or name another file")
    # A rank that is done waits for those that are not.
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=30))
    with ExitStack() as held:
        if state.is_main_process:
            parts.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(parts.folder))
        with state.main_process_first():
            store = open_genome(fasta, parts.folder / "genome")
        contigs = Contigs(store)
        wanted = merged(spans_of(store, contigs, path=regions))
        language = open_language_model(
            model, tokenizer=tokenizer, window_bp=window, revision=revision, trust_remote_code=trust_remote_code
        )
        # One hidden base tells its entropy; where no token is one base, the likelihoods of its four letters do.
        hidden = value == "entropy" and not language.causal and language.encoder.kind == "char"
        estimator = "entropy" if hidden else "likelihood" if language.causal else "masked_llr"
        check_estimators([estimator], language.encoder, language.causal)
        job = {
            "regions": wanted,
            "genome": store.fingerprint,
            "model": language.sha256,
            "window_bp": language.window_bp,
            "estimator": estimator,
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
            bases = sum(span.end - span.start for span in wanted)
            print(f"regions    {len(wanted):,} once merged, {bases:,} bp", file=sys.stderr)
            print(f"model      {what}, {language.window_bp} bp around a base; {estimator}", file=sys.stderr)
        options: dict[str, Any] = {"window_bp": language.window_bp, "estimators": [estimator], "autocast": bf16}
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
                substitutions=1 if hidden else 3,
                shared=(state.process_index, state.num_processes),
                show=state.is_main_process,
                **options,
            )
            state.wait_for_everyone()
        except KeyboardInterrupt:
            print(f"stopped: what is done is in {parts.folder}; the same command goes on", file=sys.stderr)
            raise SystemExit(75) from None
        if state.is_main_process:
            finish(out, parts, pieces, store, estimator, value, time.perf_counter() - began)


def finish(out: Path, parts, pieces, store, estimator: str, value: str, seconds: float) -> None:
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
    shutil.rmtree(parts.folder)
    unknown = f"   {bases - number:,} without a value: no A, C, G or T" if number < bases else ""
    print(f"{number:,} of {bases:,} bases: {out}   {bases / max(seconds, 1e-9):,.1f} bases/s in this start{unknown}")
