"""A comparison as files: metrics.json and a page, in a folder that holds nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genolm.config.files import refuse_other, write_text
from genolm.config.provenance import versions
from genolm.metrics.comparison import compare, without_nan
from genolm.metrics.runs import group, read_run
from genolm.reports.page import page

WRITTEN = ("metrics.json", "index.html")


def write_comparison(folders: Sequence[str | Path], out: Path, split: str = "test", **options) -> dict[str, Any]:
    """Compare finished runs and write `metrics.json` and `index.html`.

    Args:
        folders: run folders of `genolm finetune`; one that is there twice counts once.
        out: made if need be.
        split: whose rows are compared.
        options: further arguments of `comparison.compare`.

    Returns:
        The comparison, as `comparison.compare` has it.

    Raises:
        ValueError: the runs cannot be read or compared, or `out` holds something else.
    """
    _refuse_other(out)
    found = [read_run(run, split) for run in dict.fromkeys(folders)]
    comparison = compare(found, split=split, **options)
    used = versions()
    text = page(comparison, group(found), used)
    out.mkdir(parents=True, exist_ok=True)
    about = {"made_by": "genolm compare", "versions": used} | without_nan(comparison)
    write_text(out / "metrics.json", json.dumps(about, indent=1))
    write_text(out / "index.html", text)
    return comparison


def _refuse_other(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier comparison."""
    refuse_other(out, WRITTEN, "comparison")
    written = out / "metrics.json"
    if written.exists() and '"made_by": "genolm compare"' not in written.read_text(errors="replace")[:200]:
        raise ValueError(f"--out {out} holds a metrics.json that is no comparison; give a new folder")
