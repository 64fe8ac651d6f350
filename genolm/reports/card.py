"""The model card: what a published model is, what it saw, how well it does, and how to use it."""

from typing import Any

import yaml

LICENSES = tuple(
    """
    apache-2.0 mit bsd-3-clause cc-by-4.0 cc-by-sa-4.0 cc-by-nc-4.0 cc0-1.0 gpl-3.0
    openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause-clear c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-sa-3.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0
    epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by
    odbl osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr other
    """.split()
)
"""Licences that the Hub has identifiers for, common ones first; those of single companies' models are left out.

Source: https://huggingface.co/docs/hub/repositories-licenses
"""
EXAMPLE = "ACGTTGCAGGATTACAGTACCAGGATCCGATTACA"
CUTS = {
    "char": "a token for every base",
    "kmer": "pieces of {k} bases, end to end",
    "kmer-overlapping": "{k} bases at a time, a token starting at every base",
    "bpe": "byte pair encoding, pieces of varying length",
}


def model_card(
    about: dict[str, Any],
    *,
    tokenizer: dict[str, Any],
    repo_id: str,
    license: str,
    curve: bool = False,
    needs: str | None = None,
) -> str:
    """Return the README of a published model, with the front matter that the Hub reads.

    Args:
        about: contents of the checkpoint's `genolm.json`, without machine paths.
        tokenizer: what its `tokenizer_config.json` says under `genolm`: `kind` and `k`.
        repo_id: `user/name`.
        license: identifier of a licence, as the Hub spells it.
        curve: whether `loss.png` lies beside the card.
        needs: None for an architecture of transformers' own; "genolm" for one that importing genolm adds, "code" where
            its code lies beside the model.
    """
    causal, recipe = about["objective"] == "causal", about["recipe"]
    front = {
        "license": license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation" if causal else "fill-mask",
        "tags": ["biology", "genomics", "dna", "genolm", f"{about['objective']}-lm"],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {repo_id.split('/')[-1]}",
        f"A {about['objective']} language model of DNA, trained from scratch with genolm {about['genolm_version']}.",
        _facts(about, tokenizer),
        "## Use",
        _usage(tokenizer, repo_id, causal, needs),
        "## Data",
        _data(about["data"], recipe["data"]),
        "## Measured",
        _measured(about.get("metrics") or {}, recipe["data"]),
        *([f"![{'' if causal else 'masked '}bits per base during training](loss.png)"] if curve else []),
        "## Limits",
        _limits(about["window_bp"], recipe["data"], recipe["model"].get("reverse_complement")),
        "## Recipe",
        f"genolm {about['genolm_version']}, seed {recipe['seed']}. Folders are left out below; the recipe with them "
        f"has the sha256 `{about['recipe_hash']}`.",
        f"```yaml\n{yaml.safe_dump(recipe, sort_keys=False)}```",
    ]
    return "\n\n".join(sections) + "\n"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _facts(about: dict[str, Any], tokenizer: dict[str, Any]) -> str:
    recipe = about["recipe"]
    objective = "causal: the next token from those before it"
    if about["objective"] != "causal":
        rate = recipe.get("objective", {}).get("mask_rate")
        part = "some" if rate is None else f"{100 * rate:.3g} %"
        objective = f"masked: hidden tokens, {part} of all, from both flanks"
    cut = CUTS.get(tokenizer.get("kind", ""), "").format(k=tokenizer.get("k"))
    rows = [
        ["architecture", f"`{recipe['model'].get('architecture')}`"],
        ["parameters", f"{about['num_parameters']:,}"],
        ["objective", objective],
        ["window", f"{about['window_bp']:,} bp"],
        ["tokenizer", f"`{about['tokenizer']}`" + (f": {cut}" if cut else "")],
    ]
    return _table(["", ""], rows)


def _usage(tokenizer: dict[str, Any], repo_id: str, causal: bool, needs: str | None) -> str:
    auto = "AutoModelForCausalLM" if causal else "AutoModelForMaskedLM"
    k = tokenizer.get("k", 1)
    overlapping = tokenizer.get("kind") == "kmer-overlapping"
    # Without genolm the vocabulary reads k-mers that are spelled out.
    spell = f'dna = " ".join(dna[i : i + {k}] for i in range(len(dna) - {k - 1}))\n' if overlapping else ""
    trust = ", trust_remote_code=True" if needs == "code" else ""
    imported = "import genolm  # pip install genolm: it adds the architecture\n" if needs == "genolm" else ""
    return f"""```python
{imported}import torch
from transformers import AutoTokenizer, {auto}

tokenizer = AutoTokenizer.from_pretrained("{repo_id}"{trust})
model = {auto}.from_pretrained("{repo_id}"{trust}).eval()
dna = "{EXAMPLE}"
{spell}with torch.no_grad():
    logits = model(**tokenizer(dna, return_tensors="pt")).logits
print(logits.shape)  # (1, tokens, vocabulary)
```"""


