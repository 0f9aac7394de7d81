"""The transformers of a model as an artifact lists them."""

from vq_core.source import Source
from vq_core.store import ComponentHeader


def component_headers(source: Source) -> dict[str, ComponentHeader]:
    """One folder per component, named as it is in the pipeline."""
    return {
        name: ComponentHeader(name, checkpoint.fingerprint, checkpoint.config, checkpoint.lora)
        for name, checkpoint in source.components.items()
    }
