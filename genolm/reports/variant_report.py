"""Evaluation of labelled variants as files: metrics.json, and curves.png or scatter.png."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genolm.config.files import refuse_other
from genolm.config.provenance import versions
from genolm.genome.alleles import canonical
from genolm.metrics import weighted_metrics as weighted
from genolm.metrics.bootstrap import CONFIDENCE
from genolm.metrics.curves import GRID, precision_recall, roc
from genolm.metrics.format import TITLES, number, span
from genolm.metrics.runs import write_metrics
from genolm.metrics.variant_baselines import fit_markov, from_reference, track_values, transversions
from genolm.metrics.variant_metrics import Candidate, compare_scores
from genolm.metrics.variant_table import Variants, read_variants, refuse_constant_labels
from genolm.reports.figures import new_panels
from genolm.reports.svg import QUIET, TONES, save_png

WRITTEN = ("metrics.json", "curves.png", "scatter.png")
_SIZE_OF_CHANGE = re.compile(r"distance|influence|(?<![a-z])l2(?![a-z0-9])", re.IGNORECASE)


def write_variant_evaluation(
    path: str,
    label: str,
    out: Path,
    *,
    reading: Mapping[str, Any],
    scores: Sequence[str] | None,
    higher_is: str,
    fasta: str | None,
    aliases: Mapping[str, str] | None,
    tracks: Sequence[str],
    train_fasta: Sequence[str],
    markov_orders: Sequence[int],
    num_replicates: int,
    seed: int,
    on_note: Callable[[str], object],
) -> dict[str, Any]:
    """Measure how well scores and baselines separate labelled variants, on the same rows, and write the result.

    Args:
        path: table of variants, one row for each ALT.
        label: its column of labels.
        out: folder for metrics.json and a figure; created if it does not exist.
        reading: other, positive, negative and group of `variant_table.read_variants`.
        scores: columns; `+name` if a greater value means label 1, `-name` if label 0. Without a sign, a name with
            distance, l2 or influence in it is a size of change, opposite to `higher_is`; any other a log-likelihood
            ratio. None: all genolm_ scores.
        higher_is: label that a higher log-likelihood ratio means. negative: label 1, or a greater number, is
            deleterious.
        fasta: the reference, for the Markov and GC baselines.
        aliases: contig name in the table → in the reference, where these differ.
        tracks: conservation tracks, where a greater value is more conserved.
        train_fasta: sequences that Markov models are fitted on; none: the reference.
        markov_orders: their orders.
        num_replicates: bootstrap replicates.
        seed: seed of the bootstrap.
        on_note: called with each note for the user.

    Returns:
        Contents of metrics.json.

    Raises:
        ValueError: an input cannot be read or evaluated, in one sentence.
    """
    _check_options(higher_is, fasta, aliases, tracks, train_fasta, num_replicates)
    refuse_other(out, WRITTEN, "variant evaluation")
    columns, signs = _signed_columns(scores)
    table = read_variants(path, label, scores=columns, **reading)
    for note in table.notes:
        on_note(note)
    if not table.scores:
        on_note("no column of scores is named or begins with genolm_: baselines only")
    values, reasons = _baseline_values(table, fasta, aliases, tracks, train_fasta, markov_orders, on_note)
    variants = table.keep(reasons)
    baselines = {name: column[reasons == ""] for name, column in values.items()}
    refuse_constant_labels(variants, f"{path}: {label!r}")
    indels = sum(len(ref) != len(alt) for ref, alt in zip(variants.ref, variants.alt, strict=True))
    if variants.scores and 0 < indels < len(variants):
        on_note(
            f"{indels:,} of {len(variants):,} rows are insertions or deletions, whose log-likelihood ratios are on "
            "another scale than those of substitutions; evaluate them separately, by …_Z"
        )
    candidates = _candidates(variants, signs, baselines, higher_is)
    bootstrap = {"num_replicates": num_replicates, "seed": seed, "show": True}
    chromosomes = np.array([canonical(name) for name in variants.chrom], dtype=object)
    scored = compare_scores(variants.kind, variants.labels, chromosomes, candidates, variants.groups, **bootstrap)
    evaluation = {
        "made_by": "genolm evaluate-variants",
        "versions": versions(),
        "inputs": {"variants": path, "with": reading["other"], "fasta": fasta}
        | {"train_fasta": train_fasta, "tracks": tracks},
        "label": {"column": label, "kind": variants.kind} | {key: reading[key] for key in ("positive", "negative")},
        "higher_is": higher_is,
        "bootstrap": {
            "of": "rows" if reading["group"] is None else f"groups of {reading['group']}",
            "units": len(variants) if variants.groups is None else int(variants.groups.max()) + 1,
            "replicates": num_replicates,
            "seed": seed,
            "confidence": CONFIDENCE,
        },
        "rows": _row_counts(variants, chromosomes),
        "scores": scored,
    }
    evaluation["finding"] = variant_finding(evaluation)
    _write(out, evaluation, variants.labels, candidates)
    return evaluation


def _write(out: Path, evaluation: dict[str, Any], labels: np.ndarray, candidates: Sequence[Candidate]) -> None:
    """Write the figure and metrics.json, in place of those of an earlier evaluation."""
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (out / name).unlink(missing_ok=True)
    label, rows = evaluation["label"], evaluation["scores"]
    if label["kind"] == "binary":
        variant_curves(labels, candidates, rows, out / "curves.png")
    else:
        variant_scatter(labels, candidates, rows, out / "scatter.png", label["column"])
    write_metrics(out / "metrics.json", evaluation)


def variant_finding(evaluation: dict[str, Any]) -> str:
    """Compare the best score with the best baseline in a sentence."""
    key = "auroc" if evaluation["label"]["kind"] == "binary" else "spearman"
    defined = [row for row in evaluation["scores"] if not np.isnan(row["metrics"][key]["value"])]
    if not defined:
        return f"No score has a {TITLES[key]}: all are constant."
    best = max(defined, key=lambda row: (not row["baseline"], row["metrics"][key]["value"]))
    value, difference = best["metrics"][key], best["difference"].get(key)
    sentence = f"{best['name']}: {TITLES[key]} {number(value['value'])} ({span(value)})"
    if best["baseline"]:
        return f"{sentence}, the best baseline."
    if difference is None:
        return f"{sentence}."
    low, high = difference["low"], difference["high"]
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "indistinguishable from"
    gap = f"{number(difference['value'], signed=True)} ({span(difference, signed=True)})"
    return f"{sentence}, {verdict} the best baseline, {difference['against']}: {gap}."


def _check_options(higher_is, fasta, aliases, tracks, train_fasta, num_replicates) -> None:
    if higher_is not in ("negative", "positive"):
        raise ValueError(f"--higher-is is {higher_is!r}; allowed: negative, positive")
    for option, value in (("--train-fasta", train_fasta), ("--aliases", aliases)):
        if value and not fasta:
            raise ValueError(f"{option} needs --fasta, the reference that windows are cut from")
    if num_replicates < 1:
        raise ValueError(f"--replicates is {num_replicates}; give at least 1")
    for name, count in Counter(Path(track).stem for track in tracks).items():
        if count > 1:
            raise ValueError(f"{count} tracks are named {name!r} by their files; give each file its own name")


def _signed_columns(scores: Sequence[str] | None) -> tuple[list[str] | None, dict[str, int]]:
    """Return the requested columns, and the sign of those that have one."""
    if scores is None:
        return None, {}
    if not all(name.lstrip("+-") for name in scores):
        raise ValueError("--scores has an empty name; give columns with commas between them")
    signs = {name[1:]: 1 if name[0] == "+" else -1 for name in scores if name[0] in "+-"}
    return [name[1:] if name[0] in "+-" else name for name in scores], signs


def _baseline_values(
    variants: Variants,
    fasta: str | Path | None,
    aliases: Mapping[str, str] | None,
    tracks: Sequence[str | Path],
    train_fasta: Sequence[str | Path],
    markov_orders: Sequence[int],
    on_note: Callable[[str], object],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return baseline → values (n,), and why each row lacks one (n,), "" where it has all."""
    values = {"transversion": transversions(variants.ref, variants.alt)}
    reasons = np.full(len(variants), "", dtype=object)
    if fasta is not None:
        ladder = fit_markov(train_fasta or [fasta], markov_orders) if markov_orders else None
        if ladder and not train_fasta:
            on_note("the Markov models were trained on --fasta itself and have seen every REF; see --train-fasta")
        reference_values, reasons = from_reference(variants, fasta, ladder, aliases)
        values |= reference_values
    lengths = np.array([len(ref) for ref in variants.ref], dtype=np.int64)
    for track in tracks:
        name = Path(track).stem
        if name in values:
            raise ValueError(f"{track}: a track cannot be named {name!r}, which a baseline is; rename the file")
        values[name] = track_values(track, variants.chrom, variants.start, lengths)
        if np.isnan(values[name]).all():
            raise ValueError(f"{track}: has no value at any of {len(variants):,} variants; another assembly?")
    for name, column in values.items():
        reasons = np.where((reasons == "") & np.isnan(column), f"no {name}", reasons)
    return values, reasons


