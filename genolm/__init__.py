"""genolm: from genomes to DNA language models, and from models to answers about DNA.

Importing it lets transformers' Auto classes open the architectures and tokenizers that they lack.
"""

from typing import TYPE_CHECKING

from genolm._auto import register

if TYPE_CHECKING:
    from genolm.api import (
        FinetunedModel,
        Genome,
        Mutations,
        PretrainedModel,
        compare,
        finetune,
        load,
        pretrain,
        tokenizer,
        windows,
    )

__version__ = "0.2.0"
__all__ = [
    "FinetunedModel",
    "Genome",
    "Mutations",
    "PretrainedModel",
    "compare",
    "finetune",
    "load",
    "pretrain",
    "tokenizer",
    "windows",
]

register()


def __getattr__(name: str):
    """Import a public name when it is first used: `import genolm` alone imports nothing large."""
    if name not in __all__:
        raise AttributeError(f"module 'genolm' has no attribute {name!r}")
    from genolm import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
