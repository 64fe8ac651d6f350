"""Recipes: YAML → frozen dataclasses, with dotted overrides. An unknown key is an error, always.

    run_dir: runs/first          key: value pairs of the dataclasses below
    data: {window_bp: 512}       nested blocks
    genolm pretrain recipe.yaml data.window_bp=1024 training.learning_rate=3e-4

Values are coerced by the field's type, since YAML reads `3e-4` as text.
"""

import dataclasses
import difflib
import hashlib
import json
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml


class RecipeError(ValueError):
    """A recipe that cannot be run; the message names the file, the line and the key."""


@dataclass(frozen=True)
class SplitRecipe:
    """What is held out: named contigs, a fraction of all bases, and the intervals of a BED or GFF file."""

    contigs: list[str] = field(default_factory=list)
    fraction: float = 0.0
    regions: str | None = None

    def __post_init__(self):
        _within("fraction", self.fraction, 0, 1)


@dataclass(frozen=True)
class SamplingRecipe:
    """What is equally likely, and how strongly genomes of unequal size are evened out."""

    by: Literal["base", "contig", "genome"] = "base"
    temperature: float = 1.0

    def __post_init__(self):
        _within("temperature", self.temperature, 1, None)


@dataclass(frozen=True)
class DatasetRecipe:
    """A sequence dataset read through `datasets`: a Hub name, or local Parquet, JSONL or CSV files."""

    path: str
    name: str | None = None
    split: str = "train"
    column: str = "sequence"


@dataclass(frozen=True)
class DataRecipe:
    """Genomes, what is held out of them, and how windows are drawn."""

    fasta: str | list[str] | dict[str, str | list[str]] | None = None
    sha256: dict[str, str] | None = None
    rename_duplicates: bool = False
    dataset: DatasetRecipe | None = None
    include: str | None = None
    exclude: str | None = None
    valid: SplitRecipe = field(default_factory=SplitRecipe)
    test: SplitRecipe = field(default_factory=SplitRecipe)
    window_bp: int = 512
    reverse_complement: float = 0.5
    soft_masked_weight: float = 1.0
    eval_soft_masked_weight: float = 1.0
    sampling: SamplingRecipe = field(default_factory=SamplingRecipe)

    def __post_init__(self):
        _within("window_bp", self.window_bp, 8, None)
        for name in ("reverse_complement", "soft_masked_weight", "eval_soft_masked_weight"):
            _within(name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What the model learns to predict."""

    kind: Literal["masked", "causal"]
    mask_rate: float = 0.15
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1
    span_bp: int | None = None

    def __post_init__(self):
        for name in ("mask_rate", "mask_token_rate", "random_token_rate"):
            _within(name, getattr(self, name), 0, 1)
        if self.mask_token_rate + self.random_token_rate > 1 + 1e-9:
            raise RecipeError("mask_token_rate + random_token_rate is above 1; what is left of 1 is kept as it is")


@dataclass(frozen=True)
class EvaluationRecipe:
    """What is measured at the end of a run."""

    max_bp: int | None = None
    regions: str | None = None
    markov_orders: list[int] = field(default_factory=lambda: list(range(13)))

    def __post_init__(self):
        for order in self.markov_orders:
            _within("markov_orders", order, 0, 12)


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything `genolm pretrain` needs.

    Attributes:
        run_dir: folder of the run; the model is left in its `checkpoint`.
        data: genomes, splits and windows.
        objective: masked or causal.
        model: `architecture`, any of transformers' model types, and changes to its configuration.
        tokenizer: a spec of tokenizer_configs, a YAML file, or a tokenizer folder.
        seed: of everything random.
        training: fields of transformers.TrainingArguments.
        evaluation: what is measured at the end.
    """

    run_dir: str
    data: DataRecipe
    objective: ObjectiveRecipe
    model: dict[str, Any]
    tokenizer: str = "char"
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)


Recipe = TypeVar("Recipe")


def _within(key: str, value: float, low: float | None, high: float | None) -> None:
    if (low is not None and value < low) or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"{low} to {high}"
        raise RecipeError(f"{key} is {value}; allowed: {allowed}")


