"""Statistics summed over prompts, on disk, so that a killed run loses one prompt and memory holds one block.

Inside the folder of an unfinished artifact:

* `prompt/`: what each bucket of the current prompt has gathered, one file after another;
* `next/`: the sums being written once the prompt is done;
* `totals-N/`: the sums over N prompts, in the layout of the finished artifact. Renaming `next` to it is the one
  moment at which both the sums and the number of prompts change.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vq_core.artifacts.stats import BRANCHES, BUCKETS
from vq_core.statistics import all_statistics
from vq_core.tensor_file import load_tensors, publish, write_tensors
from vq_core.topology import Group, Topology, shard_of


class Totals:
    """Sums over prompts in the folder of an unfinished artifact; takes up what an earlier run has finished."""

    def __init__(self, folder: Path, topologies: Mapping[str, Topology]) -> None:
        self._folder = folder
        self._topologies = topologies
        self._pieces: list[tuple[str, int, Path]] = []
        finished = sorted(self._generation(path) for path in folder.glob("totals-*"))
        self.prompts = finished[-1] if finished else 0
        for prompts in finished[:-1]:
            shutil.rmtree(self._totals(prompts))
        self.drop_prompt()

    @property
    def complete(self) -> bool:
        """Were the sums moved to their final places, by `finish`?"""
        moved = all((self._folder / component).exists() for component in self._topologies)
        return moved and not self._totals(self.prompts).exists()

    def add_bucket(self, component: str, bucket: int, sums: Mapping[str, Tensor]) -> None:
        """Add to the current prompt what `Accumulator.take` returned for one bucket of one transformer."""
        path = self._folder / "prompt" / f"{len(self._pieces)}.safetensors"
        write_tensors(path, sums)
        self._pieces.append((component, bucket, path))

    def end_prompt(self) -> None:
        """Add the current prompt to the sums."""
        for component, topology in self._topologies.items():
            for shard in topology.shards():
                file = f"{component}/{shard}.safetensors"
                groups = [group for group in topology.groups if shard_of(group.name) == shard]
                sums = self._before(file, groups)
                for _, bucket, path in (piece for piece in self._pieces if piece[0] == component):
                    _add(sums, bucket, load_tensors(path, sums))
                write_tensors(self._folder / "next" / file, sums)
        publish(self._folder / "next", self._totals(self.prompts + 1))
        if self.prompts:
            shutil.rmtree(self._totals(self.prompts))
        self.prompts += 1
        self.drop_prompt()

    def drop_prompt(self) -> None:
        """Forget the unfinished prompt."""
        self._pieces = []
        for name in ("prompt", "next"):
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def finish(self) -> None:
        """Move the sums to where the artifact has them."""
        totals = self._totals(self.prompts)
        for path in sorted(totals.iterdir()):
            publish(path, self._folder / path.name)
        totals.rmdir()

    def _totals(self, prompts: int) -> Path:
        return self._folder / f"totals-{prompts}"

    @staticmethod
    def _generation(path: Path) -> int:
        return int(path.name.removeprefix("totals-"))

    def _before(self, file: str, groups: list[Group]) -> dict[str, Tensor]:
        """The sums over the prompts that are done, of one shard."""
        sums: dict[str, Tensor] = {}
        for group in groups:
            for name, statistic in all_statistics().items():
                sums[f"{group.name}.{name}"] = torch.zeros(
                    BUCKETS, len(BRANCHES), group.in_features, dtype=statistic.DTYPE
                )
            sums[f"{group.name}.count"] = torch.zeros(BUCKETS, len(BRANCHES), dtype=torch.int64)
        return load_tensors(self._totals(self.prompts) / file, sums) if self.prompts else sums


def _add(sums: dict[str, Tensor], bucket: int, piece: Mapping[str, Tensor]) -> None:
    statistics = all_statistics()
    for name, total in sums.items():
        part = name.rpartition(".")[2]
        merge = torch.add if part == "count" else statistics[part].merge
        total[bucket] = merge(total[bucket], piece[name])
