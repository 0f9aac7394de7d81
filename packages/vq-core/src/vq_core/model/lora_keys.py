"""What a key of a LoRA file stands for: the spellings that Wan LoRAs come in, and the tensor each of them changes.

A key is PREFIX STEM PART. Stems are diffusers' or native names, with dots or, as kohya and LyCORIS write them,
underscores, some of them doubled: dots and underscores are taken for the same. Parts are the factors of a change
(`vq_core.model.lora_delta`), their `alpha`, and whole differences (`diff` of a weight, `diff_b` of a bias, `diff_m` of
a modulation table; LyCORIS' `w_norm` and `b_norm`).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache

from vq_core.families import Family

PREFIXES = (
    "base_model", "model",  # PEFT's own files
    "diffusion_model",  # ComfyUI, LightX2V
    "transformer_2", "transformer",  # diffusers
    "pipe", "dit2", "dit",  # DiffSynth
    "lora", "unet",  # kohya, musubi-tuner
    "lycoris",
    "high_noise_model", "low_noise_model",
    "module", "orig_mod",  # torch's wrappers
)  # fmt: skip
"""Words before the stem, in any order, with dots or underscores between."""
SECOND_EXPERT = ("transformer_2", "dit2", "low_noise_model")
"""Those of them that say of a key that it is for `transformer_2`."""
OTHER_PARTS = {
    "text_encoder": "text encoder", "text_encoders": "text encoder", "text_model": "text encoder",
    "te": "text encoder", "te1": "text encoder", "te2": "text encoder", "t5xxl": "text encoder",
    "image_encoder": "image encoder", "clip_vision": "image encoder", "vae": "VAE",
}  # fmt: skip
"""Words before the stem of what changes another part of the pipeline."""


class LoraPart(Enum):
    """What a tensor of a LoRA is to the tensor that it changes; its value is how messages call it."""

    DOWN = "down"
    UP = "up"
    MID = "mid"
    UP_BIAS = "up bias"
    ALPHA = "alpha"
    DIFF = "diff"
    MAGNITUDE = "lora_magnitude_vector"
    DORA_SCALE = "dora_scale"
    HADA_W1_A = "hada_w1_a"
    HADA_W1_B = "hada_w1_b"
    HADA_T1 = "hada_t1"
    HADA_W2_A = "hada_w2_a"
    HADA_W2_B = "hada_w2_b"
    HADA_T2 = "hada_t2"
    LOKR_W1 = "lokr_w1"
    LOKR_W1_A = "lokr_w1_a"
    LOKR_W1_B = "lokr_w1_b"
    LOKR_W2 = "lokr_w2"
    LOKR_W2_A = "lokr_w2_a"
    LOKR_W2_B = "lokr_w2_b"
    LOKR_T2 = "lokr_t2"


_ADAPTER = r"(?:\.(?!weight$|bias$)[\w-]+)?"  # PEFT may put the adapter's name between
_DOWN = rf"(?:\.lora_A{_ADAPTER}|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)"
_UP = rf"(?:\.lora_B{_ADAPTER}|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)"
_NAMED_AS_WRITTEN = [part for part in LoraPart if part.value.startswith(("hada_", "lokr_", "dora_", "lora_"))]
# Part of the LoRA, which of a module's tensors it changes, and how the key ends.
_ENDINGS = tuple(
    (part, of, re.compile(rf"{ending}\Z"))
    for part, of, ending in (
        (LoraPart.DOWN, "weight", rf"{_DOWN}(?:\.weight)?"),
        (LoraPart.UP, "weight", rf"{_UP}(?:\.weight)?"),
        (LoraPart.MID, "weight", r"\.lora_mid(?:\.weight)?"),
        (LoraPart.UP_BIAS, "bias", rf"{_UP}\.bias"),
        (LoraPart.ALPHA, "weight", r"\.alpha"),
        (LoraPart.DIFF, "weight", r"\.(?:diff|w_norm)"),
        (LoraPart.DIFF, "bias", r"\.(?:diff_b|b_norm)"),
        (LoraPart.DIFF, "modulation", r"\.diff_m"),
        *((part, "weight", rf"\.{part.value}{_ADAPTER}(?:\.weight)?") for part in _NAMED_AS_WRITTEN),
    )
)
# Changes that are no sum of the factors and differences above: leaving a part out would give another model.
_OTHER_METHODS = tuple(
    (method, re.compile(rf"{pattern}\Z"))
    for method, pattern in (
        ("OFT", r"\.(?:oft_\w+|boft_\w+|rescale)(?:\..+)?"),
        ("GLoRA", r"\.[abc][12](?:\.weight)?"),
        ("IA3", r"\.(?:on_input|ia3_l(?:\..+)?)"),
        ("VeRA", r"\.vera_\w+(?:\..+)?"),
        ("AdaLoRA", r"\.(?:lora_E|ranknum)(?:\..+)?"),
        ("BoRA", r"\.bora_\w+"),
        ("a LoRA of embeddings", r"\.lora_embedding_[AB](?:\..+)?"),
        ("a method of PEFT", r"\.(?:hra|bone|miss|randlora|vblora|fourierft|trainable_tokens)_\w+(?:\..+)?"),
        # PEFT multiplies by alpha / rank where LyCORIS does not, and notes alpha elsewhere.
        ("PEFT's LoKr or LoHa", r"^base_model\.model\..+\.(?:lokr|hada)_\w+(?:\..+)?"),
        ("LoKr, LoHa or DoRA of an unknown kind", r"\.(?:(?:lokr|hada)_\w+|wd_for_diff|scalar)"),
        ("a weight set as a whole", r"\.(?:set_weight|reshape_weight)"),
    )
)
_MODULATION = ("modulation", "scale_shift_table")
_PREFIX = re.compile(rf"(?:{'|'.join(PREFIXES)})_")
_SECOND_EXPERT = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})_)*?(?:{'|'.join(SECOND_EXPERT)})_")
_OTHER_PART = re.compile(rf"({'|'.join(OTHER_PARTS)})_")


@dataclass(frozen=True)
class Spelling:
    """What a key is made of.

    Attributes:
        module: the name of the module as the file spells it, prefix included.
        part: what the tensor is to the one that it changes.
        of: which of the module's tensors that is, `weight`, `bias` or `modulation`.
    """

    module: str
    part: LoraPart
    of: str


@dataclass(frozen=True)
class Target:
    """What a key stands for: `part` of the change to the diffusers tensor `tensor`."""

    tensor: str
    part: LoraPart


class KeyTable:
    """The keys that change tensors of one transformer."""

    def __init__(self, tensors: Iterable[str], family: Family) -> None:
        self._tensors: dict[tuple[str, str], set[str]] = {}
        for tensor in tensors:
            for name in (tensor, family.to_native(tensor)):
                for stem, of in _stem_of(name):
                    self._tensors.setdefault((_plain(stem), of), set()).add(tensor)

    def targets(self, key: str) -> tuple[Target, ...]:
        """What `key` may stand for; nothing where it is no part of a LoRA, or of a tensor that is not there."""
        if (spelling := spelling_of(key)) is None:
            return ()
        found = (self._tensors.get((name, spelling.of), set()) for name in _readings(spelling.module))
        return tuple(Target(tensor, spelling.part) for tensor in sorted(set().union(*found)))


@cache
def spelling_of(key: str) -> Spelling | None:
    """How `key` is put together; None where it ends in no part that is merged."""
    for part, of, ending in _ENDINGS:
        if match := ending.search(key):
            return Spelling(key[: match.start()], part, of) if match.start() else None
    return None


def other_method(key: str) -> str | None:
    """The method that `key` belongs to where that is none which is merged here."""
    if spelling_of(key) and not key.startswith("base_model.model."):
        return None
    return next((method for method, pattern in _OTHER_METHODS if pattern.search(key)), None)


def other_part(key: str) -> str | None:
    """The part of the pipeline that `key` changes where that is no transformer, such as the text encoder."""
    found = (_OTHER_PART.match(name) for name in _readings(key))
    return next((OTHER_PARTS[match[1]] for match in found if match), None)


def is_for_second_expert(key: str) -> bool:
    """Whether `key` itself says that it is for `transformer_2`."""
    return _SECOND_EXPERT.match(_plain(key)) is not None


def block_in(key: str) -> int | None:
    """Number of the block that `key` is about; None where it is about none."""
    found = (re.match(r"blocks_(\d{1,9})_", name) for name in _readings(key))
    return next((int(match[1]) for match in found if match), None)


def _stem_of(name: str) -> Iterable[tuple[str, str]]:
    """Stems of the tensor `name`, and which of the stem's tensors it is."""
    stem, _, last = name.rpartition(".")
    if last in ("weight", "bias"):
        yield stem, last
        return
    yield name, "weight"  # a table has no module of its own: ComfyUI's `blocks.0.modulation.diff`
    if last in _MODULATION:
        yield from ((it, "modulation") for it in (name, stem) if it)


def _plain(name: str) -> str:
    """`name` with every run of dots and underscores as one underscore, and none before or after."""
    return re.sub(r"[._]+", "_", name).strip("_")


def _readings(stem: str) -> Iterator[str]:
    """`stem` as it stands, then without one prefix after the other."""
    name = _plain(stem)
    yield name
    while match := _PREFIX.match(name):
        name = name[match.end() :]
        yield name
