"""Blocks of a transformer that wait on the host and are on the device only when they are needed.

Two places on the device alternate: while the block in one computes, the next is copied into the other, on its own
stream. A block is always in the same place, so nothing is allocated between steps, and addresses in a kernel's
descriptors or a captured graph stay valid.
"""

from itertools import chain
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from vq_infer.memory.pinned import PinnedBytes

HOOK = "vq_block_offload"
PLACES = 2


class BlockOffload:
    """The offloaded blocks of one transformer: `take` each when it is complete, then call `start` once."""

    def __init__(self, device: torch.device) -> None:
        """Offload from `device`; on the CPU copies are synchronous, without streams."""
        self._device = device
        self._taken: dict[int, tuple[nn.Module, PinnedBytes]] = {}
        self._contents: list[PinnedBytes] = []
        self._places: list[Tensor] = []
        self._in_place: list[int | None] = [None] * PLACES
        self._gpu = device.type == "cuda"
        self._copies = torch.cuda.Stream(device) if self._gpu else None
        self._copied = [torch.cuda.Event() for _ in range(PLACES)] if self._gpu else []
        self._computed = [torch.cuda.Event() for _ in range(PLACES)] if self._gpu else []

    @property
    def host_bytes(self) -> int:
        """Bytes of the blocks in host memory."""
        return sum(content.nbytes for _, content in self._taken.values())

    def take(self, block: nn.Module, position: int) -> None:
        """Move the parameters and buffers of `block` to the host; blocks run in the order of their positions.

        The block cannot run before `start`.
        """
        tensors = _tensors(block)
        self._taken[position] = block, PinnedBytes(tensors, pinned=self._gpu)
        for tensor in tensors:
            tensor.data = torch.empty(0, dtype=tensor.dtype, device=self._device)

    def start(self) -> None:
        """Allocate the places on the device, and hook every taken block so that it and the next are fetched in time."""
        if not self._taken:
            return
        taken = [self._taken[position] for position in sorted(self._taken)]
        self._contents = [content for _, content in taken]
        size = max(content.nbytes for content in self._contents)
        self._places = [torch.empty(size, dtype=torch.uint8, device=self._device) for _ in range(PLACES)]
        for index, memory in enumerate(self._places):
            self.after(index)  # wait for earlier uses of this memory
            if self._copies is not None:
                memory.record_stream(self._copies)  # the last block copied in a run is not computed
        for index, (block, content) in enumerate(taken):
            memory = self._places[index % PLACES]
            for tensor, place in zip(_tensors(block), content.places, strict=True):
                tensor.data = place.view(memory)
            # Registered before any cache's hook, so it is the inner one: a skipped block is not fetched.
            HookRegistry.check_if_exists_or_initialize(block).register_hook(_Fetch(self, index), HOOK)

    def before(self, index: int) -> None:
        """Make the next computation wait for block `index` in its place, and start to fetch the block after it."""
        self._fetch(index)
        if self._gpu:
            torch.cuda.current_stream(self._device).wait_event(self._copied[index % PLACES])
        following = (index + 1) % len(self._contents)
        if following % PLACES != index % PLACES:
            self._fetch(following)

    def after(self, index: int) -> None:
        """Free the place of block `index` once the work that is queued now is done."""
        if self._gpu:
            self._computed[index % PLACES].record(torch.cuda.current_stream(self._device))

    def _fetch(self, index: int) -> None:
        place = index % PLACES
        if self._in_place[place] == index:
            return
        self._in_place[place] = index
        if self._copies is None:
            self._contents[index].copy_to(self._places[place])
            return
        with torch.cuda.stream(self._copies):
            self._copies.wait_event(self._computed[place])
            self._contents[index].copy_to(self._places[place])
            self._copied[place].record(self._copies)


class _Fetch(ModelHook):  # type: ignore[misc]  # diffusers is not typed
    """Around the forward of one block."""

    def __init__(self, offload: BlockOffload, index: int) -> None:
        super().__init__()
        self._offload = offload
        self._index = index

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._offload.before(self._index)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self._offload.after(self._index)
        return output


def spread(count: int, total: int) -> list[int]:
    """Positions of `count` of `total` blocks, evenly spaced, so that each copy can overlap with the most work."""
    return [index * total // count for index in range(count)]


def _tensors(block: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return list({id(tensor): tensor for tensor in chain(block.parameters(), block.buffers())}.values())
