"""Labelled variants, their scores and the baselines, as files: metrics.json and curves.png (or scatter.png)."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genolm.config.files import refuse_other, write_text
from genolm.config.provenance import versions
from genolm.genome.chromosomes import canonical
from genolm.metrics import weighted_metrics as weighted
from genolm.metrics.bootstrap import CONFIDENCE, NUM_REPLICATES
from genolm.metrics.comparison import without_nan
from genolm.metrics.format import number, span
from genolm.metrics.variant_baselines import MARKOV_ORDERS, fit_markov, from_reference, transversions
from genolm.metrics.variant_metrics import Candidate, compare_scores
from genolm.metrics.variant_table import Variants, read_variants, refuse_constant_labels
from genolm.metrics.variant_tracks import track_values
from genolm.reports.variant_figure import variant_curves, variant_scatter

WRITTEN = ("metrics.json", "curves.png", "scatter.png")
_SIZE = re.compile(r"distance|influence|(?<![a-z])l2(?![a-z0-9])", re.IGNORECASE)
HIGHER_IS = ("negative", "positive")
TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_by_chrom": "AUPRC by chromosome",
    "spearman": "Spearman",
    "pearson": "Pearson",
}


def write_variant_evaluation(
    path: str | Path,
    label: str,
    out: Path,
    *,
    other: str | Path | None = None,
    scores: Sequence[str] | None = None,
    higher_is: str = "negative",
    positive: Sequence[str] = (),
    negative: Sequence[str] = (),
    group: str | None = None,
    fasta: str | Path | None = None,
    aliases: Mapping[str, str] | None = None,
    tracks: Sequence[str | Path] = (),
    train_fasta: Sequence[str | Path] = (),
    markov_orders: Sequence[int] = MARKOV_ORDERS,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
    on_note: Callable[[str], object] = lambda note: None,
    show: bool = False,
) -> dict[str, Any]:
    """Judge scores of labelled variants beside the baselines, on the same rows, and write what was found.

    Args:
        path: table of variants, one row an ALT.
        label: its column of labels.
        out: folder for metrics.json and a picture; made if need be.
        other: table to join, as in `variant_table.read_variants`.
        scores: columns; `+name` where a greater value speaks for label 1, `-name` for label 0. Without a sign it is a
            size of change, against what `higher_is` says, if its name has distance, l2 or influence in it; else a
            log-likelihood ratio. None: all genolm_ scores.
        higher_is: the label that a higher log-likelihood ratio speaks for. negative: label 1, or a greater number,
            means deleterious.
        positive: words that are label 1.
        negative: words that are label 0; none: all others.
        group: column of rows to draw together.
        fasta: the reference, for the Markov and GC baselines.
        aliases: contig name in the table → in the reference, where these differ.
        tracks: conservation tracks, a greater value being more conserved.
        train_fasta: letters that Markov models count; none: the reference.
        markov_orders: of these.
        num_replicates: of the bootstrap.
        seed: of its draws.
        on_note: called with each note for the user.
        show: a bar on stderr while the bootstrap goes on.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: anything that cannot be read or judged, in one sentence.
    """
    if higher_is not in HIGHER_IS:
        raise ValueError(f"--higher-is is {higher_is!r}; allowed: {', '.join(HIGHER_IS)}")
    for option, value in (("--train-fasta", train_fasta), ("--aliases", aliases)):
        if value and not fasta:
            raise ValueError(f"{option} needs --fasta, the reference that windows are cut from")
    if num_replicates < 1:
        raise ValueError(f"--replicates is {num_replicates}; give at least 1")
    names = [Path(track).stem for track in tracks]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{count} tracks are named {name!r} by their files; give each file its own name")
    refuse_other(out, WRITTEN, "variant evaluation")
    columns, signs = _signs(scores)
    read = read_variants(path, label, other=other, scores=columns, positive=positive, negative=negative, group=group)
    for note in read.notes:
        on_note(note)
    if not read.scores:
        on_note("no column of scores is named or begins with genolm_: baselines only")
    used, baselines = _add_baselines(read, fasta, aliases, tracks, names, train_fasta, markov_orders, on_note)
    refuse_constant_labels(used, f"{path}: {label!r}")
    indels = sum(len(ref) != len(alt) for ref, alt in zip(used.ref, used.alt, strict=True))
    if used.scores and 0 < indels < len(used):
        on_note(
            f"{indels:,} of {len(used):,} rows are insertions or deletions, whose log-likelihood ratios are on another "
            "scale than those of substitutions; judge them apart, by …_Z"
        )
    candidates = _candidates(used, signs, baselines, higher_is)
    bootstrap = {"num_replicates": num_replicates, "seed": seed, "show": show}
    rows = compare_scores(used.kind, used.labels, _chromosomes(used), candidates, used.groups, **bootstrap)
    found = {
        "made_by": "genolm evaluate-variants",
        "versions": versions(),
        "inputs": {
            "variants": str(path),
            "with": other and str(other),
            "fasta": fasta and str(fasta),
            "train_fasta": [str(part) for part in train_fasta],
            "tracks": [str(track) for track in tracks],
        },
        "label": {"column": label, "kind": used.kind, "positive": list(positive), "negative": list(negative)},
        "higher_is": higher_is,
        "bootstrap": _bootstrap(used, group, num_replicates, seed),
        "rows": _counts(used),
        "scores": rows,
    }
    found["finding"] = finding(found)
    out.mkdir(parents=True, exist_ok=True)
    for name in WRITTEN:
        (out / name).unlink(missing_ok=True)
    if used.kind == "binary":
        variant_curves(used.labels, candidates, rows, out / "curves.png")
    else:
        variant_scatter(used.labels, candidates, rows, out / "scatter.png", label)
    write_text(out / "metrics.json", json.dumps(without_nan(found), indent=1))
    return found


def finding(found: dict[str, Any]) -> str:
    """Say in a sentence how the best score stands to the best baseline."""
    key = "auroc" if found["label"]["kind"] == "binary" else "spearman"
    known = [row for row in found["scores"] if row["metrics"][key]["value"] == row["metrics"][key]["value"]]
    if not known:
        return f"No score has a {TITLES[key]}: all are constant."
    best = max(known, key=lambda row: (not row["baseline"], row["metrics"][key]["value"]))
    value = best["metrics"][key]
    told = f"{best['name']}: {TITLES[key]} {number(value['value'])} ({span(value)})"
    difference = best["difference"].get(key)
    if best["baseline"] or difference is None:
        return f"{told}, the best baseline." if best["baseline"] else f"{told}."
    less = f"{number(difference['value'], signed=True)} ({span(difference, signed=True)})"
    verdict = (
        "better than" if difference["low"] > 0 else "worse than" if difference["high"] < 0 else "not told apart from"
    )
    return f"{told}, {verdict} the best baseline, {difference['against']}: {less}."


def _signs(scores: Sequence[str] | None) -> tuple[list[str] | None, dict[str, int]]:
    """Return the columns asked for, and the sign of those that were given one."""
    if scores is None:
        return None, {}
    if not all(name.lstrip("+-") for name in scores):
        raise ValueError("--scores has an empty name; give columns with commas between them")
    signs = {name[1:]: 1 if name[0] == "+" else -1 for name in scores if name[0] in "+-"}
    return [name[1:] if name[0] in "+-" else name for name in scores], signs


def _add_baselines(
    variants: Variants,
    fasta: str | Path | None,
    aliases: Mapping[str, str] | None,
    tracks: Sequence[str | Path],
    names: Sequence[str],
    train_fasta: Sequence[str | Path],
    markov_orders: Sequence[int],
    on_note: Callable[[str], object],
) -> tuple[Variants, dict[str, np.ndarray]]:
    """Return the variants that every baseline has a value for, and baseline → shape (n,)."""
    found = {"transversion": transversions(variants.ref, variants.alt)}
    reasons = np.full(len(variants), "", dtype=object)
    if fasta is not None:
        ladder = fit_markov(train_fasta or [fasta], markov_orders) if markov_orders else None
        if ladder and not train_fasta:
            on_note("the Markov models were trained on --fasta itself and have seen every REF; see --train-fasta")
        read, reasons = from_reference(variants, fasta, ladder, aliases)
        found |= read
    for track, name in zip(tracks, names, strict=True):
        if name in found:
            raise ValueError(f"{track}: a track cannot be named {name!r}, which a baseline is; rename the file")
        length = np.array([len(ref) for ref in variants.ref], dtype=np.int64)
        found[name] = track_values(track, variants.chrom, variants.start, length)
        if np.isnan(found[name]).all():
            raise ValueError(f"{track}: has no value at any of {len(variants):,} variants; another assembly?")
    for name, values in found.items():
        reasons = np.where((reasons == "") & np.isnan(values), f"no {name}", reasons)
    kept = reasons == ""
    return variants.keep(reasons), {name: values[kept] for name, values in found.items()}


def _candidates(
    variants: Variants, signs: dict[str, int], baselines: dict[str, np.ndarray], higher_is: str
) -> list[Candidate]:
    """Orient every score: see `write_variant_evaluation`."""
    ratio = 1 if higher_is == "positive" else -1
    found = []
    for name, values in variants.scores.items():
        sign = signs.get(name, -ratio if _SIZE.search(name) else ratio)
        found.append(Candidate(name, sign * values, _direction(sign)))
        if name not in signs and values.min() < 0 < values.max():
            # A change of either direction may be the effect: its size speaks against what a higher ratio speaks for.
            found.append(Candidate(f"|{name}|", -ratio * np.abs(values), _direction(-ratio)))
    for name, values in baselines.items():
        shown = f"{name} (baseline)" if name in variants.scores else name
        if name == "gc":
            sign = _best_sign(variants, values)
            found.append(Candidate(shown, sign * values, f"{_direction(sign)}, chosen on these rows", baseline=True))
        else:
            sign = ratio if name.startswith("markov-") else -ratio
            found.append(Candidate(shown, sign * values, _direction(sign), baseline=True))
    return found


def _direction(sign: int) -> str:
    return "greater speaks for the positive" if sign > 0 else "greater speaks for the negative"


def _best_sign(variants: Variants, values: np.ndarray) -> int:
    """Return the sign that agrees with the labels of these rows: a baseline is given the better direction."""
    orders = weighted.tied_order(variants.labels), weighted.tied_order(values)
    return -1 if weighted.spearman(np.ones((1, len(values))), *orders)[0] < 0 else 1


def _chromosomes(variants: Variants) -> np.ndarray:
    return np.array([canonical(name) for name in variants.chrom], dtype=object)


def _bootstrap(variants: Variants, group: str | None, num_replicates: int, seed: int) -> dict[str, Any]:
    num = len(variants) if variants.groups is None else int(variants.groups.max()) + 1
    drawn = {"of": "rows" if group is None else f"groups of {group}", "units": num}
    return drawn | {"replicates": num_replicates, "seed": seed, "confidence": CONFIDENCE}


def _counts(variants: Variants) -> dict[str, Any]:
    """Count rows read, used and left out; of two classes, those of each and the chromosomes that hold one only."""
    found: dict[str, Any] = {"read": variants.num_read, "used": len(variants), "left_out": variants.left_out}
    names = _chromosomes(variants)
    found["chromosomes"] = len(set(names))
    if variants.kind == "binary":
        found |= {"positive": int(variants.labels.sum()), "negative": int((1 - variants.labels).sum())}
        one = [name for name in dict.fromkeys(names) if len(set(variants.labels[names == name])) == 1]
        found["chromosomes_of_one_class"] = one
    return found
