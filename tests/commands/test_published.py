"""Every recipe, of a published system or our own family, learns, made smaller, through the command that users give."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from runs import output, run
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from genolm.config.pretrain import PretrainRecipe
from genolm.config.yaml import load_settings
from genolm.genome.simulate import simulate, write_fasta
from genolm.tokenizers.build import load_spec

RECIPES = Path(__file__).parents[2] / "recipes"
PATHS = sorted([*RECIPES.glob("published/*.yaml"), *RECIPES.glob("genolm/*.yaml")])
SMALLER = [
    *("data.valid.fraction=0.05", "data.test.fraction=0.1"),
    *("evaluation.every_steps=0", "evaluation.max_bp=2000", "evaluation.markov_orders=[1]"),
    *("training.max_steps=20", "training.warmup_steps=5", "training.learning_rate=5e-3", "training.logging_steps=1"),
    *("training.per_device_train_batch_size=12", "training.gradient_accumulation_steps=1", "training.bf16=false"),
    *("training.use_cpu=true", "training.save_strategy=no"),
    *("model.hidden_size=32", "model.num_hidden_layers=2", "model.num_attention_heads=2"),
]
WHERE_THERE = {
    "intermediate_size": 64,
    "num_key_value_heads": 1,
    "filter_groups": 8,
    "ssm_state_size": 16,
    "fir_medium_size": 16,
    "vocab_size": 256,
}
"""Keys that are made smaller in the recipes that have them."""


def smaller(recipe: PretrainRecipe, folder: Path) -> list[str]:
    """Overrides that make a recipe small enough for 20 steps in a second or two."""
    changes = [*SMALLER, f"run_dir={folder / 'run'}", f"data.fasta={folder / 'g.fa'}"]
    changes += [f"model.{key}={value}" for key, value in WHERE_THERE.items() if recipe.model.get(key)]
    mixers = recipe.model.get("mixers", [])
    if "ssm" in mixers:
        changes += ["model.ssm_head_dim=16", "model.ssm_chunk_size=32"]
    if len(set(mixers)) > 2:  # one of each at least
        changes.append(f"model.num_hidden_layers={len(set(mixers))}")
    if recipe.model["architecture"] == "genolm" and "num_attention_heads" not in recipe.model:
        changes.remove("model.num_attention_heads=2")
    if "num_decay_steps" in recipe.training.get("lr_scheduler_kwargs", {}):
        changes.append("training.lr_scheduler_kwargs.num_decay_steps=5")
    spec = load_spec(recipe.tokenizer)
    changes.append(f"data.window_bp={144 * {'kmer': spec.k, 'bpe': 3}.get(spec.kind, 1)}")  # as many tokens for all
    if spec.kind == "bpe":  # as published, but for the number of merges
        (folder / "bpe.yaml").write_text(yaml.safe_dump(asdict(spec) | {"vocab_size": 250}))
        changes.append(f"tokenizer={folder / 'bpe.yaml'}")
    return changes


def marked() -> list:
    """One recipe of each architecture, set of mixers and kind of tokenizer by default; the others nightly."""
    kinds, params = set(), []
    for path in PATHS:
        recipe = load_settings(PretrainRecipe, path)
        mixers = frozenset(recipe.model.get("mixers", []))
        kind = (recipe.model["architecture"], mixers, load_spec(recipe.tokenizer).kind)
        mark = pytest.mark.nightly if kind in kinds else pytest.mark.slow
        kinds.add(kind)
        params.append(pytest.param(path, marks=mark, id=path.stem))
    return params


@pytest.mark.parametrize("path", marked())
def test_a_recipe_learns_and_its_checkpoint_opens(path, tmp_path):
    write_fasta(tmp_path / "g.fa", simulate(60_000, num_contigs=2).records)
    recipe = load_settings(PretrainRecipe, path)
    assert run(path, *smaller(recipe, tmp_path)) == [0], output(tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert len(losses) == 20 and all(map(math.isfinite, losses))
    assert np.mean(losses[-5:]) < np.mean(losses[:3])

    checkpoint, causal = tmp_path / "run" / "checkpoint", recipe.objective.kind == "causal"
    config = AutoConfig.from_pretrained(checkpoint)
    assert config.model_type == recipe.model["architecture"] and type(config) is CONFIG_MAPPING[config.model_type]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = (AutoModelForCausalLM if causal else AutoModelForMaskedLM).from_pretrained(checkpoint).eval()
    ids = torch.tensor([tokenizer("ACGTTGCAGGATTACAGTACCA")["input_ids"]])
    with torch.no_grad():
        logits = model(ids).logits
    assert logits.shape == (*ids.shape, config.vocab_size) and logits.isfinite().all()
