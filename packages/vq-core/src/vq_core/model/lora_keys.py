"""What a key of a LoRA file stands for: the spellings that Wan LoRAs come in, and the tensor each of them changes.

A key is PREFIX STEM PART. Parts are low-rank pairs (PEFT's `lora_A`, `lora_B`; kohya's `lora_down`, `lora_up`), their
`alpha`, and whole differences (`diff` of a weight, `diff_b` of a bias, `diff_m` of a modulation table). Stems are
diffusers' or native names, with dots or, as kohya writes them, underscores.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from vq_core.families import Family

PREFIXES = (
    "base_model.model.",  # PEFT's own files
    "model.diffusion_model.",
    "diffusion_model.",  # ComfyUI, LightX2V
    "transformer.",  # diffusers
    "pipe.dit.",  # DiffSynth
    "lora_unet_",  # kohya, musubi-tuner
)


class LoraPart(Enum):
    """What a tensor of a LoRA is to the tensor that it changes."""

    DOWN = "down"
    UP = "up"
    UP_BIAS = "up bias"
    ALPHA = "alpha"
    DIFF = "diff"


_ADAPTER = r"(?:\.(?!weight$|bias$)\w+)?"  # PEFT may put the adapter's name between
_DOWN = rf"(?:\.lora_A{_ADAPTER}|\.lora_down|[._]lora\.down)"
_UP = rf"(?:\.lora_B{_ADAPTER}|\.lora_up|[._]lora\.up)"
# Part of the LoRA, which of a module's tensors it changes, and how the key ends.
_ENDINGS = tuple(
    (part, of, re.compile(rf"(?P<stem>.+?){ending}"))
    for part, of, ending in (
        (LoraPart.DOWN, "weight", rf"{_DOWN}(?:\.weight)?"),
        (LoraPart.UP, "weight", rf"{_UP}(?:\.weight)?"),
        (LoraPart.UP_BIAS, "bias", rf"{_UP}\.bias"),
        (LoraPart.ALPHA, "weight", r"\.alpha"),
        (LoraPart.DIFF, "weight", r"\.diff"),
        (LoraPart.DIFF, "bias", r"\.diff_b"),
        (LoraPart.DIFF, "modulation", r"\.diff_m"),
    )
)
# Of these the low-rank pair is only a part (DoRA, `lora_mid`), or the change is none that is made of pairs and
# differences as here (LoHa, LoKr, OFT, LyCORIS' norms, `set_weight`): leaving it out would give another model.
_NOT_ADDITIVE = re.compile(
    r".*\.(?:dora_scale|lora_magnitude_vector(?:\..+)?|lora_mid(?:\.weight)?|hada_.+|lokr_.+|oft_.+|[wb]_norm|set_weight)"
)
_MODULATION = ("modulation", "scale_shift_table")


@dataclass(frozen=True)
class Target:
    """What a key stands for: `part` of the change to the diffusers tensor `tensor`."""

    tensor: str
    part: LoraPart


class KeyTable:
    """The keys that change tensors of one transformer."""

    def __init__(self, tensors: Iterable[str], family: Family) -> None:
        self._tensors: Mapping[tuple[str, str], str] = {
            (spelling, of): tensor
            for tensor in tensors
            for name in (tensor, family.to_native(tensor))
            for stem, of in _stem_of(name)
            for spelling in (stem, stem.replace(".", "_"))
        }

    def resolve(self, key: str) -> Target | None:
        """What `key` stands for; None where it is no part of a LoRA, or of a tensor that the transformer lacks."""
        for part, of, ending in _ENDINGS:
            if match := ending.fullmatch(_without_prefix(key)):
                tensor = self._tensors.get((match["stem"], of))
                return None if tensor is None else Target(tensor, part)
        return None


def is_additive(key: str) -> bool:
    """Whether `key` may belong to a LoRA that is merged by adding pairs and differences; DoRA's and LoKr's may not."""
    return _NOT_ADDITIVE.fullmatch(key) is None


def block_in(key: str) -> int | None:
    """Number of the block that `key` is about; None where it is about none."""
    match = re.match(r"blocks[._](\d+)[._]", _without_prefix(key))
    return int(match[1]) if match else None


def _stem_of(name: str) -> Iterable[tuple[str, str]]:
    """Stems of the tensor `name`, and which of the stem's tensors it is."""
    stem, _, last = name.rpartition(".")
    if last in ("weight", "bias"):
        yield stem, last
        return
    yield name, "weight"  # a table has no module of its own: ComfyUI's `blocks.0.modulation.diff`
    if last in _MODULATION:
        yield from ((it, "modulation") for it in (name, stem) if it)


def _without_prefix(key: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if key.startswith(prefix):
                key, stripped = key.removeprefix(prefix), True
    return key
