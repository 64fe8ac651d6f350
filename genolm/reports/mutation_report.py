"""Scores of every change of regions to a table, figures and a page of heat maps and sequence logos."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import genolm
from genolm.config.files import atomic_path, write_text
from genolm.genome.alphabet import BASE_INDEX, to_text
from genolm.reports.mutation_figure import MutationMap, bits_of, cell_tips, draw_mutations, limit_of
from genolm.reports.page import render
from genolm.reports.svg import figure_svg, save_png
from genolm.variants.job import ScoringJob
from genolm.variants.likelihood import LLRS, MEANINGS, columns_of_estimators, field_name
from genolm.variants.saturation import DELETION, Span, information, log_probabilities


def write_mutation_table(path: Path, job: ScoringJob, pieces: Sequence[Span], estimators: list[str]) -> int:
    """Write a line for each change, columns named as by `genolm score`; return the number of changes.

    A deletion is written at its own base, ALT `-`, however far a repeat would let it move.
    """
    columns = []
    for name in columns_of_estimators(estimators):
        columns += [name, f"{name}_strands"] if name in LLRS else [name]
    num_changes = 0
    with atomic_path(path) as aside, aside.open("w") as file:
        file.write("\t".join(["chrom", "pos", "ref", "alt", *map(field_name, columns), "GENOLM_CUT"]) + "\n")
        for number, piece in enumerate(pieces):
            grids, ref = job.shards.load(number), to_text(job.store.fetch(*piece)).upper()
            scored, chrom = np.isfinite(grids["cut"]), job.store.contigs[piece.contig].name
            for base, row in np.argwhere(scored).tolist():
                values = [grids[column][base, row] for column in columns]
                words = ["." if np.isnan(value) else f"{value:.6g}" for value in values]
                cut = "1" if grids["cut"][base, row] else "."
                pos = str(piece.start + base + 1)
                file.write("\t".join([chrom, pos, ref[base], "ACGT-"[row], *words, cut]) + "\n")
            num_changes += int(scored.sum())
    return num_changes


def drawn_grids(job: ScoringJob, pieces: Sequence[Span], estimator: str) -> tuple[list[np.ndarray], float]:
    """Return the grid of each piece as it is drawn, deletions minus their mean, and that mean.

    A deletion leaves a token less to be paid for, which would paint all of its row in one colour.
    """
    grids = [job.shards.load(number)[estimator] for number in range(len(pieces))]
    finite = np.concatenate([grid[np.isfinite(grid[:, DELETION]), DELETION] for grid in grids])
    mean = float(finite.mean()) if len(finite) else 0.0
    for grid in grids:
        grid[:, DELETION] -= mean
    return grids, mean


def write_mutation_page(
    out: Path, job: ScoringJob, pieces: Sequence[Span], regions: Sequence[Span], estimators: list[str], deletions: bool
) -> None:
    """Write a figure for each region, and the page `index.html`, of the first estimator."""
    drawn, estimator = estimators[0], estimators[0].replace("_", " ").replace("llr", "LLR")
    grids, mean = drawn_grids(job, pieces, drawn)
    maps = [mutation_map(job, region, pieces, grids, deletions) for region in regions]
    name = f"{'log-likelihood ratio' if drawn == 'likelihood' else estimator}, nats"
    limit, bits, taken = limit_of(maps), bits_of(maps), set()
    for number, one in enumerate(maps, 1):
        plain = "".join(x if x.isalnum() or x in "._-" else "_" for x in one.chrom)
        png = f"{plain}_{one.start + 1}-{one.start + len(one.ref)}.png"
        png = f"{number}-{png}" if png in taken else png
        taken.add(png)
        save_png(draw_mutations(one, limit, bits, f"{name}: {job.language.name}"), out / png)
    kind = "causal: it reads from left to right" if job.language.causal else "masked: it fills in hidden bases"
    facts = {
        "Model": f"{job.language.name}, {kind}",
        "Weights": f"sha256 {job.language.sha256[:16]}…",
        "Window": f"{job.language.window_bp} bp around each base",
        "Estimator": f"{drawn}: {MEANINGS[drawn]}; positive favours the change",
        "Made by": f"genolm {genolm.__version__}",
    }
    if deletions:
        facts["Deletions"] = f"drawn minus their mean, {mean:+.2f}".replace("-", "−")
    write_text(out / "index.html", mutation_page(maps, name, facts))


def mutation_map(
    job: ScoringJob, region: Span, pieces: Sequence[Span], grids: list[np.ndarray], deletions: bool
) -> MutationMap:
    """Put the grids of the pieces that overlap a region together."""
    values = np.full((region.end - region.start, 5), np.nan)
    for piece, grid in zip(pieces, grids, strict=True):
        first, last = max(piece.start, region.start), min(piece.end, region.end)
        if piece.contig == region.contig and first < last:
            values[first - region.start : last - region.start] = grid[first - piece.start : last - piece.start]
    sequence = job.store.fetch(*region)
    heights = information(log_probabilities(values, BASE_INDEX[sequence]))
    scores, chrom = values[:, : 5 if deletions else 4], job.store.contigs[region.contig].name
    return MutationMap(chrom, region.start, to_text(sequence).upper(), scores, heights)


def mutation_page(maps: Sequence[MutationMap], name: str, metadata: Mapping[str, str]) -> str:
    """Return the page as HTML.

    Args:
        maps: one for each region.
        name: of the score, such as `masked LLR, nats`.
        metadata: model, window, estimator and other facts to list.
    """
    limit, bits = limit_of(maps), bits_of(maps)
    values = np.concatenate([region.scores[:, :4].ravel() for region in maps])
    values = values[np.isfinite(values)]
    headline = f"{len(values):,} substitutions"
    if len(values):
        headline += f", {100 * float((values < 0).mean()):.0f} % of them less likely than the reference"
    num_bases = sum(len(region.ref) for region in maps)
    title = maps[0].title if len(maps) == 1 else f"{len(maps)} regions"
    return render(
        "mutation.html.j2",
        title=title,
        over=f"saturation mutagenesis by a DNA language model · {title} · {num_bases:,} bp",
        headline=headline,
        name=name,
        metadata=metadata,
        limit=f"{limit:.2g}",
        bits=f"{bits:g}",
        deletions=maps[0].scores.shape[1] == 5,
        regions=[_region(region, limit, bits) for region in maps],
    )


def _region(region: MutationMap, limit: float, bits: float) -> dict[str, object]:
    figure = draw_mutations(region, limit, bits)
    label = f"scores of every change of {region.title}, with a sequence logo"
    low, high = region.extremes(5)
    return {
        "title": region.title,
        "low": ", ".join(low),
        "high": ", ".join(high),
        "width": round(figure.get_size_inches()[0] * 72),
        "svg": figure_svg(figure, label, cell_tips(region)),
    }
