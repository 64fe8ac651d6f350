"""Imports run one way: genome ← tokenizers ← data ← {models, variants, evaluation} ← training ← commands ← cli."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# What each part may import, itself apart.
LEAVES = {"settings", "freed_memory"}
ALLOWED = {
    "settings": set(),
    "freed_memory": set(),
    "provenance": set(),
    "recipe": {"settings"},
    "genome": LEAVES,
    "tokenizers": {"genome"} | LEAVES,
    "data": {"genome", "tokenizers"} | LEAVES,
    "models": {"genome", "tokenizers", "data"} | LEAVES,
    "variants": {"genome", "tokenizers", "data"} | LEAVES,
    "evaluation": {"genome", "tokenizers", "data", "provenance"} | LEAVES,
    "suite": {"recipe"} | LEAVES,
    "space": {"recipe"} | LEAVES,
    "training": {"genome", "tokenizers", "data", "models", "variants", "evaluation", "provenance"} | LEAVES,
}
ALLOWED["parts"] = {"provenance", "recipe", "genome", "tokenizers", "data", "models", "training"} | LEAVES
ALLOWED["labelled_parts"] = ALLOWED["parts"] | {"evaluation"}
ALLOWED["recipe_check"] = ALLOWED["labelled_parts"]
ALLOWED["labelled_fit"] = ALLOWED["labelled_parts"] | {"recipe_check"}
ALLOWED["search"] = {"evaluation", "provenance", "recipe", "recipe_check", "space", "training"} | LEAVES
ALLOWED["zero_shot"] = {"genome", "models", "training", "variants"} | LEAVES
ALLOWED["commands"] = set(ALLOWED)
ALLOWED["cli"] = {"commands"}
ALLOWED["__main__"] = {"cli"}
ALLOWED["__init__"] = {"tokenizers", "models"}
FOREIGN = {"genome": {"torch", "transformers"}, "tokenizers": {"torch"}, "evaluation": {"torch", "transformers"}}


def is_family(path: Path) -> bool:
    """Whether a file is of the genolm family, which is also shipped beside a model without the rest."""
    return path.parts[-3:-1] == ("models", "genolm")


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, or in import_module("…")."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or is_family(path), f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names if not node.level}
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
            if is_family(path) or (rest[0] != part and rest[0] not in ALLOWED[part]):
                wrong.append(f"{where} imports {name}")
            if part == "commands" and rest[0] == "commands" and where.stem != "demo":
                wrong.append(f"{where} imports {name}")
        if where.as_posix() != "training/trainer.py":
            tree = ast.parse(path.read_text())
            renamed = {
                alias.asname
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
                if alias.asname and alias.name.endswith("Trainer")
            }
            for node in ast.walk(tree):
                bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
                if any(base.endswith("Trainer") or base in renamed for base in bases):
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
        ("genome/x.py", "def f():\n    from transformers import AutoTokenizer"),
        ("tokenizers/x.py", "if True:\n    import torch.nn.functional as F"),
        ("tokenizers/x.py", "from genolm import data"),
        ("data/x.py", "async def f():\n    import genolm.models.build as b"),
        ("data/x.py", "import_module('genolm.training.trainer')"),
        ("variants/x.py", "from genolm.models.nats import score_windows"),
        ("evaluation/x.py", "from genolm.variants import vcf"),
        ("evaluation/x.py", "class A:\n    def f(self):\n        import torch"),
        ("models/x.py", "from genolm.provenance import versions"),
        ("training/x.py", "from genolm.recipe import recipe_hash"),
        ("training/x.py", "from transformers import Trainer as Base\nclass Mine(Base): pass"),
        ("commands/x.py", "import importlib\ndef f(verb):\n    importlib.import_module(f'genolm.commands.{verb}')"),
        ("commands/x.py", "from genolm.cli import VERBS"),
        ("commands/x.py", "from genolm import commands"),
        ("recipe/x.py", "from genolm.provenance import versions"),
    ],
)
def test_a_violation_is_found(tmp_path, file, line):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("genome/x.py", "import numpy\nfrom genolm.genome.store import Store"),
        ("tokenizers/x.py", "from transformers import AutoTokenizer"),
        ("data/x.py", "def f():\n    import torch"),
        ("training/x.py", "from genolm.models.loss import weighted_token_loss\nimport genolm.evaluation.bits"),
        ("training/trainer.py", "from transformers import Trainer\nclass Mine(Trainer): pass"),
        ("commands/demo.py", "from genolm.commands.pretrain import run"),
        ("commands/x.py", "import genolm\nfrom genolm import __version__\nfrom genolm.recipe import recipe_hash"),
        ("data/x.py", "# import genolm.models\n'from genolm.models import build'"),
    ],
)
def test_what_is_allowed_is_no_violation(tmp_path, file, line):
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path) == []


def test_a_relative_import_is_refused(tmp_path):
    (tmp_path / "genome").mkdir()
    (tmp_path / "genome" / "x.py").write_text("from ..tokenizers import build\n")
    with pytest.raises(AssertionError, match="relative import"):
        violations(tmp_path)


def test_a_family_file_imports_its_neighbours_and_nothing_else_of_genolm(tmp_path):
    family = tmp_path / "models" / "genolm"
    family.mkdir(parents=True)
    (family / "x.py").write_text("import torch\nfrom transformers import AutoConfig\nfrom .ssm import StateSpace\n")
    assert violations(tmp_path) == []
    for line in (
        "from genolm.models.loss import f",
        "import genolm.models.genolm.ssm",
        "from genolm.settings import f",
    ):
        (family / "x.py").write_text(f"{line}\n")
        assert len(violations(tmp_path)) == 1, line
    # One folder up there is no family, whatever the name.
    (family / "x.py").unlink()
    (tmp_path / "models" / "genolm.py").write_text("from .build import f\n")
    with pytest.raises(AssertionError, match="relative import"):
        violations(tmp_path)


@pytest.mark.parametrize(
    ("parts", "foreign"),
    [(("genome", "settings", "recipe", "provenance"), ("torch", "transformers")), (("evaluation",), ("torch",))],
)
def test_what_is_imported_along_is_no_heavier(project_dir, parts, foreign):
    """The files name none of these; nor may anything that they import bring them in."""
    package = project_dir / "genolm"
    files = [path for part in parts for path in (*package.glob(f"{part}/*.py"), *package.glob(f"{part}.py"))]
    names = sorted(".".join(path.relative_to(project_dir).with_suffix("").parts) for path in files)
    assert len(names) >= 4
    code = (
        f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\n"
        f"print([name for name in {foreign} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_dir)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
