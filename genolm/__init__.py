"""genolm: from genomes to DNA language models, and from models to answers about DNA.

Importing it lets transformers' Auto classes open what they lack, without importing transformers: that happens when, and
if, the Auto classes are.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

__version__ = "0.1.0"

_AUTO_TOKENIZER = "transformers.models.auto.tokenization_auto"


def _register() -> None:
    import_module("genolm.tokenizers.kmer")  # registers itself, if need be after the import that led here


class _OnImport(MetaPathFinder):
    """Runs `_register` right after the module of AutoTokenizer was imported; otherwise finds nothing."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != _AUTO_TOKENIZER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _register()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if _AUTO_TOKENIZER in sys.modules:
    _register()
elif not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
    sys.meta_path.insert(0, _OnImport())
