"""Pages that are made from the code while mkdocs builds, so that they always agree with it.

commands (Typer), recipe keys (dataclasses), recipes (their first lines), results (benchmarks/*.md),
tutorials (notebooks)
"""

import base64
import dataclasses
import inspect
import re
import sys
import textwrap
import types
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


# mkdocs calls these


def on_config(config):
    """Add the tutorials to the navigation."""
    if notebooks():
        pages = [{notebook_title(path): f"tutorials/{path.stem}.md"} for path in notebooks()]
        config.nav.insert(1, {"Tutorials": pages})
    return config


def on_files(files, config):
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def on_post_page(output, page, config):
    """Take the script that makes the search work in a page opened as a file from this site, not from the network."""
    from mkdocs.utils import get_relative_url

    return output.replace(SEARCH_SCRIPT, get_relative_url("assets/iframe-worker.js", page.url))


def on_post_template(output_content, template_name, config):
    """Do the same in the page of an unknown address."""
    return output_content.replace(SEARCH_SCRIPT, "assets/iframe-worker.js")


def pages() -> dict[str, str | bytes]:
    """Return every generated page, by its path in the site."""
    made: dict[str, str | bytes] = {
        "reference/api.md": api_page(),
        "reference/commands.md": commands_page(),
        "reference/recipe-keys.md": recipe_keys_page(),
        "reference/recipes.md": recipes_page(),
        "benchmarks/side-by-side.md": (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"),
        "benchmarks/gpu.md": (ROOT / "benchmarks" / "RESULTS-gpu.md").read_text(encoding="utf-8"),
    }
    for path in notebooks():
        made |= notebook_pages(path)
    return made


SEARCH_SCRIPT = "https://unpkg.com/iframe-worker/shim"


def api_page() -> str:
    """Return the page that mkdocstrings fills with the docstrings of the public names."""
    import genolm

    names = "".join(f"        - {name}\n" for name in genolm.__all__)
    return f"# Python API\n\n::: genolm.api\n    options:\n      members:\n{names}"


# Commands


def commands_page() -> str:
    """Return a section for each command: what it does, its arguments and its options."""
    from genolm.cli import VERBS

    rows = "\n".join(f"| [`{verb}`](#genolm-{verb}) | {cell(text)} |" for verb, text in VERBS.items())
    head = "# Commands\n\nMade from `genolm COMMAND --help`.\n\n| command | what it does |\n|---|---|\n" + rows
    return "\n\n".join([head, *(command_section(verb) for verb in VERBS)]) + "\n"


def command_section(verb: str) -> str:
    """Return the section of one command, from the signature and docstring of its function."""
    from typer.models import ArgumentInfo

    name = verb.replace("-", "_")
    command = getattr(import_module(f"genolm.commands.{name}"), name)
    hints = get_type_hints(command, include_extras=True)
    arguments, options = [], []
    for parameter in inspect.signature(command).parameters.values():
        kind, info = get_args(hints[parameter.name])[:2]
        if not info.hidden:
            (arguments if isinstance(info, ArgumentInfo) else options).append((parameter, kind, info))
    words = [argument_word(*argument) for argument in arguments]
    usage = " ".join(["genolm", verb, *words, *(["[OPTIONS]"] if options else [])])
    parts = [f"## genolm {verb}", f"```text\n{usage}\n```"]
    for paragraph in inspect.cleandoc(command.__doc__ or "").split("\n\n"):
        example = re.match(r"Example: (.*)", " ".join(paragraph.split()))
        parts.append(f"```sh\n{example[1]}\n```" if example else cell(" ".join(paragraph.split())))
    if arguments:
        rows = "\n".join(f"| `{w}` | {cell(a[2].help or '')} |" for w, a in zip(words, arguments, strict=True))
        parts.append(f"| argument | meaning |\n|---|---|\n{rows}")
    if options:
        rows = "\n".join(option_row(*option) for option in options)
        parts.append(f"| option | type | default | meaning |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def argument_word(parameter: inspect.Parameter, kind: Any, info: Any) -> str:
    """Return how an argument is written in the usage line."""
    word = (info.metavar or parameter.name).upper() + ("…" if get_origin(kind) is list else "")
    return word if parameter.default is parameter.empty else f"[{word}]"


def option_row(parameter: inspect.Parameter, kind: Any, info: Any) -> str:
    """Return the table row of an option."""
    dashed = parameter.name.replace("_", "-")
    names = info.param_decls or ((f"--{dashed}/--no-{dashed}",) if kind is bool else (f"--{dashed}",))
    default = "required" if parameter.default is parameter.empty else shown_value(parameter.default)
    several = next((x for x in (kind, *get_args(kind)) if get_origin(x) is list), None)
    shown = "flag" if kind is bool else type_text(get_args(several)[0] if several else kind)
    again = ", repeatable" if several else ""
    return f"| {', '.join(f'`{name}`' for name in names)} | {shown}{again} | {default} | {cell(info.help or '')} |"


# Recipe keys


def recipe_keys_page() -> str:
    """Return the keys of both kinds of recipe, of our models and of the baselines."""
    from genolm.benchmarking.suite import BenchmarkRecipe
    from genolm.config.finetune import FinetuneRecipe
    from genolm.config.pretrain import PretrainRecipe

    parts = [
        "# Recipe keys",
        "Made from the dataclasses of `genolm/config/` and the configurations of `genolm/models/`. Keys are written "
        "with dots on the command line: `data.window_bp=1024`. An unknown key is an error that names the nearest one.",
        "## genolm pretrain",
        *blocks_of(PretrainRecipe),
        "## genolm finetune",
        *blocks_of(FinetuneRecipe),
        "`genolm sweep` reads the same recipe with one more block, `sweep`: key → a list of values, or "
        "`{low: …, high: …, log: true}`.",
        "## genolm benchmark",
        *blocks_of(BenchmarkRecipe),
        *model_keys(),
    ]
    return "\n\n".join(parts) + "\n"


def blocks_of(kind: type, prefix: str = "") -> list[str]:
    """Return the table of a recipe dataclass, then those of the blocks in it; a block used twice is shown once."""
    described = attributes(kind)
    rows, inner = [], {}
    for key in dataclasses.fields(kind):
        block = next((x for x in (key.type, *get_args(key.type)) if dataclasses.is_dataclass(x)), None)
        if block is not None:
            inner.setdefault(block, []).append(f"{prefix}{key.name}")
        rows.append((f"{prefix}{key.name}", type_text(key.type), default_text(key), described.get(key.name, "")))
    title = [f"### The block `{prefix.rstrip('.')}`"] if prefix else []
    made = [*title, cell(summary(kind)), key_table(rows)]
    for block, names in inner.items():
        made += blocks_of(block, f"{names[0]}.")
        if len(names) > 1:
            made.append(f"The same keys: {', '.join(f'`{name}`' for name in names[1:])}.")
    return made


def model_keys() -> list[str]:
    """Return the tables of the block `model`: our architecture, and the options of the baselines."""
    from genolm.models.genolm.configuration import GenoLMConfig

    described = attributes(GenoLMConfig)
    rows = []
    for key in dataclasses.fields(GenoLMConfig):
        if key.name in described:
            rows.append((f"model.{key.name}", type_text(key.type), default_text(key), described[key.name]))
    return [
        "## The block `model` of the architecture `genolm`",
        "Any other `model.architecture` takes the keys of its configuration in transformers.",
        key_table(rows),
    ]


def key_table(rows: list[tuple[str, str, str, str]]) -> str:
    """Return the Markdown table of keys, their types, defaults and meanings."""
    lines = [f"| `{key}` | {kind} | {default} | {cell(text)} |" for key, kind, default, text in rows]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *lines])


