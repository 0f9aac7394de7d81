"""Writing an artifact atomically and resumably.

It is built in `NAME.partial` beside its final place, one finished file after another, and renamed when its manifest is
complete. After a crash the finished files are taken up again by `resume`, each only with the digest that was noted
before it got its name.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from vq_core.errors import GateFailed, Unfinished, VqError
from vq_core.files import tensor_file
from vq_core.remote.claim import claimed
from vq_core.remote.location import Location, Uri
from vq_core.remote.transfer import deliver, refuse_existing, staging_path
from vq_core.store.journal import Journal
from vq_core.store.manifest import FILE_NAME, ComponentEntry, FileEntry, LoraEntry, Manifest, TensorEntry
from vq_core.store.resumable_folder import (
    RESUME_FILE,
    begin,
    check_resumable,
    files_in,
    forget,
    partial_folder,
    take_up,
    tidy,
    unverified_folder,
)

Check = Callable[[Path], None]
"""Looks at a complete artifact before it gets its name, and raises GateFailed where it must not."""


@dataclass(frozen=True)
class ComponentHeader:
    """A transformer that an artifact is about; `folder` holds its files inside the artifact ("" for the root).

    `lora` are the entries of the LoRAs that were merged into it, see `vq_core.store.manifest.LoraEntry`.
    """

    folder: str
    fingerprint: str
    config: dict[str, JsonValue]
    lora: Sequence[Mapping[str, JsonValue]] = ()


@dataclass(frozen=True)
class Header:
    """What is known of an artifact before its first file is written; two runs that agree in it may be joined."""

    kind: str
    format: int
    tool: str
    family: str
    model: str
    components: dict[str, ComponentHeader]
    settings: dict[str, JsonValue] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, JsonValue]:
        """The header as JSON.

        Raises:
            VqError: a name in it is not text, as a manifest is.
        """
        components = {name: vars(component) for name, component in self.components.items()}
        text = json.dumps({**vars(self), "components": components}, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            around = ascii(text[max(0, error.start - 20) : error.end + 20])
            raise VqError(f"A name is not UTF-8 text, which the manifest is ({around}): rename the file.") from None
        identity: dict[str, JsonValue] = json.loads(text)
        return identity


class ArtifactWriter:
    """Writes the files of one artifact into its partial folder; made by `create_artifact`.

    Where several processes write into one folder, `rank` tells them apart.
    """

    def __init__(self, folder: Path, header: Header, check: Check | None = None, *, rank: int = 0) -> None:
        self._folder = folder
        self._header = header
        self._check = check
        self._journal = Journal(folder, rank)
        self._drafted: dict[str, str] = {}
        self._measured: dict[str, JsonValue] = {}

    def has(self, file: str) -> bool:
        """Was `file` (path inside the artifact) finished, now or by the run that is being resumed?"""
        return file in self._journal and self.path(file).is_file()

    def path(self, file: str) -> Path:
        """Where `file` lies, once it is finished, while the artifact is being written."""
        return self._folder / file

    def write_tensors(
        self, file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write one safetensors file of the artifact; several threads may write one each.

        `metadata` goes into its header.
        """
        self.draft_tensors(file, tensors, metadata)
        self.publish(file)

    def draft_tensors(
        self, file: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
    ) -> None:
        """Write what `write_tensors` does, which is a file of the artifact only when it is published."""
        self._drafted[file] = tensor_file.draft_tensors(self.path(file), tensors, metadata)

    def publish(self, file: str) -> None:
        """Flush `file`, which was drafted, to the disk, and make it one of the artifact's."""
        self._journal.note({file: self._drafted.pop(file)})
        tensor_file.publish_draft(self.path(file))

    def write_text(self, file: str, text: str) -> None:
        """Write one text file of the artifact."""
        content = text.encode()
        self._journal.note({file: hashlib.sha256(content).hexdigest()})
        tensor_file.write_bytes(self.path(file), content)

    def draft(self, file: str) -> Path:
        """Where to write `file` by other means; it is a file of the artifact only when it is adopted."""
        path = self.path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}")

    def adopt(self, file: str) -> None:
        """Make what lies in `draft(file)` one of the artifact's files."""
        self._journal.note({file: tensor_file.sha256_of(self.draft(file))})
        tensor_file.publish(self.draft(file), self.path(file))

    def publish_folder(self, draft: str, folder: str, digests: Mapping[str, str]) -> None:
        """Give the folder `draft` the name `folder`; `digests` has the SHA-256 of each file by its path in it."""
        self._journal.note({f"{folder}/{file}": digest for file, digest in digests.items()})
        tensor_file.publish(self.path(draft), self.path(folder))

    def note_measured(self, measured: Mapping[str, JsonValue]) -> None:
        """Let the manifest say `measured`: what is known only when the files are written."""
        self._measured.update(measured)

    def commit(self, final: Location) -> None:
        """Write the manifest over all files, check what was written, and move it to its final place or upload it.

        Raises:
            GateFailed: the check failed. What was written lies beside its final place, see `unverified_folder`.
        """
        files, digests = files_in(self._folder), self._journal.digests()
        if foreign := [file for file in files if file not in digests]:
            raise VqError(
                f"{self.path(foreign[0])} was not written by this run: move it away and run the same command again "
                "with --resume."
            )
        components = {name: self._component(entry, files) for name, entry in self._header.components.items()}
        manifest = Manifest(
            kind=self._header.kind,
            format=self._header.format,
            tool=self._header.tool,
            family=self._header.family,
            model=self._header.model,
            settings=self._header.settings,
            parents=self._header.parents,
            measured=self._measured,
            components=components,
            files={file: FileEntry(size=self.path(file).stat().st_size, sha256=digests[file]) for file in files},
        )
        tensor_file.write_bytes(self._folder / FILE_NAME, manifest.to_json().encode())
        finished = self._folder
        if self._check is not None:
            finished = unverified_folder(final)
            tensor_file.publish(self._folder, finished)
            try:
                self._check(finished)
            except GateFailed:
                forget(finished)
                raise
        advice = f"what was made lies finished in {finished}, and the same command with --resume uploads it"
        there = deliver(finished, final, last=FILE_NAME, advice=advice)
        # Last, so that a kill at any moment before finds a folder that can be resumed; readers ignore it.
        forget(there)

    def _component(self, header: ComponentHeader, files: Iterable[str]) -> ComponentEntry:
        tensors = {}
        for file in files:
            if file.endswith(".safetensors") and str(Path(file).parent) == (header.folder or "."):
                for name, info in tensor_file.read_header(self._folder / file).items():
                    tensors[name] = TensorEntry(file=file, dtype=info.dtype, shape=list(info.shape))
        return ComponentEntry(
            folder=header.folder,
            fingerprint=header.fingerprint,
            config=header.config,
            lora=[LoraEntry.model_validate(entry) for entry in header.lora],
            tensors=dict(sorted(tensors.items())),
        )


