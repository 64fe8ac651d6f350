"""Read YAML into frozen dataclasses, with dotted overrides. An unknown key is always an error.

    run_dir: runs/first          key: value pairs of a dataclass
    data: {window_bp: 512}       nested blocks
    genolm pretrain recipe.yaml data.window_bp=1024 training.learning_rate=3e-4

Values are converted to the field's type; `3e-4` is a number, which it is not in plain YAML.
"""

import contextlib
import dataclasses
import difflib
import re
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from genolm.config.shipped import find_recipe


class SettingsError(ValueError):
    """A recipe or spec that cannot be used; the message names the file, the line and the key."""


Settings = TypeVar("Settings")


def within(key: str, value: float, low: float | None, high: float | None) -> None:
    """Refuse a value below `low` or above `high`."""
    # Not the other way round: NaN is neither below nor above anything.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        allowed = f"at least {low}" if high is None else f"{low} to {high}"
        raise SettingsError(f"{key} is {value}; allowed: {allowed}")


class _LineLoader(yaml.SafeLoader):
    """A safe loader that refuses repeated keys and remembers the line of each."""

    def __init__(self, stream):
        super().__init__(stream)
        self.lines: dict[str, int] = {}

    def construct_settings(self, node: yaml.Node | None, prefix: str = "") -> Any:
        """Return the plain data of a node, and note the line of every dotted key."""
        if not isinstance(node, yaml.MappingNode):
            return self.construct_object(node, deep=True) if node is not None else None
        block: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(self.construct_object(key_node))
            line = key_node.start_mark.line + 1
            if key in block:
                raise SettingsError(f"line {line}: key {prefix + key!r} is already on line {self.lines[prefix + key]}")
            self.lines[prefix + key] = line
            block[key] = self.construct_settings(value_node, f"{prefix}{key}.")
        return block


# Names are kept as written: YAML 1.1 would make dates of 2026-01-31, 7 of 07, 90 of 1:30 and 10 of 1_0.
_INT, _DATE = "tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp"
_LineLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in (_INT, _DATE)]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_LineLoader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))

_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
"""Numbers that YAML 1.1 reads as text, such as 3e-4."""


def _parse(text: str) -> tuple[Any, dict[str, int]]:
    """Return the plain data of a YAML text, and the line of each dotted key."""
    loader = _LineLoader(text)
    try:
        return loader.construct_settings(loader.get_single_node()), loader.lines
    except RecursionError:
        raise SettingsError("not YAML: an anchor inside itself") from None
    finally:
        loader.dispose()