def _data(data: dict[str, Any], recipe: dict[str, Any]) -> str:
    rows = [[row["genome"], row["name"], f"{row['num_bases']:,}", f"`{row['sha256']}`"] for row in data["inputs"]]
    parts = [_table(["genome", "file", "bases", "sha256"], rows)]
    dataset = recipe.get("dataset")
    if dataset:
        parts.append(f"Streamed from the dataset `{dataset['path']}`; the table lists what was kept of it.")
        held_out = [f"test: {dataset[key]}" for key in ("test_path", "test_split") if dataset.get(key)]
        parts.append(f"Held out: {', '.join(held_out) or 'nothing'}.")
        return "\n\n".join(parts)
    if recipe.get("include"):
        parts.append(f"Only the intervals of {recipe['include']} were used.")
    if recipe.get("exclude"):
        parts.append(f"The intervals of {recipe['exclude']} were left out.")
    if recipe.get("soft_masked_weight", 1) != 1:
        parts.append(f"A lower-case (soft-masked) base weighs {recipe['soft_masked_weight']:g} in the training loss.")
    rules = [f"{name}: {rule}" for name in ("valid", "test") if (rule := _held_out(recipe[name]))]
    parts.append(f"Held out before any window was cut: {'; '.join(rules) or 'nothing'}.")
    return "\n\n".join(parts)


def _held_out(rule: dict[str, Any]) -> str:
    parts = [f"contigs {', '.join(rule['contigs'])}"] if rule["contigs"] else []
    parts += [f"{100 * rule['fraction']:.3g} % of the bases"] if rule["fraction"] else []
    parts += [f"the intervals of {rule['regions']}"] if rule["regions"] else []
    return " and ".join(parts)


def _measured(metrics: dict[str, Any], recipe: dict[str, Any]) -> str:
    name = next((name for name in ("test", "valid") if name in metrics), None)
    if name is None:
        return "No measures were taken on held-out regions."
    found = metrics[name]
    key = "bits_per_base" if "bits_per_base" in found else "masked_bits_per_base"
    rows = []
    for region, row in {"this model": found, **found.get("classes", {})}.items():
        interval = "–" if row["interval"] is None else "{:.4f} … {:.4f}".format(*row["interval"])
        rows.append([region, f"{row[key]:.4f}", interval, f"{row['num_bases']:,.0f}"])
    # What Markov models reach is a likelihood, and stands beside likelihoods only.
    markov = metrics.get("markov", {}) if key == "bits_per_base" else {}
    rows += [[f"Markov model of order {order}", f"{bits:.4f}", "", ""] for order, bits in markov.items()]
    if markov and "markov_mixture" in metrics:
        rows.append(["Mixture of Markov models", f"{metrics['markov_mixture']:.4f}", "", ""])
    notes = ["Lower is better; guessing evenly among four bases costs 2 bits. Intervals: bootstrap over 10 kb blocks."]
    if key == "masked_bits_per_base":
        notes.append("Bits of the hidden bases given both flanks: no code length, not comparable with causal models.")
    if markov:
        order, best = min(markov.items(), key=lambda item: item[1])
        gap = best - found[key]
        notes.append(
            f"The Markov models learnt from the same training regions; the best has order {order}, and this model "
            f"takes {abs(gap):.4f} bits {'less' if gap >= 0 else 'more'} than it."
        )
    if name == "valid":
        notes.append("There are no test regions; the validation regions measured here were watched during training.")
    if recipe.get("eval_soft_masked_weight", 1) == 0:
        notes.append("Lower-case (soft-masked) bases are not counted.")
    table = _table([f"on the {name} regions", key.replace("_", " "), "95 % interval", "bases"], rows)
    return f"{table}\n\n{' '.join(notes)}"


def _limits(window_bp: int, recipe: dict[str, Any], symmetry: str | None) -> str:
    rate = recipe["reverse_complement"]
    if symmetry == "equivariant":
        strands = "By its construction it says the same of both strands."
    elif rate:
        strands = (
            f"A window was shown as its reverse complement with probability {rate:g}, but nothing makes the model say "
            "the same of both strands: average over them where it matters."
        )
    else:
        strands = "Windows were shown as they stand in the files, never as their reverse complement."
    return (
        "The model was trained on the sequences listed above, less what was held out, and on no others; what it says "
        f"of other species is untested. It has never seen more than {window_bp:,} bp at once. {strands} Its scores are "
        "no medical evidence."
    )
