"""One file a config: data, the model for them, and how it is trained. Add a file, and its name is a command."""

from __future__ import annotations

import importlib
import pkgutil

from experiments.config import Config


def all_configs() -> dict[str, tuple[str, Config]]:
    """Give ``{name: (first line of its docstring, config)}`` of those whose data set is known."""
    return {name: entry for name, entry in configs_to_train().items() if entry[1].data.known}


def configs_to_train() -> dict[str, tuple[str, Config]]:
    """The same with those for data of one's own, which the command line names."""
    names = [module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.CONFIG.name: (module.__doc__.splitlines()[0], module.CONFIG) for module in modules}
