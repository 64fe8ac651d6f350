"""Search space of a sweep: dotted keys of a fine-tuning recipe, each with a range or a list of choices.

model.width: {low: 0.25, high: 2, log: true}
model.kernel: [11, 15, 19]
training.num_train_epochs: {low: 2, high: 10}       whole numbers, as both ends are
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genolm.config.finetune import FinetuneRecipe
from genolm.config.yaml import SettingsError, build_settings, read_values, set_key

DECIDED = {
    "run_dir": "--out decides it",
    "labels": "it decides the rows that trials are compared on",
    "name": "trials have none",
    "task_name": "trials have none",
    "seed": "the luckiest seed is no better recipe; see genolm benchmark",
    "stopping.metric": "set --metric",
    "predict_test": "trials leave the test rows alone",
    "resume": "a sweep always resumes",
}


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole ones where both are.

    Attributes:
        low: the least.
        high: the greatest.
        log: draw evenly on a logarithmic scale.
        step: only low, low + step, low + 2 step, ….
    """

    low: Any
    high: Any
    log: bool = False
    step: float | None = None

    def __post_init__(self):
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
                raise SettingsError(f"{name} is {value!r}; it must be a number")
        if self.low >= self.high:
            raise SettingsError(f"high is {self.high}; it must be above low, which is {self.low}")
        if self.log and self.low <= 0:
            raise SettingsError(f"low is {self.low}; on a log scale it must be above 0")
        if self.step is not None and (self.step <= 0 or self.log or (self.whole and self.step != int(self.step))):
            raise SettingsError(f"step is {self.step}; above 0, whole where low and high are, and not with log")

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = dict[str, Range | list[Any]]


def read_space(values: Any, lines: dict[str, str], prefix: str, where: str) -> Space:
    """Read a search space.

    Args:
        values: dotted key → range or choices; blocks of keys may be nested instead.
        lines: dotted key → where it stands.
        prefix: of the keys in `lines`, such as "sweep.".
        where: what is said of a key that is not in `lines`.

    Raises:
        SettingsError: it is empty, or an entry is neither a range nor a list of choices.
    """
    space: Space = {}

    def read(block: dict[str, Any], above: str) -> None:
        for name, value in block.items():
            key = above + name
            at = lines.get(prefix + key, where)
            if isinstance(value, dict) and not {"low", "high"} & set(value):
                read(value, f"{key}.")
                continue
            for decided, why in DECIDED.items():
                if key == decided or key.startswith(f"{decided}."):
                    raise SettingsError(f"{at}: {key} cannot be searched: {why}")
            if isinstance(value, dict):
                places = {k.removeprefix(f"{prefix}{key}."): line for k, line in lines.items()}
                space[key] = build_settings(Range, value, places, f"{at}: {key}")
            elif isinstance(value, list) and len({json.dumps(x) for x in value}) == len(value) >= 2:
                space[key] = [_number(x) for x in value]
            else:
                raise SettingsError(
                    f"{at}: {key} is {value!r}; give a range, {{low: 1e-4, high: 1e-2, log: true}}, or a list of "
                    "two or more choices that differ"
                )

    if not isinstance(values, dict) or not values:
        raise SettingsError(f"{where}: nothing to search; give dotted keys of the recipe, each with a range or a list")
    read(values, "")
    return space


def _number(value: Any) -> Any:
    """Read 1e-4, which YAML takes for text."""
    try:
        return float(value) if isinstance(value, str) and "e" in value.lower() else value
    except ValueError:
        return value


def with_values(recipe: dict[str, Any], chosen: dict[str, Any], run_dir: Path | str, where: str) -> FinetuneRecipe:
    """Return a recipe with some keys set, whose run is in `run_dir`.

    Args:
        recipe: as plain data.
        chosen: dotted key → value.
        run_dir: of the run.
        where: for messages.

    Raises:
        SettingsError: a key or value is not the recipe's.
    """
    values = copy.deepcopy(recipe) | {"run_dir": str(run_dir)}
    for key, value in chosen.items():
        set_key(values, key, value, f"{where}: {key}")
    return build_settings(FinetuneRecipe, values, {}, where)


def extremes(space: Space) -> list[tuple[str, Any]]:
    """Return every key with each of its choices, or both its ends: what must be allowed before a search starts."""
    return [
        (key, value)
        for key, entry in space.items()
        for value in (entry if isinstance(entry, list) else (entry.low, entry.high))
    ]


def read_sweep(path: str, overrides: list[str], space_path: str | None) -> tuple[dict[str, Any], Space]:
    """Read a recipe, and the space from its block `sweep` or from a file of its own.

    Returns:
        The recipe as plain data, without the block, and the space.

    Raises:
        SettingsError: either cannot be used, or the space is in neither or both.
    """
    values, lines = read_values(path, overrides)
    block = values.pop("sweep", None)
    if (block is None) == (space_path is None):
        both = "is there twice, in the recipe and as --space" if block is not None else "is missing"
        raise SettingsError(f"{path}: what to search {both}; give a block `sweep` in the recipe, or --space FILE")
    if space_path is not None:
        in_space, space_lines = read_values(space_path)
        space = read_space(in_space, space_lines, "", space_path)
    else:
        space = read_space(block, lines, "sweep.", lines.get("sweep", path))
    build_settings(FinetuneRecipe, {"run_dir": ""} | values, lines, path)
    return values, space
