"""The package speaks the field's language: refused names and phrases, and no public name in two files."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

IDENTIFIERS = {"found", "told", "asked", "about", "held", "wanted", "known", "begun", "beside", "gone"}
"""Names that do not say what they hold."""
PHRASES = re.compile(
    r"is no verb|parted by|gone? on with|goes on (?:with|where|from)|go on from|going on with|none of a |cannot be told"
    r"|is told|are told|so many of|of its like|passed over",
    re.IGNORECASE,
)


def defined_names(node: ast.AST) -> list[str]:
    """Names that a node of a syntax tree defines or assigns."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Name):
        return [node.id] if isinstance(node.ctx, ast.Store) else []
    if isinstance(node, ast.Attribute):
        return [node.attr] if isinstance(node.ctx, ast.Store) else []
    return [node.asname] if isinstance(node, ast.alias) and node.asname else []


def refused_words(path: Path) -> Iterator[str]:
    """Yield each refused name and phrase of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        for name in defined_names(node):
            if name.strip("_").lower() in IDENTIFIERS:
                yield f"{path.name}:{getattr(node, 'lineno', 0)}: {name!r} does not say what it is"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := PHRASES.search(node.value)):
            yield f"{path.name}:{node.lineno}: {match[0]!r} is not the field's language"


def shared_names(package: Path) -> list[str]:
    """Public top-level functions and classes in more than one file; the API is named as the commands are."""
    places = defaultdict(list)
    for path in sorted(path for path in package.rglob("*.py") if path.parent != package / "api"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(package).as_posix())
    return [f"{name}: {', '.join(files)}" for name, files in places.items() if len(files) > 1]


def test_names_and_messages_are_plain(project_dir):
    files = sorted((project_dir / "genolm").rglob("*.py"))
    assert len(files) > 100
    assert [words for path in files for words in refused_words(path)] == []


def test_no_public_name_stands_in_two_files(project_dir):
    assert shared_names(project_dir / "genolm") == []


@pytest.mark.parametrize(
    "line",
    [
        "found = 1",
        "def told(): pass",
        "def f(asked): pass",
        "class Held: pass",
        "self.known = 1",
        "import x as about",
        "for wanted in (): pass",
        "raise ValueError(f'{x} is no verb')",
        "'columns parted by tabs'",
    ],
)
def test_a_refused_word_is_reported(tmp_path, line):
    (tmp_path / "x.py").write_text(line + "\n")
    assert len(list(refused_words(tmp_path / "x.py"))) == 1


def test_a_shared_name_is_reported(tmp_path):
    (tmp_path / "a.py").write_text("def f(): pass\n\ndef _g(): pass\n")
    (tmp_path / "b.py").write_text("class f: pass\n\ndef _g(): pass\n")
    assert shared_names(tmp_path) == ["f: a.py, b.py"]
