"""What a GGUF file does not say of a transformer's tensors."""

from collections.abc import Mapping
from dataclasses import replace

from vq_core.files.gguf_file import GgufFile
from vq_core.model.tensor_naming import StoredTensor


def gguf_types(tensors: Mapping[str, StoredTensor]) -> str:
    """What `tensors` are stored as in GGUF, such as "GGUF's Q8_0, F16"; empty if they are in other files."""
    types = {it.file.types[it.key].name for it in tensors.values() if isinstance(it.file, GgufFile)}
    return f"GGUF's {', '.join(sorted(types))}" if types else ""


def with_lost_ones(
    tensors: Mapping[str, StoredTensor], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, StoredTensor]:
    """`tensors` with the leading ones of `shapes` that GGUF's tools leave out; other shapes are as they are."""

    def restored(name: str, tensor: StoredTensor) -> StoredTensor:
        shape, found = shapes.get(name, ()), tensor.info.shape
        lost = len(shape) - len(found)
        return replace(tensor, shape=shape) if lost > 0 and shape == (1,) * lost + found else tensor

    return {name: restored(name, tensor) for name, tensor in tensors.items()}
