"""Plugins by file name: a module in a plugin package is a plugin, and its name is what users type."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from vq_core.errors import VqError


def plugin_names(package: str) -> list[str]:
    """Sorted names of the plugins in `package` (a dotted package name); plugins are not imported."""
    paths = import_module(package).__path__
    return sorted(module.name for module in iter_modules(paths) if not module.name.startswith("_"))


def load_plugin(package: str, name: str) -> ModuleType:
    """Import the plugin `name` of `package`.

    Raises:
        VqError: there is no such plugin; the message lists the known ones.
    """
    known = plugin_names(package)
    if name not in known:
        what = package.rsplit(".", 1)[-1]
        raise VqError(f"`{name}` is not one of the {what} ({', '.join(known)}): choose one of those.")
    return import_module(f"{package}.{name}")
