"""Reading an artifact, with every promise of its manifest checked."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from threading import Lock

from torch import Tensor

from vq_core.errors import VqError
from vq_core.files import tensor_file
from vq_core.files.buffers import Buffers
from vq_core.files.weights_file import SafetensorsFile
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.store.manifest import Manifest, TensorEntry, read_manifest
from vq_core.store.resumable_folder import files_in


class Artifact:
    """A complete artifact, opened by `open_artifact`. A file's digest is checked before its first tensor is read."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._verified: set[str] = set()
        self._verifying: dict[str, Lock] = {}
        self._files: dict[str, SafetensorsFile] = {}
        self._buffers = Buffers()

    @cached_property
    def digest(self) -> str:
        """Identity of the artifact: what a child records as its parent."""
        return self.manifest.digest()

    def entry(self, component: str, name: str) -> TensorEntry:
        """What the manifest says of the tensor `name` of a component.

        Raises:
            VqError: it knows none of that name.
        """
        table = self.manifest.components[component].tensors
        if name not in table:
            raise VqError(f"{self.path} has no tensor `{name}` for {component}: make the artifact again.")
        return table[name]

    def tensors(self, component: str, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """Tensors of a component by name, in the order of `names`.

        Raises:
            VqError: the artifact has no such tensor, or a file is not the one that was written.
        """
        names = list(names)
        by_file: dict[str, list[str]] = {}
        for name in names:
            by_file.setdefault(self.entry(component, name).file, []).append(name)
        loaded: dict[str, Tensor] = {}
        for file, wanted in by_file.items():
            self.verify_file(file)
            if device == "cpu":
                loaded |= tensor_file.load_tensors(self.path / file, wanted)
            else:  # a mapped file would be copied page by page, each a fault
                loaded |= self._opened(file).load(wanted, device)
        return {name: loaded[name] for name in names}

    def _opened(self, file: str) -> SafetensorsFile:
        if file not in self._files:
            self._files[file] = SafetensorsFile(self.path / file, self._buffers)
        return self._files[file]

    def verify_file(self, file: str) -> None:
        """Compare the digest of `file` with the manifest, once, whichever threads ask for it.

        Raises:
            VqError: they differ.
        """
        with self._verifying.setdefault(file, Lock()):
            if file in self._verified:
                return
            path = self.path / file
            if tensor_file.sha256_of(path) != self.manifest.files[file].sha256:
                raise VqError(
                    f"{path} is not the file that was written (its SHA-256 differs): copy or make the artifact again."
                )
            self._verified.add(file)

    def verify(self, component: str, names: Iterable[str]) -> None:
        """Compare the digests of the files that hold the tensors `names` of a component.

        Raises:
            VqError: a file is not the one that was written.
        """
        table = self.manifest.components[component].tensors
        for file in {table[name].file for name in names if name in table}:
            self.verify_file(file)


def open_artifact(location: Location, kind: str, fmt: int) -> Artifact:
    """Open the artifact of `kind` in the folder `location`, refusing one whose files are not those of its manifest.

    Raises:
        VqError: see `read_manifest`; a file is missing, unexpected, of the wrong size, or its header disagrees.
    """
    path = local_copy(location)
    manifest = read_manifest(path, kind, fmt)
    if missing := sorted(file for file in manifest.files if not (path / file).is_file()):
        raise VqError(f"{path} lacks {missing[0]} ({len(missing)} files missing): copy or make the artifact again.")
    if extra := sorted(set(files_in(path)) - manifest.files.keys()):
        raise VqError(f"{path} holds {extra[0]}, which is not part of the artifact: move it away.")
    for file, entry in manifest.files.items():
        size = (path / file).stat().st_size
        if size != entry.size:
            raise VqError(
                f"{path / file} has {size} bytes and should have {entry.size}: copy or make the artifact again."
            )
    _check_tensor_tables(path, manifest)
    return Artifact(path, manifest)


def _check_tensor_tables(path: Path, manifest: Manifest) -> None:
    headers = {file: tensor_file.read_header(path / file) for file in manifest.files if file.endswith(".safetensors")}
    for component in manifest.components.values():
        for name, entry in component.tensors.items():
            info = headers.get(entry.file, {}).get(name)
            if info is None or (info.dtype, list(info.shape)) != (entry.dtype, entry.shape):
                found = "nothing" if info is None else f"{info.dtype} {list(info.shape)}"
                raise VqError(
                    f"`{name}` in {path / entry.file} should be {entry.dtype} {entry.shape} and is {found}: "
                    "copy or make the artifact again."
                )


def require_same_model(artifact: Artifact, fingerprints: Mapping[str, str], whose: object) -> None:
    """Refuse `artifact` unless it is about the model with these `fingerprints` (by component).

    Raises:
        VqError: names both.
    """
    for name, fingerprint in fingerprints.items():
        entry = artifact.manifest.components.get(name)
        if entry is None:
            raise VqError(f"{artifact.path} knows nothing of {name} of {whose}: make it from the whole model.")
        if entry.fingerprint != fingerprint:
            raise VqError(
                f"{artifact.path} was made from another model ({artifact.manifest.model}) than {whose}: "
                "use artifacts of one model, with the same LoRAs merged."
            )


def require_parent(child: Artifact, parent: Artifact) -> None:
    """Refuse `child` unless it was made from exactly `parent`.

    Raises:
        VqError: names both.
    """
    if child.manifest.parents.get(parent.manifest.kind) != parent.digest:
        raise VqError(
            f"{child.path} was not made from {parent.path}: give the {parent.manifest.kind} it was made from."
        )
