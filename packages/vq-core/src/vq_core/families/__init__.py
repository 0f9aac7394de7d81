"""Model families: what is known of an architecture, one module each. A family's name is its module's name."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from vq_core.discover import load_plugin, plugin_names
from vq_core.errors import VqError
from vq_core.families.wan.kinds import Kind
from vq_core.topology import Group, Topology


class Family(Protocol):
    """What a family's module provides."""

    COMPONENTS: tuple[str, ...]
    """Names of a pipeline's components that can be quantized, in diffusers' spelling."""

    IGNORED_TENSORS: tuple[str, ...]
    """Endings of tensor names that checkpoints carry and the architecture does not use."""

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Is this transformer config.json (diffusers' keys) one of the family?"""

    def topology(self, config: Mapping[str, Any]) -> Topology:
        """Tensors, linears and groups of the transformer."""

    def llmc_groups(self, topology: Topology) -> tuple[Group, ...]:
        """The groups that LLMC smooths."""

    def to_native(self, name: str) -> str:
        """Native spelling of a tensor name."""

    def to_diffusers(self, name: str) -> str:
        """Diffusers' spelling of a native tensor name."""

    def kind_of(self, configs: Sequence[Mapping[str, Any]], where: str, *, experts: int) -> Kind:
        """Which published model has transformers of these `configs`; `where` is for messages.

        `experts` is how many it is told to have. Refuses one expert of a pair and what was never published.
        """

    def native_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The native config.json."""

    def is_native_config(self, config: Mapping[str, Any]) -> bool:
        """Is this config.json one with native keys?"""

    def diffusers_config(
        self, shapes: Mapping[str, tuple[int, ...]], native: Mapping[str, Any] | None, where: str
    ) -> dict[str, Any]:
        """The inverse of `native_config`: diffusers' keys, from the shapes of the tensors by diffusers' names.

        `native` is the native config.json where there is one, for what no shape tells; `where` is for messages.
        """

    def usual_sampling(self, config: Mapping[str, Any], experts: int) -> Mapping[str, Any]:
        """The authors' sampling settings for this transformer `config` and number of experts, keyed as `Defaults`.

        Empty where nothing is known.
        """

    def expert_folders(self, components: tuple[str, ...]) -> dict[str, str]:
        """Folder of each component in a native model."""


def family_names() -> list[str]:
    """Names of all families, sorted."""
    return plugin_names(__name__)


def family_named(name: str) -> Family:
    """The family called `name`; refuses an unknown name."""
    return cast(Family, load_plugin(__name__, name))


def family_of(config: Mapping[str, Any], where: str) -> tuple[str, Family]:
    """Name and module of the family that `config` belongs to.

    Raises:
        VqError: no family knows it; `where` says in the message whose config it is.
    """
    names = family_names()
    for name in names:
        family = family_named(name)
        if family.matches(config):
            return name, family
    raise VqError(
        f"{where} is a {config.get('_class_name', 'model without _class_name')}, which no family here "
        f"({', '.join(names)}) knows: use a Wan 2.1 or 2.2 model for text, images, or VACE in diffusers' layout."
    )