def load_settings(cls: type[Settings], path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Settings:
    """Read a recipe or a spec.

    Args:
        cls: the dataclass to build.
        path: a YAML file, or the name of a recipe that comes with genolm.
        overrides: `dotted.key=value`, the value as YAML.

    Raises:
        SettingsError: no such file, no YAML, an unknown or missing key, a value of the wrong type or out of range.
    """
    values, lines = read_values(path, overrides)
    return build_settings(cls, values, lines, str(path))


def read_values(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """Read a YAML file as plain data.

    Args:
        path: the file.
        overrides: as in `load_settings`.

    Returns:
        The values, and dotted key → its location for messages: `file.yaml:17`.

    Raises:
        SettingsError: no such file, no YAML, or a malformed override.
    """
    try:
        path = find_recipe(path)
    except ValueError as error:
        raise SettingsError(str(error)) from None
    try:
        values, numbers = _parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: it must be a set of `key: value` lines, got {type(values).__name__}")
    lines = {key: f"{path}:{line}" for key, line in numbers.items()}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise SettingsError(f"override {override!r}: write key=value, as in training.max_steps=100")
        try:
            value, _ = _parse(text)
        except yaml.YAMLError:
            value = text
        except SettingsError as error:
            raise SettingsError(f"override {override!r}: {error}") from None
        set_key(values, key, value, f"override {override!r}")
        lines = {name: line for name, line in lines.items() if not name.startswith(f"{key}.")}
        lines[key] = f"override {override!r}"
    return values, lines


def build_settings(cls: type[Settings], values: dict[str, Any], lines: dict[str, str], where: str) -> Settings:
    """Build a dataclass from plain data.

    Args:
        cls: the dataclass.
        values: plain data, as in a YAML file.
        lines: dotted key → its location for messages.
        where: the location of keys that are not in `lines`.

    Raises:
        SettingsError: as `load_settings`.
    """
    return _build(cls, values, "", lines, where)


def set_key(values: dict[str, Any], dotted: str, value: Any, what: str) -> None:
    """Set a dotted key of plain data; missing blocks above it are added.

    Raises:
        SettingsError: naming `what`, where a key above has a value and is no block.
    """
    *parents, last = dotted.split(".")
    for parent in parents:
        below = values.setdefault(parent, {})
        if below is None:
            below = values[parent] = {}
        if not isinstance(below, dict):
            raise SettingsError(f"{what}: {parent} is {below!r}, which has no keys below it")
        values = below
    values[last] = value


def _build(cls: Any, values: dict[str, Any], prefix: str, lines: dict[str, str], where: str) -> Any:
    """Build a dataclass from plain data; `prefix` is the dotted key of its block."""
    types_of = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {prefix + near[0]!r}?" if near else f"allowed: {', '.join(names)}"
            raise SettingsError(f"{lines.get(prefix + key, where)}: unknown key {prefix + key!r}; {hint}")
    built = {}
    for f in dataclasses.fields(cls):
        key = prefix + f.name
        if f.name in values:
            built[f.name] = _coerce(types_of[f.name], values[f.name], key, lines, where)
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{lines.get(prefix[:-1], where)}: key {key!r} is missing")
    try:
        return cls(**built)
    except SettingsError as error:
        at = next(
            (lines[prefix + name] for name in names if str(error).startswith(name) and prefix + name in lines), where
        )
        raise SettingsError(f"{at}: {prefix}{error}") from None


def _coerce(kind: Any, value: Any, key: str, lines: dict[str, str], where: str) -> Any:
    """Convert plain data to a field's type, or say why it cannot be."""
    origin, at = get_origin(kind), lines.get(key, where)
    if kind is Any:
        return _with_exponents(value)
    if origin in (Union, types.UnionType):
        return _coerce_union(kind, value, key, lines, where)
    if origin is Literal:
        if value in get_args(kind):
            return value
        raise SettingsError(f"{at}: {key} is {value!r}; allowed: {', '.join(map(str, get_args(kind)))}")
    if dataclasses.is_dataclass(kind):
        if value is None or isinstance(value, dict):
            return _build(kind, value or {}, key + ".", lines, at)
        raise SettingsError(f"{at}: {key} is {value!r}; it must be a block of keys")
    if origin is list and isinstance(value, list):
        return [_coerce(get_args(kind)[0], item, key, lines, where) for item in value]
    if origin is dict and isinstance(value, dict):
        return {str(k): _coerce(get_args(kind)[1], v, f"{key}.{k}", lines, where) for k, v in value.items()}
    if kind in _PARSERS and isinstance(value, bool) == (kind is bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return _PARSERS[kind](value)
    raise SettingsError(f"{at}: {key} is {value!r}; it must be {_spelled(kind)}")


def _with_exponents(value: Any) -> Any:
    """Convert text such as 3e-4 to numbers, wherever it stands in plain data."""
    if isinstance(value, dict):
        return {key: _with_exponents(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_exponents(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _text(value: Any) -> str:
    if not isinstance(value, (str, int, float)):
        raise TypeError
    return str(value)


def _whole_number(value: Any) -> int:
    if isinstance(value, int):
        return value
    if (number := float(value)) != int(number):
        raise ValueError
    return int(number)


_PARSERS = {str: _text, int: _whole_number, float: float, bool: bool}
"""Type of a scalar field → its parser, which raises TypeError, ValueError or OverflowError."""


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
            except SettingsError:
                continue
    raise SettingsError(f"{lines.get(key, where)}: {key} is {value!r}; it must be {_spelled(kind)}")


def _spelled(kind: Any) -> str:
    """Name a type in words."""
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_spelled(option) for option in get_args(kind))
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", type(None): "empty"}
    names |= {list: "a list", dict: "a block of keys"}
    return names.get(get_origin(kind) or kind, getattr(kind, "__name__", str(kind)))