def summary(kind: type) -> str:
    """Return a docstring without its sections."""
    text = re.split(r"\n\s*Attributes:", kind.__doc__ or "")[0]
    return " ".join(text.split())


def attributes(kind: type) -> dict[str, str]:
    """Return name → meaning of the section Attributes of a docstring."""
    _, _, text = (kind.__doc__ or "").partition("Attributes:\n")
    entries = re.split(r"\n(?=\w+: )", textwrap.dedent(text).strip())
    pairs = (entry.partition(": ") for entry in entries if ": " in entry)
    return {name.strip(): " ".join(meaning.split()) for name, _, meaning in pairs}


def type_text(kind: Any) -> str:
    """Return a type as a reader of YAML would say it."""
    names = {
        str: "text",
        int: "integer",
        float: "number",
        bool: "true or false",
        Any: "any",
        type(None): "null",
        Path: "path",
    }
    if kind in names:
        return names[kind]
    if dataclasses.is_dataclass(kind):
        return "block"
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_text(x) for x in inner if x is not type(None)))
    if origin is list:
        return f"list of {type_text(inner[0])}"
    if origin is dict:
        return "block"
    return str(kind)


def default_text(key: dataclasses.Field) -> str:
    """Return the default of a key, or that it is required."""
    if key.default is not dataclasses.MISSING:
        return shown_value(key.default)
    if key.default_factory is dataclasses.MISSING:
        return "required"
    made = key.default_factory()
    return "" if dataclasses.is_dataclass(made) else shown_value(made)


