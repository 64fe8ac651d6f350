"""Registration with transformers' Auto classes, without importing transformers: when, and if, the Auto classes are."""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

_REGISTERED_BY = {
    "transformers.models.auto.tokenization_auto": ["genolm.tokenizers.kmer"],
    "transformers.models.auto.configuration_auto": [
        "genolm.models.genolm.configuration",
        "genolm.models.baseline_configuration",
    ],
    "transformers.models.auto.modeling_auto": [
        "genolm.models.genolm.modeling",
        "genolm.models.baselines",
        "genolm.models.label_model",
    ],
}
"""Modules of the Auto classes, and what registers itself with them when imported."""


class _OnImport(MetaPathFinder):
    """Imports what registers itself right after a module of the Auto classes was; otherwise finds nothing."""

    def __init__(self, modules: dict[str, list[str]]):
        self.modules = modules

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.modules:
            return None
        registers = self.modules.pop(fullname)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                for name in registers:
                    import_module(name)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Register with the Auto classes that are imported already, and with the others as soon as they are."""
    for auto, registers in _REGISTERED_BY.items():
        if auto in sys.modules:
            for name in registers:
                import_module(name)
    if not any(isinstance(finder, _OnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OnImport({k: v for k, v in _REGISTERED_BY.items() if k not in sys.modules}))
