"""Imports run one way through the folders, in the order in which data flows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ORDER = (
    "config genome tokenizers data labels metrics models inference training variants plan reports pretraining "
    "finetuning benchmarking api commands cli __main__"
).split()
FRONT = {"__init__", "_auto"}
"""Registration names modules by strings, and imports them when transformers is imported."""
FOREIGN = {"config": {"torch", "transformers"}, "genome": {"torch", "transformers"}, "tokenizers": {"torch"}}


def is_family(path: Path) -> bool:
    """Whether a file is of the genolm family, which is also shipped beside a model without the rest."""
    return path.parts[-3:-1] == ("models", "genolm")


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, or in import_module("…")."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or is_family(path), f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names if not node.level}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            parts = name.values if isinstance(name, ast.JoinedStr) else [name]
            names.add("".join(str(part.value) for part in parts if isinstance(part, ast.Constant)))
    return names


def violations(package: Path) -> list[str]:
    wrong = []
    for path in sorted(package.rglob("*.py")):
        where = path.relative_to(package)
        folder = where.parts[0].removesuffix(".py")
        if folder in FRONT:
            continue
        for name in imports(path):
            top, *rest = name.split(".")
            if top in FOREIGN.get(folder, ()):
                wrong.append(f"{where} imports {name}")
            if top != "genolm" or not rest or rest[0] == "__version__":
                continue
            upwards = rest[0] not in ORDER or ORDER.index(rest[0]) > ORDER.index(folder)
            between_commands = folder == rest[0] == "commands" and where.stem != "demo"
            if is_family(path) or upwards or between_commands:
                wrong.append(f"{where} imports {name}")
        if where.as_posix() != "training/trainer.py":
            wrong += [f"{where}: {name} subclasses a Trainer" for name in trainers(path)]
    return wrong


def trainers(path: Path) -> list[str]:
    """Classes of a file whose base is a Trainer."""
    tree = ast.parse(path.read_text())
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names]
    renamed = {alias.asname for alias in aliases if alias.asname and alias.name.endswith("Trainer")}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return [
        node.name
        for node in classes
        if any(ast.unparse(base).endswith("Trainer") or ast.unparse(base) in renamed for base in node.bases)
    ]


def test_the_import_direction(project_dir):
    package = project_dir / "genolm"
    assert violations(package) == []
    entries = {path.name.removesuffix(".py") for path in package.iterdir() if path.name != "__pycache__"}
    assert entries <= {*ORDER, *FRONT, "py.typed"}


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("genome/x.py", "from genolm.tokenizers.build import load_spec"),
        ("genome/x.py", "import torch"),
        ("genome/x.py", "def f():\n    from transformers import AutoTokenizer"),
        ("tokenizers/x.py", "if True:\n    import torch.nn.functional as F"),
        ("tokenizers/x.py", "from genolm import data"),
        ("data/x.py", "async def f():\n    import genolm.models.build as b"),
        ("data/x.py", "import_module('genolm.training.trainer')"),
        ("data/x.py", "class Mine(transformers.Trainer): pass"),
        ("models/x.py", "from genolm.inference import perplexity"),
        ("metrics/x.py", "from genolm.variants import vcf"),
        ("training/x.py", "import genolm.commands.pretrain"),
        ("training/x.py", "from transformers import Trainer as Base\nclass Mine(Base): pass"),
        ("commands/x.py", "from genolm.commands.pretrain import run"),
        ("commands/x.py", "import importlib\ndef f(verb):\n    importlib.import_module(f'genolm.commands.{verb}')"),
        ("commands/x.py", "from genolm import commands"),
        ("config/x.py", "from genolm.genome.store import Store"),
        ("config/x.py", "from genolm.helpers import f"),
        ("models/genolm/x.py", "from genolm.models.loss import f"),
        ("models/genolm/x.py", "import genolm.models.genolm.ssm"),
    ],
)
def test_a_violation_is_reported(tmp_path, file, line):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("genome/x.py", "import numpy\nfrom genolm.genome.store import Store"),
        ("tokenizers/x.py", "from transformers import AutoTokenizer"),
        ("training/x.py", "from genolm.models.loss import weighted_token_loss\nimport genolm.metrics.bits"),
        ("training/trainer.py", "from transformers import Trainer\nclass Mine(Trainer): pass"),
        ("commands/demo.py", "from genolm.commands.pretrain import run"),
        (
            "commands/x.py",
            "import genolm\nfrom genolm import __version__\nfrom genolm.config.recipe import flatten_recipe",
        ),
        ("data/x.py", "# import genolm.models\n'from genolm.models import build'"),
        ("models/genolm/x.py", "import torch\nfrom transformers import AutoConfig\nfrom .ssm import StateSpace"),
    ],
)
def test_allowed_imports_are_no_violation(tmp_path, file, line):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path) == []


def test_a_relative_import_outside_the_family_is_refused(tmp_path):
    for file in ("genome/x.py", "models/genolm.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("from .build import f\n")
        with pytest.raises(AssertionError, match="relative import"):
            violations(tmp_path)
        (tmp_path / file).unlink()


@pytest.mark.parametrize(
    ("folders", "foreign"), [(("config", "genome"), ("torch", "transformers")), (("metrics",), ("torch",))]
)
def test_light_folders_import_no_heavy_library(project_dir, folders, foreign):
    """The files name none of these at import; nor may anything that they import bring them in."""
    files = [path for folder in folders for path in (project_dir / "genolm" / folder).glob("*.py")]
    names = sorted(".".join(path.relative_to(project_dir).with_suffix("").parts) for path in files)
    assert len(names) >= 4
    code = (
        f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\n"
        f"print([name for name in {foreign} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_dir)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
