"""A collection of what is too large to be held at once."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


@dataclass(frozen=True)
class OneByOne(Collection[Item], Generic[Key, Item]):
    """What `make` gives for each of `keys`: made anew whenever an iteration reaches it."""

    make: Callable[[Key], Item]
    keys: Sequence[Key]

    def __iter__(self) -> Iterator[Item]:
        return map(self.make, self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, item: object) -> bool:
        return any(item is one for one in self)
