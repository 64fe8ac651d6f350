"""The model card: what a published model is, what it saw, how well it does, and how to use it."""

from typing import Any

import yaml

LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc0-1.0", "other")
EXAMPLE = "ACGTTGCAGGATTACAGTACCAGGATCCGATTACA"


def model_card(about: dict[str, Any], tokenizer: dict[str, Any], repo_id: str, license: str, curve: bool) -> str:
    """Write the README of a published model.

    Args:
        about: contents of the checkpoint's `genolm.json`, without machine paths.
        tokenizer: what its `tokenizer_config.json` says under `genolm`: `kind` and `k`.
        repo_id: `user/name`.
        license: identifier of a licence, as the Hub spells it.
        curve: whether `loss.png` lies beside the card.
    """
    causal = about["objective"] == "causal"
    recipe, architecture = about["recipe"], about["recipe"]["model"]["architecture"]
    front = {
        "license": license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation" if causal else "fill-mask",
        "tags": ["biology", "genomics", "dna", "genolm", f"{about['objective']}-lm"],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {repo_id.split('/')[-1]}",
        f"A {about['objective']} language model of DNA: `{architecture}`, {about['num_parameters']:,} parameters, "
        f"trained from scratch on windows of {about['window_bp']:,} bp with the `{about['tokenizer']}` tokenizer.",
        "## Use",
        _usage(tokenizer, repo_id, causal),
        "## Data",
        _data(about["data"], recipe["data"]),
        "## Measured",
        _measured(about.get("metrics", {})),
        *(["![bits per base during training](loss.png)"] if curve else []),
        "## Limits",
        "It knows the genomes listed above and no others; what it says of other species is untested. Both strands were "
        f"shown in training (probability of the reverse complement: {recipe['data']['reverse_complement']}), but the "
        "model is not equivariant: average over both strands where it matters.",
        "## Recipe",
        f"genolm {about['genolm_version']}, recipe sha256 `{about['recipe_hash']}`, seed {recipe['seed']}:",
        f"```yaml\n{yaml.safe_dump(recipe, sort_keys=False)}```",
    ]
    return "\n\n".join(sections) + "\n"


def _usage(tokenizer: dict[str, Any], repo_id: str, causal: bool) -> str:
    auto = "AutoModelForCausalLM" if causal else "AutoModelForMaskedLM"
    k = tokenizer.get("k", 1)
    overlapping = tokenizer.get("kind") == "kmer-overlapping"
    # Without genolm the vocabulary reads k-mers that are spelled out.
    spell = f'dna = " ".join(dna[i : i + {k}] for i in range(len(dna) - {k - 1}))\n' if overlapping else ""
    return f"""```python
import torch
from transformers import AutoTokenizer, {auto}

tokenizer = AutoTokenizer.from_pretrained("{repo_id}")
model = {auto}.from_pretrained("{repo_id}").eval()
dna = "{EXAMPLE}"
{spell}with torch.no_grad():
    logits = model(**tokenizer(dna, return_tensors="pt")).logits
print(logits.shape)  # (1, tokens, vocabulary)
```"""


def _data(data: dict[str, Any], recipe: dict[str, Any]) -> str:
    rows = ["| genome | file | bases | sha256 |", "|---|---|---|---|"]
    for row in data["inputs"]:
        rows.append(f"| {row['genome']} | {row['name']} | {row['num_bases']:,} | `{row['sha256']}` |")
    if recipe.get("dataset"):
        rows.append(f"\nStreamed from the dataset `{recipe['dataset']['path']}`; the table lists what was kept of it.")
    held_out = []
    for name in ("valid", "test"):
        rule = recipe[name]
        parts = [f"contigs {', '.join(rule['contigs'])}"] if rule["contigs"] else []
        parts += [f"{rule['fraction']:.0%} of the bases"] if rule["fraction"] else []
        parts += [f"the intervals of {rule['regions']}"] if rule["regions"] else []
        if parts:
            held_out.append(f"{name}: {' and '.join(parts)}")
    split = "; ".join(held_out) if held_out else "nothing"
    return "\n".join(rows) + f"\n\nHeld out before any window was cut: {split}."


def _measured(metrics: dict[str, Any]) -> str:
    name = next((name for name in ("test", "valid") if name in metrics), None)
    if name is None:
        return "Nothing was held out, so nothing was measured."
    found = metrics[name]
    key = "bits_per_base" if "bits_per_base" in found else "masked_bits_per_base"
    rows = [f"| {name} | {key.replace('_', ' ')} | 95 % interval | bases |", "|---|---|---|---|"]
    for region, row in {"all": found, **found.get("classes", {})}.items():
        interval = "–" if row["interval"] is None else "{:.4f} … {:.4f}".format(*row["interval"])
        rows.append(f"| {region} | {row[key]:.4f} | {interval} | {row['num_bases']:,.0f} |")
    text = "\n".join(rows)
    if key == "masked_bits_per_base":
        return (
            text
            + "\n\nBits of the hidden bases given both flanks; no code length, and not comparable with causal models."
        )
    if metrics.get("markov"):
        order, best = min(metrics["markov"].items(), key=lambda row: row[1])
        text += f"\n\nThe best Markov model of the same training regions, order {order}: {best:.4f} bits per base."
    return text + " Two bits per base is guessing; intervals are over blocks of 10 kb."