def _candidates(
    variants: Variants, signs: dict[str, int], baselines: dict[str, np.ndarray], higher_is: str
) -> list[Candidate]:
    """Orient every score and baseline so that a greater value means label 1."""
    ratio = 1 if higher_is == "positive" else -1
    candidates = []
    for name, values in variants.scores.items():
        sign = signs.get(name, -ratio if _SIZE_OF_CHANGE.search(name) else ratio)
        candidates.append(Candidate(name, sign * values, _direction(sign)))
        if name not in signs and values.min() < 0 < values.max():
            # A change in either direction may be the effect: its size means the opposite of a higher ratio.
            candidates.append(Candidate(f"|{name}|", -ratio * np.abs(values), _direction(-ratio)))
    for name, values in baselines.items():
        shown = f"{name} (baseline)" if name in variants.scores else name
        sign = ratio if name.startswith("markov-") else -ratio
        note = ""
        if name == "gc":
            orders = weighted.tied_order(variants.labels), weighted.tied_order(values)
            # A baseline gets the direction that agrees better with the labels of these rows.
            sign = -1 if weighted.spearman(np.ones((1, len(values))), *orders)[0] < 0 else 1
            note = ", chosen on these rows"
        candidates.append(Candidate(shown, sign * values, _direction(sign) + note, baseline=True))
    return candidates


