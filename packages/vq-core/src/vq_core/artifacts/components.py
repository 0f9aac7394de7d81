"""The transformers of a model as an artifact lists them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from pydantic import JsonValue

from vq_core.model.source import Source
from vq_core.store.writer import ComponentHeader


class Described(Protocol):
    """A transformer in whatever form: what a manifest says of it."""

    @property
    def fingerprint(self) -> str:
        """Identity of its weights."""

    @property
    def config(self) -> dict[str, JsonValue]:
        """Its config.json, diffusers' keys."""

    @property
    def lora(self) -> Sequence[Mapping[str, JsonValue]]:
        """The LoRAs that were merged into it."""


def headers_in(folders: Mapping[str, str], components: Mapping[str, Described]) -> dict[str, ComponentHeader]:
    """One header per component, its files in the folder that `folders` has for it."""
    return {
        name: ComponentHeader(folders[name], component.fingerprint, component.config, component.lora)
        for name, component in components.items()
    }


def component_headers(source: Source) -> dict[str, ComponentHeader]:
    """One folder per component, named as it is in the pipeline."""
    return headers_in({name: name for name in source.components}, source.components)
