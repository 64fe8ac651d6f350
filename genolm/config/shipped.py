"""Files that come with genolm: recipes, tokenizer specs and launch profiles, found by name from anywhere."""

from pathlib import Path

from genolm.config.console import did_you_mean

PACKAGE = Path(__file__).parents[1]
FOLDERS = ("quickstart", "genolm", "benchmarks", "published")
"""Folders of recipes, in the order of `genolm recipes`; `accelerate` holds launch profiles."""


def shipped_folder(kind: str) -> Path:
    """Return the folder `recipes` or `tokenizer_configs`: within the installed package, or at the top of a checkout."""
    inside = PACKAGE / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with genolm, as `quickstart/causal`; launch profiles are no recipes."""
    root = shipped_folder("recipes")
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml"))
    kept = (name for name in names if name.split("/")[0] in FOLDERS)
    return sorted(kept, key=lambda name: (FOLDERS.index(name.split("/")[0]), name))


def find_recipe(given: str | Path) -> Path:
    """Return the file of a recipe: an existing path, or the name of one that comes with genolm.

    `quickstart/causal`, `quickstart/causal.yaml` and `recipes/quickstart/causal.yaml` name the same one.

    Raises:
        ValueError: neither; naming what is near.
    """
    path = Path(given)
    if path.is_file():
        return path
    names = recipe_names()
    name = path.as_posix().removeprefix("recipes/").removesuffix(".yaml")
    if name in names:
        return shipped_folder("recipes") / f"{name}.yaml"
    near = did_you_mean(name, names, cutoff=0.75)
    hint = near or "check the path and the folder the command is run in; `genolm recipes` lists the recipes by name"
    raise ValueError(f"{given}: no such file, and no recipe of that name; {hint}")


def described(path: Path) -> list[str]:
    """Return the comment at the top of a recipe, line by line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.lstrip("# ") for line in lines[:end]]
