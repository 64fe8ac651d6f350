"""What commands show in a terminal: progress bars, and the nearest name to a mistyped one."""

import difflib
import sys
from collections.abc import Iterable
from typing import Any


def did_you_mean(word: object, options: Iterable[str], otherwise: str = "", num: int = 1, cutoff: float = 0.6) -> str:
    """Return "did you mean 'x'?" for the nearest option or options, or `otherwise` where none is near."""
    near = difflib.get_close_matches(str(word), list(options), n=num, cutoff=cutoff)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else otherwise


def progress_bar(iterable: Iterable | None = None, *, desc: str, unit: str, total: int | None = None, **options: Any):
    """Return a tqdm bar on stderr: every half second in a terminal, every 30 s in a log file.

    Args:
        iterable: what to iterate over, or None to call `update` by hand.
        desc: what is being done.
        unit: of the count, such as "seq".
        total: items in all.
        options: further options of tqdm, such as `disable`.
    """
    from tqdm.auto import tqdm

    return tqdm(
        iterable, desc=desc, unit=unit, total=total, mininterval=0.5 if sys.stderr.isatty() else 30.0, **options
    )