def _direction(sign: int) -> str:
    return "greater speaks for the positive" if sign > 0 else "greater speaks for the negative"


def _row_counts(variants: Variants, chromosomes: np.ndarray) -> dict[str, Any]:
    """Count rows read, used and left out; with two classes also each class, and list chromosomes with only one."""
    counts: dict[str, Any] = {"read": variants.num_read, "used": len(variants), "left_out": variants.left_out}
    counts["chromosomes"] = len(set(chromosomes))
    if variants.kind == "binary":
        counts |= {"positive": int(variants.labels.sum()), "negative": int((1 - variants.labels).sum())}
        names = dict.fromkeys(chromosomes)
        one = [name for name in names if len(set(variants.labels[chromosomes == name])) == 1]
        counts["chromosomes_of_one_class"] = one
    return counts


_COLOURS = (*TONES, "#000000", "#999999")
_MAX_PANELS = 6
_MAX_POINTS = 5000


def variant_curves(
    labels: np.ndarray, candidates: Sequence[Candidate], rows: Sequence[dict[str, Any]], out_png: str | Path
) -> None:
    """Draw the ROC and the precision–recall curve of every score.

    Args:
        labels: shape (n,), 0 and 1.
        candidates: the scores, oriented.
        rows: of `variant_metrics.compare_scores`, in the same order.
        out_png: file to write.
    """
    figure, (left, right) = new_panels(1, 2, 5.5, 5.0)
    positive = labels == 1
    prevalence = positive.mean()
    for one, row, style in zip(candidates, rows, _line_styles(candidates), strict=True):
        pair, metrics = [(positive, one.values)], row["metrics"]
        left.plot(GRID, roc(pair), label=f"{one.name}  {metrics['auroc']['value']:.3f}", **style)
        right.plot(GRID, precision_recall(pair), label=f"{one.name}  {metrics['auprc']['value']:.3f}", **style)
    left.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
    right.axhline(prevalence, color="#bbbbbb", linewidth=1, linestyle=":", label=f"positives  {prevalence:.3f}")
    left.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", xlim=(0, 1), ylim=(0, 1))
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall", xlim=(0, 1), ylim=(0, 1))
    # Fixed places: finding the best one is slow with many rows. Precision ends at the fraction of positives, so the
    # curves lie low where these are few.
    empty = "upper right" if prevalence < 0.5 else "lower left"
    for axes, title, place in ((left, "AUROC", "lower right"), (right, "AUPRC", empty)):
        style: dict[str, Any] = {"frameon": False, "fontsize": 7.5, "alignment": "left", "loc": place}
        legend = axes.legend(title=title, **style)
        legend.get_title().set_fontsize(8.5)
    save_png(figure, out_png)


