"""Model card of a published model, from the genolm.json of its checkpoint."""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from genolm.reports.page import render

EXAMPLE = "ACGTTGCAGGATTACAGTACCAGGATCCGATTACA"
_TOKENIZERS = {
    "char": "one token for each base",
    "kmer": "consecutive pieces of {k} bases",
    "kmer-overlapping": "{k} bases at a time, one token starting at each base",
    "bpe": "byte pair encoding, pieces of varying length",
}


def model_card(
    metadata: dict[str, Any],
    *,
    tokenizer: dict[str, Any],
    repo_id: str,
    license: str,
    curve: bool = False,
    needs: str | None = None,
) -> str:
    """Return the README of a published model, with the front matter that the Hub reads.

    Args:
        metadata: contents of the checkpoint's `genolm.json`, without machine paths.
        tokenizer: `kind` and `k`, the `genolm` part of its `tokenizer_config.json`.
        repo_id: `user/name`.
        license: identifier of a licence, as the Hub spells it.
        curve: whether the folder has a `loss.png`.
        needs: None for an architecture of transformers; "genolm" for one that importing genolm adds, "code" if its code
            is in the folder.
    """
    objective, recipe, metrics = metadata["objective"], metadata["recipe"], metadata.get("metrics") or {}
    front = {
        "license": license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation" if objective == "causal" else "fill-mask",
        "tags": ["biology", "genomics", "dna", "genolm", f"{objective}-lm"],
    }
    text = render(
        "card.md.j2",
        **{key: metadata[key] for key in ("objective", "genolm_version", "window_bp", "recipe_hash")},
        front=yaml.safe_dump(front, sort_keys=False),
        repo_id=repo_id,
        tokenizer=tokenizer,
        needs=needs,
        auto_class="AutoModelForCausalLM" if objective == "causal" else "AutoModelForMaskedLM",
        trust=", trust_remote_code=True" if needs == "code" else "",
        example=EXAMPLE,
        curve=curve,
        table=_table,
        facts=_facts(metadata, tokenizer),
        inputs=[
            [row["genome"], row["name"], f"{row['num_bases']:,}", f"`{row['sha256']}`"]
            for row in metadata["data"]["inputs"]
        ],
        data={"dataset": None, "include": None, "exclude": None, "eval_soft_masked_weight": 1} | recipe["data"],
        held_out=_held_out(recipe["data"]),
        model={"reverse_complement": None} | recipe["model"],
        seed=recipe["seed"],
        recipe=yaml.safe_dump(recipe, sort_keys=False),
        **_measures(metrics),
    )
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _facts(metadata: dict[str, Any], tokenizer: dict[str, Any]) -> list[list[str]]:
    recipe = metadata["recipe"]
    objective = "causal: the next token given those before it"
    if metadata["objective"] != "causal":
        rate = recipe.get("objective", {}).get("mask_rate")
        fraction = "some" if rate is None else f"{100 * rate:.3g} %"
        objective = f"masked: hidden tokens, {fraction} of all, given both flanks"
    pieces = _TOKENIZERS.get(tokenizer.get("kind", ""), "").format(k=tokenizer.get("k"))
    return [
        ["architecture", f"`{recipe['model'].get('architecture')}`"],
        ["parameters", f"{metadata['num_parameters']:,}"],
        ["objective", objective],
        ["window", f"{metadata['window_bp']:,} bp"],
        ["tokenizer", f"`{metadata['tokenizer']}`" + (f": {pieces}" if pieces else "")],
    ]


def _held_out(data: dict[str, Any]) -> str:
    if dataset := data.get("dataset"):
        return (
            ", ".join(f"test: {dataset[key]}" for key in ("test_path", "test_split") if dataset.get(key)) or "nothing"
        )
    rules = [f"{split}: {rule}" for split in ("valid", "test") if (rule := _split_rule(data[split]))]
    return "; ".join(rules) or "nothing"


def _split_rule(rule: dict[str, Any]) -> str:
    parts = [f"contigs {', '.join(rule['contigs'])}"] if rule["contigs"] else []
    parts += [f"{100 * rule['fraction']:.3g} % of the bases"] if rule["fraction"] else []
    parts += [f"the intervals of {rule['regions']}"] if rule["regions"] else []
    return " and ".join(parts)


def _measures(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of the table of bits per base, and the gap to the best Markov model."""
    split = next((name for name in ("test", "valid") if name in metrics), None)
    if split is None:
        return {"split": None, "bits": "", "measures": [], "best_order": None}
    measured = metrics[split]
    bits = "bits_per_base" if "bits_per_base" in measured else "masked_bits_per_base"
    rows = []
    for region, row in {"this model": measured, **measured.get("classes", {})}.items():
        interval = "–" if row["interval"] is None else "{:.4f} … {:.4f}".format(*row["interval"])
        rows.append([region, f"{row[bits]:.4f}", interval, f"{row['num_bases']:,.0f}"])
    # Markov models give likelihoods, which masked bits per base are not.
    markov = metrics.get("markov", {}) if bits == "bits_per_base" else {}
    rows += [[f"Markov model of order {order}", f"{value:.4f}", "", ""] for order, value in markov.items()]
    if markov and "markov_mixture" in metrics:
        rows.append(["Mixture of Markov models", f"{metrics['markov_mixture']:.4f}", "", ""])
    best = min(markov, key=lambda order: markov[order]) if markov else None
    gap = markov[best] - measured[bits] if best is not None else 0.0
    return {"split": split, "bits": bits, "measures": rows, "best_order": best, "gap": gap}
