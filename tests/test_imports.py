"""Imports run one way: genome ← tokenizers ← data ← {models, variants, evaluation} ← training ← commands ← cli."""

import ast
from pathlib import Path

import pytest

# What each part may import, itself apart.
LEAVES = {"settings"}
ALLOWED = {
    "settings": set(),
    "provenance": set(),
    "recipe": {"settings"},
    "genome": LEAVES,
    "tokenizers": {"genome"} | LEAVES,
    "data": {"genome", "tokenizers"} | LEAVES,
    "models": {"genome", "tokenizers", "data"} | LEAVES,
    "variants": {"genome", "tokenizers", "data"} | LEAVES,
    "evaluation": {"genome", "tokenizers", "data"} | LEAVES,
    "training": {"genome", "tokenizers", "data", "models", "variants", "evaluation"} | LEAVES,
}
ALLOWED["commands"] = set(ALLOWED)
ALLOWED["cli"] = {"commands"}
ALLOWED["__main__"] = {"cli"}
ALLOWED["__init__"] = {"tokenizers"}
FOREIGN = {"genome": {"torch", "transformers"}, "tokenizers": {"torch"}, "evaluation": {"torch", "transformers"}}


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, or in import_module("…")."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            parts = name.values if isinstance(name, ast.JoinedStr) else [name]
            found.add("".join(str(part.value) for part in parts if isinstance(part, ast.Constant)))
    return found


def violations(package: Path) -> list[str]:
    wrong = []
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        part = where.parts[0].removesuffix(".py")
        for name in imports(path):
            top, *rest = name.split(".")
            if top in FOREIGN.get(part, ()):
                wrong.append(f"{where} imports {name}")
            if top != "genolm" or not rest or rest[0] == "__version__":
                continue
            if rest[0] != part and rest[0] not in ALLOWED[part]:
                wrong.append(f"{where} imports {name}")
            if part == "commands" and rest[0] == "commands" and where.stem != "demo":
                wrong.append(f"{where} imports {name}")
        if where.as_posix() != "training/trainer.py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and any(ast.unparse(b).endswith("Trainer") for b in node.bases):
                    wrong.append(f"{where}: {node.name} subclasses a Trainer")
    return wrong


def test_the_import_direction(project_dir):
    assert violations(project_dir / "genolm") == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("genome/x.py", "from genolm.tokenizers.build import load_spec"),
        ("genome/x.py", "import torch"),
        ("tokenizers/x.py", "def f():\n    from genolm.recipe import PretrainRecipe"),
        ("models/x.py", "from genolm.evaluation import bits"),
        ("evaluation/x.py", "from torch import nn"),
        ("training/x.py", "import genolm.commands.pretrain"),
        ("commands/x.py", "from genolm.commands.pretrain import run"),
        ("data/x.py", "class Mine(transformers.Trainer): pass"),
    ],
)
def test_a_violation_is_found(tmp_path, file, line):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(line + "\n")
    assert len(violations(tmp_path)) == 1
