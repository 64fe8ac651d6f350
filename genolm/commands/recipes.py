"""`genolm recipes`: the recipes that come with genolm, listed, shown or copied."""

from pathlib import Path
from typing import Annotated

import typer

from genolm.config.shipped import described, find_recipe, recipe_names


def recipes(
    action: Annotated[str, typer.Argument(help="list, show or copy.")] = "list",
    name: Annotated[str, typer.Argument(help="Recipe, such as quickstart/causal.", autocompletion=recipe_names)] = "",
    out: Annotated[Path | None, typer.Option(help="For copy: the new file; by default NAME.yaml here.")] = None,
) -> None:
    """List the recipes that come with genolm; print one; copy one, to change it.

    Example: genolm recipes copy quickstart/causal --out mine.yaml
    """
    if action == "list" and not name:
        names = recipe_names()
        for one in names:
            typer.echo(f"{one:<{max(map(len, names))}}  {described(find_recipe(one))[0]}")
        return
    if action not in ("show", "copy") or not name:
        raise ValueError("write genolm recipes, genolm recipes show NAME, or genolm recipes copy NAME")
    path = find_recipe(name)
    text = path.read_text(encoding="utf-8")
    if action == "show":
        typer.echo(text, nl=False)
        return
    out = out or Path(path.name)
    try:
        with open(out, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ValueError(f"{out} exists already; give another name with --out") from None
    typer.echo(f"{out} written; its first lines say what it needs", err=True)
