"""Bits per base of a run, with the same options during training, at its end, and in `genolm evaluate`."""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genolm.config.files import write_text
from genolm.config.pretrain import PretrainRecipe
from genolm.config.recipe import flatten_recipe, to_dict
from genolm.config.yaml import SettingsError, load_settings
from genolm.genome.store import Store
from genolm.inference.perplexity import measure_splits
from genolm.models.build import load_model
from genolm.models.precision import available_device, set_deterministic
from genolm.pretraining.build import evaluation_options, final_options, split_regions
from genolm.tokenizers.build import load_tokenizer
from genolm.tokenizers.encode import make_encoder
from genolm.training.arguments import uses_cpu

CHANGEABLE = (
    *("data.test", "data.valid", "data.include", "data.exclude", "data.window_bp", "data.eval_soft_masked_weight"),
    *("evaluation.regions", "evaluation.max_bp", "evaluation.markov_orders", "evaluation.markov_mixture"),
    *("objective.mask_rate", "objective.span_tokens", "seed", "deterministic"),
    *("training.bf16", "training.use_cpu", "training.per_device_train_batch_size"),
)
"""Keys of a recipe that change what `genolm evaluate` measures."""


def evaluate_run(run: str, overrides: Sequence[str] = (), out: Path | None = None) -> tuple[dict[str, Any], Path]:
    """Measure bits per base of a finished run and write them to a JSON file.

    Args:
        run: folder that `genolm pretrain` wrote.
        overrides: changes to its recipe, `key=value`.
        out: the file; by default the run's `metrics.json` where nothing is changed, else `evaluation-HASH.json` in the
            run folder, where HASH follows from the changes.

    Returns:
        The metrics, with the changed keys under `changes`, if any; and the file.

    Raises:
        SettingsError: no finished run, a key that evaluation does not use, or `out` is a folder.
    """
    run_dir = Path(run)
    checkpoint = run_dir / "checkpoint"
    if not (checkpoint / "config.json").is_file():
        raise SettingsError(f"{run} has no checkpoint/config.json; give the run folder of a finished `genolm pretrain`")
    if out is not None and out.is_dir():
        raise SettingsError(f"--out {out} is a folder; name a file, such as {out / 'metrics.json'}")
    trained = load_settings(PretrainRecipe, run_dir / "recipe.yaml", [f"run_dir={run}"])
    recipe = load_settings(PretrainRecipe, run_dir / "recipe.yaml", [*overrides, f"run_dir={run}"])
    changes = changed_keys(trained, recipe)
    metrics = measure_checkpoint(checkpoint, recipe, trained, Store.open(run_dir / "genome"))
    if changes:
        metrics = {"changes": changes} | metrics
    if out is None:
        digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()[:8]
        out = run_dir / (f"evaluation-{digest}.json" if changes else "metrics.json")
    write_text(out, json.dumps(metrics, indent=1))
    return metrics, out


def changed_keys(trained: PretrainRecipe, recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the keys in which a recipe differs from the one of training, refusing those without effect."""
    before, after = flatten_recipe(to_dict(trained)), flatten_recipe(to_dict(recipe))
    changes = {key: after.get(key) for key in (*after, *before) if before.get(key) != after.get(key)}
    for key in changes:
        if not any(key == name or key.startswith(f"{name}.") for name in CHANGEABLE):
            raise SettingsError(f"{key} has no effect on an evaluation; keys that have: {', '.join(CHANGEABLE)}")
    return changes


def measure_checkpoint(
    checkpoint: Path, recipe: PretrainRecipe, trained: PretrainRecipe, store: Store
) -> dict[str, Any]:
    """Measure a checkpoint as its recipe says, on the regions of `recipe` that are no training region of `trained`."""
    regions = split_regions(recipe.data, store)
    # Whatever is asked for now, the model has seen what its own recipe says.
    regions["train"] = split_regions(trained.data, store)["train"]
    test = regions["test" if len(regions["test"]) else "valid"]
    seen = test.intersect(regions["train"]).num_bases
    if seen:
        print(f"warning: {seen:,} of these {test.num_bases:,} bp were in the training regions", file=sys.stderr)
    set_deterministic(recipe.deterministic)
    model = load_model(checkpoint, recipe.objective.kind)
    model.to(available_device(uses_cpu(recipe.training)))  # pyright: ignore[reportArgumentType]
    encoder = make_encoder(load_tokenizer(checkpoint))
    window_tokens = json.loads((checkpoint / "genolm.json").read_text())["window_tokens"]
    options = evaluation_options(recipe, encoder, window_tokens) | final_options(recipe)
    return measure_splits(model, encoder, store, regions, progress=True, **options)
