"""Modules of a user's own that add architectures or baselines, imported before recipes and models that need them.

    plugins: [my_module]            a key of a recipe
    GENOLM_PLUGINS=my_module        for commands that open what such a recipe has made
    [project.entry-points."genolm.plugins"]    of an installed package: always

A module registers an architecture with transformers' Auto classes, or a baseline with
`genolm.models.baselines.register_baseline`. What a downloaded model names is never imported.
"""

import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from genolm.config.yaml import SettingsError

VARIABLE, GROUP = "GENOLM_PLUGINS", "genolm.plugins"


def load_plugins(modules: Sequence[str], key: str = "plugins") -> None:
    """Import modules.

    Raises:
        SettingsError: there is no such module; naming the key that asks for it.
    """
    for name in modules:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            missing = "it" if error.name == name else f"{error.name}, which it imports,"
            raise SettingsError(
                f"{key}: {name} cannot be imported: {missing} is not installed, nor in a folder of PYTHONPATH"
            ) from None


@cache
def load_installed_plugins() -> None:
    """Import the modules of GENOLM_PLUGINS and those that installed packages declare, once."""
    load_plugins(os.environ.get(VARIABLE, "").replace(",", " ").split(), VARIABLE)
    for entry in entry_points(group=GROUP):
        entry.load()
