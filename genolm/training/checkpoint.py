"""The folder that plain AutoModel and AutoTokenizer load: whole or absent, never half-written."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from genolm.models.build import without_bars


def write_checkpoint(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, about: dict[str, Any]
) -> None:
    """Write weights, tokenizer and `genolm.json` beside the folder, then put them in its place.

    Args:
        folder: where; what it held is replaced.
        model: as trained.
        tokenizer: what its ids mean.
        about: what the model is, saw and reached; becomes `genolm.json`.
    """
    aside = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    with without_bars():
        model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    (aside / "genolm.json").write_text(json.dumps(about, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(aside, folder)
