"""Plugins: a module in a plugin package, or an entry point of an installed package; its name is what users type."""

from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

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


def installed_names(group: str) -> list[str]:
    """Sorted names of the entry points in `group`; they are not loaded."""
    return sorted(entry_points(group=group).names)


def load_installed(group: str, name: str) -> Any:
    """The object of the entry point `name` in `group`; None if there is none."""
    return next((entry.load() for entry in entry_points(group=group, name=name)), None)
