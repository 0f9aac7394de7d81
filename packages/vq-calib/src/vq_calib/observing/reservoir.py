"""The rows that are kept of the inputs of one transformer's groups: sampled tokens, and conditions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vq_calib.observing.sampled_rows import unique_rows
from vq_calib.planning.token_plan import Script, ScriptedCall, in_split
from vq_core.artifacts.stats import SPLITS
from vq_core.topology import Group


class Reservoir:
    """Gathers rows as a script says: on the device during a step, on the host until they are taken."""

    def __init__(self, groups: Sequence[Group], script: Script) -> None:
        self._video = [group.name for group in groups if group.sequence == "video"]
        self._conditions = [group.name for group in groups if group.sequence != "video"]
        self._script = script
        self._call: ScriptedCall | None = None
        self._index = torch.empty(0, dtype=torch.int64)
        self._on_device: dict[str, list[Tensor]] = {}
        self._on_host: dict[str, list[Tensor]] = {}
        self._positions: list[Tensor] = []
        self._counts: dict[str, list[Tensor]] = {}

    def begin_call(self, call: ScriptedCall, device: torch.device) -> None:
        """Assign what is added from now on to `call`."""
        self._call = call
        self._index = call.tokens.to(device, non_blocking=True)
        self._positions.append(call.positions)

    def add(self, group: Group, x: Tensor) -> None:
        """Keep the sampled rows of `x` `[tokens, in]`, the input of `group`, or all rows of a condition that is new."""
        assert self._call is not None
        if group.sequence == "video":
            self._keep(group.name, x[self._index])
        elif self._script.samples and self._call.call.step == self._script.calls[0].call.step:
            self._keep(group.name, x.clone())
            self._counts.setdefault(group.name, []).append(self._split_counts(len(x)))

    def _keep(self, group: str, rows: Tensor) -> None:
        self._on_device.setdefault(group, []).append(rows.bfloat16())

    def _split_counts(self, tokens: int) -> Tensor:
        """For each of `tokens` tokens 1 in the column of its split, int64 `[tokens, splits]`."""
        assert self._call is not None
        masks = [in_split(self._script.prompt, self._call.call, split, torch.arange(tokens)) for split in SPLITS]
        return torch.stack(masks, dim=1).long()

    def end_step(self) -> None:
        """Move what the step has gathered to the host; waits for the device."""
        for group, rows in self._on_device.items():
            self._on_host.setdefault(group, []).extend(part.cpu() for part in rows)
        self._on_device.clear()

    def take(self) -> dict[str, Tensor]:
        """What was gathered since the last `take`.

        Returns:
            If the script samples: `GROUP.sampled` bf16 `[n, in]` of the groups that read the video and `positions`
            int64 `[n]`; of a condition that was new, `GROUP.rows` bf16 `[m, in]` and `GROUP.row_counts` int64
            `[m, splits]`.
        """
        self.end_step()
        taken: dict[str, Tensor] = {}
        if self._script.samples:
            # Group by group, so that the parts and the whole of all groups never lie in memory together.
            taken = {f"{group}.sampled": torch.cat(self._on_host.pop(group)) for group in self._video}
            taken["positions"] = torch.cat(self._positions)
            for group in self._conditions:
                if group in self._on_host:
                    rows, counts = unique_rows(torch.cat(self._on_host[group]), torch.cat(self._counts[group]))
                    taken[f"{group}.rows"], taken[f"{group}.row_counts"] = rows, counts
        for gathered in (self._on_host, self._counts):
            gathered.clear()
        self._positions.clear()
        return taken
