"""Wan 2.1 and 2.2: transformers for text, images, first and last frames, and VACE's controls; one or two experts."""

from vq_core.families.wan.config import (
    COMPONENTS,
    diffusers_config,
    expert_folders,
    is_native_config,
    matches,
    native_config,
)
from vq_core.families.wan.kinds import kind_of
from vq_core.families.wan.names import IGNORED_TENSORS, to_diffusers, to_native
from vq_core.families.wan.sampling import usual_sampling
from vq_core.families.wan.topology import llmc_groups, topology

__all__ = [
    "COMPONENTS",
    "IGNORED_TENSORS",
    "diffusers_config",
    "expert_folders",
    "is_native_config",
    "kind_of",
    "llmc_groups",
    "matches",
    "native_config",
    "to_diffusers",
    "to_native",
    "topology",
    "usual_sampling",
]
