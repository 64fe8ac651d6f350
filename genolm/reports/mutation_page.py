"""Saturation mutagenesis as an HTML page: a heat map of changes and a sequence logo for each region."""

from collections.abc import Mapping, Sequence

import numpy as np

from genolm.reports.mutation_figure import cell_tips, draw_mutations
from genolm.reports.mutation_map import MutationMap, bits_of, limit_of
from genolm.reports.page import render
from genolm.reports.svg import figure_svg


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