class _LineLoader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys and remembers the line of each."""

    def __init__(self, stream):
        super().__init__(stream)
        self.lines: dict[str, int] = {}

    def construct_recipe(self, node: yaml.Node | None, prefix: str = "") -> Any:
        """Build plain data from a node, noting the line of every dotted key."""
        if not isinstance(node, yaml.MappingNode):
            return self.construct_object(node, deep=True) if node is not None else None
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(self.construct_object(key_node))
            line = key_node.start_mark.line + 1
            if key in found:
                raise RecipeError(f"line {line}: key {prefix + key!r} is already on line {self.lines[prefix + key]}")
            self.lines[prefix + key] = line
            found[key] = self.construct_recipe(value_node, f"{prefix}{key}.")
        return found


def load_recipe(cls: type[Recipe], path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Read a recipe.

    Args:
        cls: the dataclass to build.
        path: a YAML file.
        overrides: `dotted.key=value`, the value as YAML.

    Raises:
        RecipeError: no such file, no YAML, an unknown or missing key, a value of the wrong type or out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; check the path and the folder the command is run in")
    try:
        loader = _LineLoader(path.read_text())
        try:
            values = loader.construct_recipe(loader.get_single_node())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a set of `key: value` lines, got {type(values).__name__}")
    lines = {key: f"{path}:{line}" for key, line in loader.lines.items()}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise RecipeError(f"override {override!r}: write key=value, as in training.max_steps=100")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        _set(values, key, value, override)
        lines[key] = f"override {override!r}"
    return _build(cls, values, "", lines, str(path))


def _set(values: dict[str, Any], dotted: str, value: Any, override: str) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        below = values.setdefault(parent, {})
        if below is None:
            below = values[parent] = {}
        if not isinstance(below, dict):
            raise RecipeError(f"override {override!r}: {parent} is {below!r}, which has no keys below it")
        values = below
    values[last] = value


def _build(cls: Any, values: dict[str, Any], prefix: str, lines: dict[str, str], where: str) -> Any:
    """Build a dataclass from plain data; `prefix` and `lines` say where each key stands."""
    types_of = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {prefix + near[0]!r}?" if near else f"allowed: {', '.join(names)}"
            raise RecipeError(f"{lines.get(prefix + key, where)}: unknown key {prefix + key!r}; {hint}")
    built = {}
    for f in dataclasses.fields(cls):
        key = prefix + f.name
        if f.name in values:
            built[f.name] = _coerce(types_of[f.name], values[f.name], key, lines, where)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise RecipeError(f"{lines.get(prefix[:-1], where)}: key {key!r} is missing")
    try:
        return cls(**built)
    except RecipeError as error:
        at = next(
            (lines[prefix + name] for name in names if str(error).startswith(name) and prefix + name in lines), where
        )
        raise RecipeError(f"{at}: {prefix}{error}") from None


def _coerce(kind: Any, value: Any, key: str, lines: dict[str, str], where: str) -> Any:
    """Turn plain data into a field's type, or say why not."""
    origin = get_origin(kind)
    at = lines.get(key, where)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        return _coerce_union(kind, value, key, lines, where)
    if origin is Literal:
        if value in get_args(kind):
            return value
        raise RecipeError(f"{at}: {key} is {value!r}; allowed: {', '.join(map(str, get_args(kind)))}")
    if dataclasses.is_dataclass(kind):
        if value is None:
            value = {}
        if isinstance(value, dict):
            return _build(kind, value, key + ".", lines, at)
        raise RecipeError(f"{at}: {key} is {value!r}; it must be a block of keys")
    if origin is list and isinstance(value, list):
        return [_coerce(get_args(kind)[0], item, key, lines, where) for item in value]
    if origin is dict and isinstance(value, dict):
        return {str(k): _coerce(get_args(kind)[1], v, f"{key}.{k}", lines, where) for k, v in value.items()}
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if kind in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
            if kind is float:
                return number
            if number == int(number):
                return int(number)
        except (TypeError, ValueError, OverflowError):
            pass
    raise RecipeError(f"{at}: {key} is {value!r}; it must be {_spelled(kind)}")


def _coerce_union(kind: Any, value: Any, key: str, lines: dict[str, str], where: str) -> Any:
    options = get_args(kind)
    if value is None:
        if type(None) in options:
            return None
    else:
        for option in (o for o in options if o is not type(None)):
            # A block given for a dataclass must report its own error, not "none of these".
            if dataclasses.is_dataclass(option) and isinstance(value, dict):
                return _coerce(option, value, key, lines, where)
            try:
                return _coerce(option, value, key, lines, where)
            except RecipeError:
                continue
    raise RecipeError(f"{lines.get(key, where)}: {key} is {value!r}; it must be {_spelled(kind)}")


def _spelled(kind: Any) -> str:
    """Say a type as a user would."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_spelled(option) for option in get_args(kind))
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "empty"}
    names |= {list: "a list", dict: "a block of keys"}
    return names.get(get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))


def to_dict(recipe: Any) -> dict[str, Any]:
    """Return a recipe as plain data, defaults included."""
    return dataclasses.asdict(recipe)


def recipe_hash(recipe: Any) -> str:
    """Return the sha256 of a recipe's values, where it is run left out."""
    values = {key: value for key, value in to_dict(recipe).items() if key != "run_dir"}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
