from dataclasses import dataclass, field
from typing import Literal

import pytest

from genolm.config.yaml import SettingsError, load_settings, within


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: list[str] = field(default_factory=list)

    def __post_init__(self):
        within("rate", self.rate, 0, 1)


@dataclass(frozen=True)
class Outer:
    size: int
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)
    maybe: int | None = None
    either: str | list[str] = ""
    table: dict[str, float] = field(default_factory=dict)
    flag: bool = False


def read(folder, text, *overrides):
    (folder / "r.yaml").write_text(text)
    return load_settings(Outer, folder / "r.yaml", overrides)


def test_values_take_the_type_of_their_field(tmp_path):
    found = read(
        tmp_path,
        "size: 1e3\ninner: {rate: 3e-4, names: [x, 7]}\nmaybe: 5\neither: [p, q]\ntable: {k: 2}\nflag: true\n",
    )
    assert found == Outer(1000, "a", Inner(3e-4, ["x", "7"]), 5, ["p", "q"], {"k": 2.0}, True)
    assert isinstance(found.size, int) and isinstance(found.table["k"], float)


def test_overrides_reach_into_blocks_and_make_them(tmp_path):
    found = read(tmp_path, "size: 1\n", "inner.rate=1e-1", "kind=b", "maybe=", "inner.names=[u, v]")
    assert found == Outer(1, "b", Inner(0.1, ["u", "v"]))


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("size: 1\nsiz: 2\n", [], r"r\.yaml:2: unknown key 'siz'; did you mean 'size'"),
        ("size: 1\ninner:\n  rat: 2\n", [], r"r\.yaml:3: unknown key 'inner.rat'; did you mean 'inner.rate'"),
        ("size: 1\nzzz: 2\n", [], "allowed: size, kind, inner"),
        ("kind: a\n", [], r"r\.yaml: key 'size' is missing"),
        ("size: 1.5\n", [], r"r\.yaml:1: size is 1.5; it must be a whole number"),
        ("size: many\n", [], r"size is 'many'; it must be a whole number"),
        ("size: 1\nkind: c\n", [], r"r\.yaml:2: kind is 'c'; allowed: a, b"),
        ("size: 1\nflag: 1\n", [], "flag is 1; it must be true or false"),
        ("size: 1\ninner: 3\n", [], "inner is 3; it must be a block of keys"),
        ("size: 1\nmaybe: x\n", [], "maybe is 'x'; it must be a whole number or empty"),
        ("size: 1\ninner: {rate: 2}\n", [], r"r\.yaml:2: inner.rate is 2.0; allowed: 0 to 1"),
        ("size: 1\nsize: 2\n", [], r"line 2: key 'size' is already on line 1"),
        ("size: [1\n", [], r"r\.yaml: not YAML"),
        ("- 1\n", [], "it must be a set of `key: value` lines, got list"),
        ("size: 1\n", ["inner.rate=2"], r"override 'inner.rate=2': inner.rate is 2.0; allowed: 0 to 1"),
        ("size: 1\n", ["inner.rat=2"], r"override 'inner.rat=2': unknown key"),
        ("size: 1\n", ["size"], "write key=value"),
        ("size: 1\n", ["size.x=2"], "size is 1, which has no keys below it"),
    ],
)
def test_a_mistake_names_file_line_and_key(tmp_path, text, overrides, message):
    with pytest.raises(SettingsError, match=message):
        read(tmp_path, text, *overrides)


def test_yaml_runs_no_code(tmp_path):
    with pytest.raises(SettingsError):
        read(tmp_path, "size: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(SettingsError):
        read(tmp_path, "size: 1\n", "size=!!python/object/apply:os.getcwd []")