def variant_scatter(
    labels: np.ndarray,
    candidates: Sequence[Candidate],
    rows: Sequence[dict[str, Any]],
    out_png: str | Path,
    name: str = "label",
) -> None:
    """Draw numeric labels against the ranks of at most six scores: all others before baselines, then the best.

    Many rows are thinned evenly. Arguments as in `variant_curves`, with numbers as labels, and their name.
    """

    def order(k: int) -> tuple[bool, float]:
        return candidates[k].baseline, -np.nan_to_num(rows[k]["metrics"]["spearman"]["value"], nan=-2)

    chosen = sorted(range(len(candidates)), key=order)[:_MAX_PANELS]
    columns = min(3, len(chosen))
    figure, panels = new_panels(-(-len(chosen) // columns), columns, 3.6, 3.2)
    shown = np.arange(0, len(labels), -(-len(labels) // _MAX_POINTS))
    for axes, k in zip(panels, chosen, strict=False):
        _, place, count = np.unique(candidates[k].values, return_inverse=True, return_counts=True)
        # From 0 to 1, ties at their mean.
        rank = (np.cumsum(count) - (count + 1) / 2)[place] / max(len(labels) - 1, 1)
        colour = QUIET if candidates[k].baseline else TONES[0]
        axes.scatter(rank[shown], labels[shown], s=4, alpha=0.35, color=colour, linewidths=0)
        axes.set_title(f"{candidates[k].name}\nSpearman {number(rows[k]['metrics']['spearman']['value'])}", fontsize=9)
        axes.set(xlabel="rank of the score", ylabel=name, xlim=(-0.02, 1.02))
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    save_png(figure, out_png)


def _line_styles(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return the style of each line: scores solid and before baselines in the order of colours, baselines dashed."""
    order = sorted(range(len(candidates)), key=lambda k: candidates[k].baseline)
    styles = {}
    for place, k in enumerate(order):
        dashes = ("--", ":", "-.") if candidates[k].baseline else ("-",)
        styles[k] = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": dashes[place // len(_COLOURS) % len(dashes)],
            "linewidth": 1.2 if candidates[k].baseline else 2.0,
        }
    return [styles[k] for k in range(len(candidates))]
