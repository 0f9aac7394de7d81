"""How the manifest of an artifact lists the transformers of a model."""

from collections.abc import Mapping

from pydantic import JsonValue

from vq_core.model.source import Source
from vq_core.model.transformer_reader import DescribedTransformer
from vq_core.store.writer import ComponentHeader, Header


def headers_in(
    folders: Mapping[str, str], components: Mapping[str, DescribedTransformer[object]]
) -> dict[str, ComponentHeader]:
    """One header per component; `folders` names the folder of each."""
    return {
        name: ComponentHeader(folders[name], component.fingerprint, component.config, component.lora)
        for name, component in components.items()
    }


def component_headers(source: Source) -> dict[str, ComponentHeader]:
    """One header per component, in a folder of the name that the component has in the pipeline."""
    return headers_in({name: name for name in source.components}, source.components)


def model_header(
    source: Source,
    kind: str,
    fmt: int,
    *,
    tool: str,
    settings: dict[str, JsonValue],
    parents: dict[str, str] | None = None,
) -> Header:
    """Header of an artifact about all transformers of the model `source`."""
    return Header(
        kind=kind,
        format=fmt,
        tool=tool,
        family=source.family_name,
        model=source.name,
        components=component_headers(source),
        settings=settings,
        parents=parents or {},
    )
