"""HTML pages and model cards from the templates of this package.

A page needs nothing else: no script, no network, no font but the reader's own. HTML templates escape all values, and a
policy in the page forbids every request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: the value.
        note: small, under the value.
        verdict: `better` and `worse` get a mark.
        best: shown in bold.
        tone: CSS class of a run, whose name this is.
    """

    text: str
    note: str = ""
    verdict: str = ""
    best: bool = False
    tone: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """A table of a page; a newline in a head is a line break."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("genolm.reports"),
        autoescape=select_autoescape(("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: object) -> str:
    """Fill a template of this package."""
    return _environment().get_template(template).render(values)
