"""Recipes as plain data, flattened to dotted keys, and as a hash."""

import dataclasses
import hashlib
import json
import re
from typing import Any


def to_dict(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain data, defaults included."""
    return dataclasses.asdict(recipe)


WITHOUT_EFFECT = re.compile(
    r"run_dir|resume|fit_batch|plugins|training\.(save_\w+|dataloader_\w+|report_to|run_name|project|disable_tqdm|output_dir"
    r"|logging_dir|log_\w+|hub_\w+|push_to_hub|trackio_\w+|local_rank|ddp_\w+|fsdp\w*|deepspeed|use_cpu|data_seed|debug)"
)
"""Keys that do not change what is learned, measured or logged."""


def flatten_recipe(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of a recipe's plain data by dotted key, without keys that have no effect."""
    values: dict[str, Any] = {}
    for name, value in recipe.items():
        key = prefix + name
        if isinstance(value, dict) and value:
            values |= flatten_recipe(value, f"{key}.")
        elif not WITHOUT_EFFECT.fullmatch(key):
            values[key] = value
    return values


def recipe_hash(recipe: Any) -> str:
    """Return the sha256 of a recipe's values, without `WITHOUT_EFFECT`: where it runs and how it is saved."""
    return hashlib.sha256(json.dumps(flatten_recipe(to_dict(recipe)), sort_keys=True, default=str).encode()).hexdigest()