def shown_value(value: Any) -> str:
    """Return a default as YAML writes it; nothing for None and for empty collections."""
    if value is None or value in ([], {}, (), "") or not isinstance(value, (str, int, float, bool, list, Path)):
        return ""
    if isinstance(value, list) and value == list(range(len(value))) and len(value) > 3:
        return f"0 … {len(value) - 1}"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# Recipes, notebooks


def recipes_page() -> str:
    """Return the recipes that come with genolm, with the comment at the top of each."""
    from genolm.config.shipped import described, find_recipe, recipe_names

    parts = [
        "# Recipes that come with genolm",
        "Each is called by name from anywhere, as `genolm pretrain quickstart/causal`. `genolm recipes` lists them, "
        "`genolm recipes show NAME` prints one, `genolm recipes copy NAME` copies one to change it.",
    ]
    folder = ""
    for name in recipe_names():
        if name.split("/")[0] != folder:
            folder = name.split("/")[0]
            parts.append(f"## {folder}")
        lines = described(find_recipe(name))
        parts.append(f"### {name}\n\n{cell(lines[0])}")
        if len(lines) > 1:
            parts.append("```text\n" + "\n".join(lines[1:]) + "\n```")
    return "\n\n".join(parts) + "\n"


def notebooks() -> list[Path]:
    """Return the tutorials, in the order of their names."""
    return sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def notebook_title(path: Path) -> str:
    """Return the first heading of a notebook."""
    import nbformat

    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    heading = re.search(r"^# (.+)$", text, re.MULTILINE)
    return heading[1] if heading else path.stem


def notebook_pages(path: Path) -> dict[str, str | bytes]:
    """Return a notebook as a page, and the pictures of its outputs."""
    import nbformat

    parts: list[str] = []
    pictures: dict[str, str | bytes] = {}
    for part in nbformat.read(path, as_version=4).cells:
        if part.cell_type == "markdown":
            parts.append(part.source)
        elif part.cell_type == "code" and part.source.strip():
            shell = part.source.startswith(("%%bash", "!"))
            source = part.source.removeprefix("%%capture\n")
            parts.append(f"```{'sh' if shell else 'python'}\n{source}\n```")
            for output in part.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    name = f"{path.stem}-{len(pictures) + 1}.png"
                    pictures[f"tutorials/{name}"] = base64.b64decode(data["image/png"])
                    parts.append(f"![output of the code above]({name})")
                elif output.get("name") == "stderr":
                    continue  # progress bars
                elif text := output.get("text") or data.get("text/plain"):
                    parts.append(f"```text\n{text.rstrip()}\n```")
    return {f"tutorials/{path.stem}.md": "\n\n".join(parts) + "\n"} | pictures


def cell(text: str) -> str:
    """Return text that is safe within a Markdown table, code spans left alone."""
    pieces = re.split(r"(`[^`]*`)", text)
    plain = [p if p.startswith("`") else p.replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_") for p in pieces]
    return "".join(plain).replace("|", "\\|").strip()
