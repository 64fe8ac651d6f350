"""`genolm scan`: regions of a genome to one value a base: how freely it may change according to a language model.

| exit code | meaning |
|---|---|
| 0 | written |
| 2 | a mistake to correct; nothing was written |
| 75 | interrupted: the same command resumes |
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genolm.variants.options import (
    BatchSize,
    Bf16,
    Fasta,
    Model,
    RemoteCode,
    Revision,
    Tokenizer,
    Window,
)

VALUES = ("entropy", "max_llr")


def scan(
    regions: Annotated[Path, typer.Argument(help="BED or GFF file; regions that overlap are merged.")],
    fasta: Fasta,
    model: Model,
    out: Annotated[Path, typer.Option(help="File to write: .bw or .bedgraph.")],
    value: Annotated[str, typer.Option(help="entropy of A, C, G, T, in nats; max_llr, of the three ALTs.")] = "entropy",
    window: Window = None,
    batch_size: BatchSize = 32,
    bf16: Bf16 = False,
    tokenizer: Tokenizer = None,
    revision: Revision = None,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Write one value per base of regions: entropy, low where the model is sure, or the greatest LLR of a change.

    Example: genolm scan exons.bed --fasta ref.fa.gz --model runs/first --out constraint.bw
    """
    from genolm.genome.regions import Regions
    from genolm.variants.alleles import Contigs
    from genolm.variants.job import refuse_existing, scoring_job
    from genolm.variants.saturation import locate_regions, pieces_of, score_pieces
    from genolm.variants.tracks import check_track, track_runs, write_track

    if value not in VALUES:
        raise ValueError(f"--value {value}: allowed are {', '.join(VALUES)}")
    check_track(out)
    folder = out.with_name(f"{out.name}.parts")
    refuse_existing(out, folder)
    opening: dict[str, Any] = {"window_bp": window, "tokenizer": tokenizer, "revision": revision}
    opening["trust_remote_code"] = trust_remote_code
    with scoring_job(folder, fasta, model, batch_size, bf16, **opening) as job:
        contigs = Contigs(job.store)
        merged = list(Regions.from_rows(locate_regions(job.store, contigs, path=regions)))
        # A hidden base gives its entropy directly; where no token is one base, the likelihoods of its four bases do.
        hidden = value == "entropy" and not job.language.causal and job.language.encoder.kind == "char"
        estimators = job.estimators(["entropy"] if hidden else None)
        job.begin({"regions": merged, "estimators": estimators})
        pieces = pieces_of(merged)
        num_bases = sum(piece.end - piece.start for piece in pieces)
        if job.state.is_main_process:
            print(f"regions    {len(merged):,} once merged, {num_bases:,} bp", file=sys.stderr)
            job.describe(estimators, contigs.used)
        rate = score_pieces(job, pieces, estimators, substitutions=1 if hidden else 3)
        if job.state.is_main_process:
            lengths = {contig.name: contig.length for contig in job.store.contigs}
            written = write_track(out, lengths, track_runs(job, pieces, estimators[0], value))
            job.shards.end()
            missing = f"   {num_bases - written:,} without a value: not A, C, G or T" if written < num_bases else ""
            print(f"{written:,} of {num_bases:,} bases: {out}   {rate:,.1f} bases/s in this start{missing}")