@contextmanager
def create_artifact(
    path: Location,
    header: Header,
    *,
    resume: bool = False,
    check: Check | None = None,
    inseparable: Collection[str] = (),
) -> Iterator[ArtifactWriter]:
    """Build the artifact `path`; it appears there, complete, when the block ends without an error.

    Before it gets its name, `check` is called with the folder in which it was built, complete. Files whose paths match
    one of the patterns `inseparable` cannot be made again alone.

    An error in the input (VqError) that a fresh run meets before any file is finished leaves nothing. Whatever ends a
    run later leaves the partial folder for `resume`, and a VqError then says so.

    Raises:
        VqError: `path` exists or cannot be written; another command writes it; a partial folder exists and `resume` is
            off; it was made with other settings, or a file in it is not as it was written; or what failed its check is
            still there.
        GateFailed: `check` raised it.
    """
    with claimed(staging_path(path)):
        yield from _create(path, header, resume, check, inseparable)


def _create(
    path: Location, header: Header, resume: bool, check: Check | None, inseparable: Collection[str]
) -> Iterator[ArtifactWriter]:
    partial, unverified = partial_folder(staging_path(path)), unverified_folder(path)
    if (unverified / RESUME_FILE).exists():  # stopped while it was checked or uploaded
        tensor_file.publish(unverified, partial)
    elif unverified.exists():
        raise VqError(f"{unverified} is in the way, which failed its check: see what is wrong with it, and remove it.")
    resumed = (partial / RESUME_FILE).exists()
    tidy(staging_path(path))
    # Half of an upload may be there, never its manifest.
    refuse_existing(path / FILE_NAME if resume and resumed and isinstance(path, Uri) else path)
    if resumed:
        check_resumable(partial, header.identity(), resume, path)
        take_up(partial, inseparable)
    else:
        if partial.exists() and (not partial.is_dir() or any(not it.name.startswith(".") for it in partial.iterdir())):
            raise VqError(
                f"{partial} is in the way and is not from an interrupted run: move it or choose another --output."
            )
        begin(partial, header.identity())
    writer = ArtifactWriter(partial, header, check)
    try:
        yield writer
    except VqError as error:
        if files_in(partial):
            raise type(error)(
                f"{error} What is finished lies in {partial}: mend the cause and run the same command with --resume, "
                "or remove it."
            ) from error
        if not resumed and not isinstance(error, Unfinished):
            shutil.rmtree(partial)
        raise
    writer.commit(path)
