"""Statistics summed over prompts, on disk, so that a killed run loses one prompt and memory holds one block.

Inside the folder of an unfinished artifact:

* `.prompt/`: what each bucket of the current prompt has gathered, one file after another;
* `rows-N/`: the sampled rows of the Nth prompt, by shard;
* `.next/`: the new sums while they are written, after a prompt is finished;
* `totals-N/`: the sums over N prompts, by shard. Renaming `.next` to it changes the sums and the number of prompts at
  once.

Sums and rows of finished prompts are in the artifact's journal; without one of them, all prompts have to be run again.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from vq_calib.observing.outliers import merge_outliers, no_outliers
from vq_calib.observing.sampled_rows import joined_rows, prompt_rows
from vq_calib.planning.token_plan import Tables
from vq_core.artifacts.stats import SPLIT_PARTS
from vq_core.artifacts.sums import merge_sums, sum_names, zero_sums
from vq_core.errors import VqError
from vq_core.files.tensor_file import load_tensors, write_tensors
from vq_core.sampling.schedule import BUCKETS
from vq_core.store.writer import ArtifactWriter
from vq_core.topology import Group, Topology, shard_of

INSEPARABLE = ("totals-*", "rows-*")


class Totals:
    """Sums over prompts in the folder of an unfinished artifact; continues what an earlier run has finished.

    `tables` has the sampled tokens of each component, or is None where none are sampled.
    """

    def __init__(
        self, writer: ArtifactWriter, topologies: Mapping[str, Topology], tables: Mapping[str, Tables] | None
    ) -> None:
        """Continue in the folder of `writer`.

        Raises:
            VqError: a file of the sums or rows of finished prompts is missing.
        """
        self._writer = writer
        self._folder = writer.path(".")
        self._topologies = topologies
        self._tables = tables
        self._pieces: list[tuple[str, int, Path]] = []
        finished = sorted(int(path.name.removeprefix("totals-")) for path in self._folder.glob("totals-*"))
        self.prompts = finished[-1] if finished else 0
        for prompts in finished[:-1]:
            shutil.rmtree(self._totals(prompts))
        self._drop_prompt()
        self._require_all()

    def _require_all(self) -> None:
        """Refuse to go on without a file that is still needed."""
        for component, shard, _ in self._shards():
            file = f"{component}/{shard}.safetensors"
            if self.prompts and not self._writer.has(file):
                rows = range(1, self.prompts + 1) if self._tables is not None else ()
                for path in (self._totals(self.prompts) / file, *(self._rows(prompt) / file for prompt in rows)):
                    if not path.exists():
                        raise VqError(
                            f"{path} of the prompts that were finished is missing: "
                            f"remove {self._folder} and run the same command again."
                        )

    @property
    def complete(self) -> bool:
        """Has `finish` written everything?"""
        written = all(self._writer.has(f"{component}/{shard}.safetensors") for component, shard, _ in self._shards())
        return written and not self._totals(self.prompts).exists()

    def add_bucket(self, component: str, bucket: int, gathered: Mapping[str, Tensor]) -> None:
        """Add to the current prompt what an observer handed over for one bucket of one transformer."""
        path = self._folder / ".prompt" / f"{len(self._pieces)}.safetensors"
        write_tensors(path, gathered)
        self._pieces.append((component, bucket, path))

    def end_prompt(self) -> None:
        """Add the current prompt to the sums, and keep its sampled rows."""
        digests = {}
        for component, shard, groups in self._shards():
            file = f"{component}/{shard}.safetensors"
            pieces = [(bucket, path) for of, bucket, path in self._pieces if of == component]
            if self._tables is not None:
                rows = prompt_rows([path for _, path in pieces], groups)
                self._writer.write_tensors(f"{self._rows(self.prompts + 1).name}/{file}", rows)
            totals = self._before(file, groups)
            for bucket, path in pieces:
                _add(groups, totals, bucket, load_tensors(path, totals))
            digests[file] = write_tensors(self._folder / ".next" / file, totals)
        self._writer.publish_folder(".next", self._totals(self.prompts + 1).name, digests)
        if self.prompts:
            shutil.rmtree(self._totals(self.prompts))
        self.prompts += 1
        self._drop_prompt()

    def _drop_prompt(self) -> None:
        """Forget the unfinished prompt."""
        self._pieces = []
        for name in (".prompt", ".next"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def finish(self) -> None:
        """Write sums and sampled rows to the files of the artifact."""
        for component, shard, groups in self._shards():
            file = f"{component}/{shard}.safetensors"
            if self._writer.has(file):
                continue
            tensors = self._before(file, groups)
            if self._tables is not None:
                tables = self._tables[component]
                files = [self._rows(prompt) / file for prompt in range(1, self.prompts + 1)]
                tensors |= joined_rows(files, groups, tables)
                if shard == "non_block":
                    tensors |= {f"tokens.{SPLIT_PARTS[split]}": table for split, table in tables.items()}
            self._writer.write_tensors(file, tensors)
        for prompt in range(1, self.prompts + 1):
            shutil.rmtree(self._rows(prompt), ignore_errors=True)
        shutil.rmtree(self._totals(self.prompts))

    def _shards(self) -> Iterator[tuple[str, str, list[Group]]]:
        """Component, name and groups of every shard."""
        for component, topology in self._topologies.items():
            for shard in topology.shards():
                yield component, shard, [group for group in topology.groups if shard_of(group.name) == shard]

    def _totals(self, prompts: int) -> Path:
        return self._folder / f"totals-{prompts}"

    def _rows(self, prompt: int) -> Path:
        return self._folder / f"rows-{prompt}"

    def _before(self, file: str, groups: list[Group]) -> dict[str, Tensor]:
        """The sums of one shard over the prompts that are finished."""
        sums: dict[str, Tensor] = {}
        for group in groups:
            sums |= zero_sums(group, BUCKETS)
            if group.sequence == "video":
                sums |= no_outliers(group)
        return load_tensors(self._totals(self.prompts) / file, sums) if self.prompts else sums


def _add(groups: list[Group], totals: dict[str, Tensor], bucket: int, piece: Mapping[str, Tensor]) -> None:
    sums = {name: totals[name] for group in groups for name in sum_names(group)}
    for name, merged in merge_sums({name: total[bucket] for name, total in sums.items()}, piece).items():
        totals[name][bucket] = merged
    for group in groups:
        if group.sequence == "video":
            totals |= merge_outliers(group, totals, piece)
