"""An entry of the catalogue, and the copy of a checkpoint that it breaks and seals as the writer would."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import load_tensors, read_header, read_metadata, sha256_of, write_tensors
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.store.manifest import FILE_NAME, FileEntry, Manifest, TensorEntry
from vq_core.store.resumable_folder import files_in


class Content:
    """A copy of the checkpoint `original` in the new folder `path`."""

    def __init__(self, original: Path, path: Path) -> None:
        self.path = path
        shutil.copytree(original, path)

    def file_of(self, name: str) -> Path:
        """The file that holds the tensor `name`."""
        return next(path for path in sorted(self.path.glob("*.safetensors")) if name in read_header(path))

    def tensors_in(self, file: Path) -> dict[str, Tensor]:
        """Every tensor of `file`."""
        return load_tensors(file, read_header(file))

    def tensor(self, name: str) -> Tensor:
        """The tensor `name`."""
        return load_tensors(self.file_of(name), [name])[name]

    def rewrite(self, file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
        """Let `change` work on the tensors of `file`; its metadata stay, and the index follows."""
        tensors = self.tensors_in(file)
        before = set(tensors)
        change(tensors)
        kept = {key: value for key, value in read_metadata(file).items() if key != "format"}
        write_tensors(file, {name: tensor.contiguous() for name, tensor in tensors.items()}, kept)
        index = file.parent / INDEX_FILE
        if index.exists():
            listed = json.loads(index.read_text())
            for name in before - tensors.keys():
                del listed["weight_map"][name]
            listed["weight_map"] |= dict.fromkeys(sorted(tensors.keys() - before), file.name)
            index.write_text(json.dumps(listed))

    def change(self, name: str, edited: Callable[[Tensor], Tensor]) -> None:
        """Replace the tensor `name`."""
        self.rewrite(self.file_of(name), lambda tensors: tensors.update({name: edited(tensors[name])}))

    def put(self, name: str, position: int, value: float) -> None:
        """Set one element of the tensor `name`."""

        def edited(tensor: Tensor) -> Tensor:
            flat = tensor.clone()
            flat.view(-1)[position] = torch.tensor(value).to(tensor.dtype)
            return flat

        self.change(name, edited)

    def drop(self, name: str) -> None:
        """Lose the tensor `name`."""
        self.rewrite(self.file_of(name), lambda tensors: tensors.pop(name))

    def rename(self, change: Callable[[str], str]) -> None:
        """Rename every tensor."""
        for file in sorted(self.path.glob("*.safetensors")):

            def renamed(tensors: dict[str, Tensor]) -> None:
                for name in list(tensors):
                    tensors[change(name)] = tensors.pop(name)

            self.rewrite(file, renamed)

    def swap(self, first: str, second: str) -> None:
        """Exchange the tensors `first` and `second`."""
        a, b = self.tensor(first), self.tensor(second)
        self.change(first, lambda _: b)
        self.change(second, lambda _: a)

    def edit_json(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Let `change` work on the JSON object in `file`."""
        content = json.loads((self.path / file).read_text())
        change(content)
        (self.path / file).write_text(json.dumps(content))

    def edit_run_configs(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Let `change` work on every run config for present releases."""
        for path in sorted((self.path / "run_configs").glob("*.json")):
            self.edit_json(path.relative_to(self.path).as_posix(), change)

    def seal(self) -> None:
        """Write the manifest that belongs to the files as they are: only their meaning is wrong then."""
        content = json.loads((self.path / FILE_NAME).read_text())
        content.pop("digest")
        manifest = Manifest.model_validate(content)
        files = {file: _entry(self.path / file) for file in files_in(self.path)}
        components = {
            name: component.model_copy(update={"tensors": self._tensors(component.folder) or component.tensors})
            for name, component in manifest.components.items()
        }
        sealed = manifest.model_copy(update={"files": files, "components": components})
        (self.path / FILE_NAME).write_text(sealed.to_json())

    def _tensors(self, folder: str) -> dict[str, TensorEntry]:
        """The table of the tensors in `folder`; empty where a file cannot be read."""
        table = {}
        try:
            for path in sorted((self.path / folder).glob("*.safetensors")):
                file = path.relative_to(self.path).as_posix()
                for name, info in read_header(path).items():
                    table[name] = TensorEntry(file=file, dtype=info.dtype, shape=list(info.shape))
        except VqError:
            return {}
        return dict(sorted(table.items()))


def _entry(path: Path) -> FileEntry:
    return FileEntry(size=path.stat().st_size, sha256=sha256_of(path))


@dataclass(frozen=True)
class Broken:
    """One way in which a checkpoint can be broken.

    Attributes:
        name: in the catalogue.
        runtime: how LightX2V reacts.
        says: a part of the sentence that verify must print, so that the right check has found it.
        edit: breaks a sound checkpoint.
        example: which of the sound checkpoints.
        damaged: the break happened after the manifest was written; else it is sealed again, as its writer would.
    """

    name: str
    runtime: str
    says: str
    edit: Callable[[Content], object]
    example: str = "int8"
    damaged: bool = False
