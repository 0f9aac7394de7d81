"""The keys of LLMC's YAML for Wan, with their types, and what becomes of each of them here.

A field without a marker is honoured. `only(...)` refuses what LightX2V cannot run or what is not available here, and
`Unheeded` names a key that is accepted without effect, with the reason that the reader puts in its warning.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from vq_core.recipes.ignored import BlockOrRange
from vq_core.recipes.ranges import FrameCount, FrameRate, Guidance, Seed, Share, Side
from vq_core.recipes.typed_yaml import Section, Unheeded, only, refusal

OFFICIAL_RUNTIME = Unheeded("only the official Wan runtime reads it, not the diffusers pipeline", silent=(None,))
ALWAYS_DIFFUSERS = Unheeded("the diffusers pipeline always runs", silent=(True,))
LANGUAGE_MODELS = Unheeded("only language models read it")
TRAINING = Unheeded("only methods that train read it")
RANGE_SEARCH = Unheeded("the range is the absmax, nothing is searched", silent=(None,))
EVERY_PROMPT = Unheeded("every prompt in samples.json is used")
WHOLE_TRAJECTORY = Unheeded("statistics are gathered over the whole trajectory")
KERNELS_ROUND = Unheeded("activations are rounded to nearest even, as the runtime's kernels do")
EXPORT_IS_ASKED_FOR = Unheeded("a checkpoint is written whenever `vq-export lightx2v` is run", silent=(True,))
ALWAYS_KEPT = Unheeded("`vq-algos smooth` always writes it, as smoothed-weights")

WAN = only("WanT2V", "WanI2V", "Wan2T2V", otherwise="which is no Wan model: set it to WanT2V, WanI2V or Wan2T2V.")
STORED_DTYPE = only("auto", otherwise="but tensors keep the dtype they are stored in: set it to auto.")
NO_DOWNLOAD = only(False, otherwise="but prompts are not downloaded: set it to False, and path to their folder.")
ONE_AT_A_TIME = only(1, otherwise="but prompts run one at a time: set it to 1.")
VIDEO_PROMPTS = only("t2v", "i2v", otherwise="which holds no video prompts: set it to t2v or i2v.")
VIDEO_GEN = only("video_gen", otherwise="which makes no videos: set it to video_gen.")
QUANT_TYPE = only(
    "int-quant", "float-quant", otherwise="which is not available here: set it to int-quant or float-quant."
)
BIT = only(8, "e4m3", otherwise="which LightX2V cannot run: set weight and act to 8 (INT8) or e4m3 (FP8).")
SYMMETRIC = only(True, otherwise="but LightX2V's kernels have no zero point: set it to True.")
PER_CHANNEL = only(
    "per_channel", otherwise="but LightX2V has one weight scale per output channel: set it to per_channel."
)
PER_TOKEN = only("per_token", otherwise="but LightX2V has one activation scale per token: set it to per_token.")
DYNAMIC = only(False, otherwise="but LightX2V computes activation scales as it runs: set it to False.")
ABSMAX = only("minmax", otherwise="but the range is always the absmax: set it to minmax.")
CODES = only(None, otherwise="but the codes of LightX2V are ±127 for INT8 and ±448 for FP8: remove it.")
METHOD = only(
    *("RTN", "SmoothQuant", "Awq"),
    otherwise="which LLMC does not run on Wan: set it to RTN, SmoothQuant or Awq (GPTQ here is `vq-algos quantize "
    "--method gptq`, after any of them).",
)
TRANS_VERSION = only("v1", "v2", otherwise="which is no version of Awq: set it to v1 or v2.")
CLIP_VERSION = only("v1", otherwise="which needs learned ranges, and these are not available: set it to v1.")
WHOLE_WEIGHTS = only(1, otherwise="but weights are quantized whole: set it to 1.")
NO_KV_CACHE = only(None, otherwise="but Wan has no KV cache: remove it.")
SAMPLED = Unheeded("statistics hold sampled tokens, so memory is bounded")
CODES_ARE_KEPT = Unheeded("`vq-algos quantize` always writes what was clipped, as quant-params")
SYMMETRIC_CLIP = Unheeded("a symmetric scheme is clipped symmetrically", silent=(None, True))
NOT_WRITTEN = only(False, otherwise="which is no format written here: remove it and set save_lightx2v to True.")
UNAVAILABLE = only(False, None, otherwise="which is not available here: remove it.")


def _special_name(name: str) -> str:
    if not re.fullmatch(r"blocks\.\d+\..+", name):
        raise refusal("which is no linear of a block: write it as blocks.3.ffn.net.2.")
    return name


SpecialName = Annotated[str, AfterValidator(_special_name)]


class Base(Section):
    """`base`."""

    seed: Seed


class Model(Section):
    """`model`; from `diffusers_path` on, keys that only Wan2T2V has."""

    type: Annotated[str, WAN]
    path: str
    torch_dtype: Annotated[str, STORED_DTYPE]
    lora_path: str | None = None
    tokenizer_mode: Annotated[str | None, Unheeded("the pipeline brings its own tokenizer")] = None
    use_cpu_to_save_cuda_mem_for_catcher: Annotated[bool, Unheeded("activations are never stored")] = False
    block_wise_quant: Annotated[bool, UNAVAILABLE] = False
    diffusers_path: str | None = None
    force_diffusers: Annotated[bool, ALWAYS_DIFFUSERS] = True
    allow_diffusers_fallback: Annotated[bool, ALWAYS_DIFFUSERS] = True
    wan2_repo_path: Annotated[str | None, OFFICIAL_RUNTIME] = None
    sample_steps: Annotated[int | None, OFFICIAL_RUNTIME] = None
    sampling_steps: Annotated[int | None, OFFICIAL_RUNTIME] = None
    sample_shift: Annotated[float | None, OFFICIAL_RUNTIME] = None
    boundary: Annotated[float | None, OFFICIAL_RUNTIME] = None
    sample_solver: Annotated[str | None, OFFICIAL_RUNTIME] = None
    t5_cpu: Annotated[bool | None, OFFICIAL_RUNTIME] = None
    init_on_cpu: Annotated[bool | None, OFFICIAL_RUNTIME] = None
    convert_model_dtype: Annotated[bool | None, OFFICIAL_RUNTIME] = None
    offload_model: Annotated[bool | None, OFFICIAL_RUNTIME] = None


class Sampling(Section):
    """What `calib` and `eval` have in common; the defaults are LLMC's."""

    name: Annotated[str, VIDEO_PROMPTS]
    download: Annotated[bool, NO_DOWNLOAD] = False
    path: str
    target_height: Side = 480
    target_width: Side = 832
    num_frames: FrameCount = 81
    guidance_scale: Guidance = 5.0
    guidance_scale_2: Guidance | None = None
    seq_len: Annotated[int | None, LANGUAGE_MODELS] = None
    load_from_txt: Annotated[bool, LANGUAGE_MODELS] = False
    apply_chat_template: Annotated[bool, LANGUAGE_MODELS] = False


class Calib(Sampling):
    """`calib`."""

    bs: Annotated[int, ONE_AT_A_TIME]
    seed: Seed
    sample_steps: Annotated[int, WHOLE_TRAJECTORY]
    n_samples: Annotated[int | None, EVERY_PROMPT] = None
    padding: Annotated[bool, LANGUAGE_MODELS] = False
    preproc: Annotated[object, LANGUAGE_MODELS] = None


class Eval(Sampling):
    """`eval`; LLMC's default of 15 frames per second is not Wan's 16."""

    type: Annotated[str, VIDEO_GEN]
    eval_pos: list[Literal["pretrain", "transformed", "fake_quant", "fake_quant_wo_kv"]]
    bs: Annotated[int, ONE_AT_A_TIME] = 1
    fps: FrameRate = 15
    output_video_path: str
    num_samples: Annotated[int | None, EVERY_PROMPT] = None
    num_eval_tokens: Annotated[int | None, LANGUAGE_MODELS] = None
    inference_per_block: Annotated[bool, LANGUAGE_MODELS] = False


class Tensor(Section):
    """What `weight` and `act` have in common."""

    quant_type: Annotated[str, QUANT_TYPE] = "int-quant"
    bit: object
    symmetric: Annotated[bool, SYMMETRIC]
    group_size: Annotated[int | None, Unheeded("only per_group reads it", silent=(None, -1))] = None
    block_size: Annotated[int | None, Unheeded("only per_block reads it")] = None
    head_num: Annotated[int | None, Unheeded("only per_head reads it")] = None
    calib_algo: Annotated[str, ABSMAX] = "minmax"
    int_range: Annotated[list[int] | None, CODES] = None
    float_range: Annotated[list[float] | None, CODES] = None
    round_zp: Annotated[bool, Unheeded("a symmetric scheme has no zero point", silent=(True,))] = True
    ste: Annotated[bool, TRAINING] = False
    ste_all: Annotated[bool, TRAINING] = False
    mse_b_num: Annotated[int | None, RANGE_SEARCH] = None
    maxshrink: Annotated[float | None, RANGE_SEARCH] = None
    mse_grid: Annotated[int | None, RANGE_SEARCH] = None
    bins: Annotated[int | None, RANGE_SEARCH] = None
    lp_norm: Annotated[float | None, RANGE_SEARCH] = None
    beta: Annotated[float | None, RANGE_SEARCH] = None
    kappa: Annotated[float | None, RANGE_SEARCH] = None
    iters: Annotated[int | None, RANGE_SEARCH] = None

    @model_validator(mode="after")
    def _type_fits_bit(self) -> Self:
        if (self.quant_type == "float-quant") != (self.bit == "e4m3"):
            raise refusal(
                f"but {self.quant_type} has no bit {self.bit}: set int-quant with 8 or float-quant with e4m3."
            )
        return self


class Weight(Tensor):
    """`quant.video_gen.weight`."""

    bit: Annotated[object, BIT]
    granularity: Annotated[str, PER_CHANNEL]
    use_qtorch: bool | None = None
    need_pack: Annotated[bool, UNAVAILABLE] = False


class Act(Tensor):
    """`quant.video_gen.act`."""

    granularity: Annotated[str, PER_TOKEN]
    use_qtorch: Annotated[bool | None, KERNELS_ROUND] = None
    static: Annotated[bool, DYNAMIC] = False
    quant_attn: Annotated[bool, UNAVAILABLE] = False
    quant_softmax: Annotated[bool, UNAVAILABLE] = False
    quant_act_fn: Annotated[bool, UNAVAILABLE] = False


class Special(Section):
    """`quant.video_gen.special`: settings of the method."""

    alpha: Share = 0.5
    trans: bool = True
    trans_version: Annotated[str, TRANS_VERSION] = "v2"
    weight_clip: bool = False
    clip_sym: Annotated[bool | None, SYMMETRIC_CLIP] = None
    clip_version: Annotated[str, CLIP_VERSION] = "v1"
    save_clip: Annotated[bool, CODES_ARE_KEPT] = False
    clip_path: Annotated[str | None, CODES_ARE_KEPT] = None
    save_scale: Annotated[bool, ALWAYS_KEPT] = False
    scale_path: Annotated[str | None, ALWAYS_KEPT] = None
    awq_bs: Annotated[int | None, SAMPLED] = None
    save_mem: Annotated[bool, SAMPLED] = False
    true_sequential: Annotated[bool, Unheeded("exact folds do not depend on their order")] = False
    online_rotate: Annotated[bool, UNAVAILABLE] = False
    fp32_had: Annotated[bool, UNAVAILABLE] = False
    do_gqa_trans: Annotated[bool, LANGUAGE_MODELS] = False
    search_clip_init: Annotated[bool, UNAVAILABLE] = False


class VideoGen(Section):
    """`quant.video_gen`."""

    method: Annotated[str, METHOD]
    weight: Weight
    act: Act | None = None
    special: Special = Special()
    quant_out: Annotated[bool, Unheeded("statistics are gathered from the unquantized model")] = False
    tp: Annotated[int, WHOLE_WEIGHTS] = 1
    kvcache: Annotated[dict[str, object] | None, NO_KV_CACHE] = None
    token_reduction: Annotated[dict[str, object] | None, UNAVAILABLE] = None

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        bit = self.weight.bit
        if self.act is None:
            add = f"add `act` with bit {bit}, symmetric True and granularity per_token"
            raise refusal(f"which without `act` is weight-only, and LightX2V cannot run that: {add}.")
        if self.act.bit != bit:
            raise refusal(f"but LightX2V runs one format for weight and act: set the bit of both to {bit}.")
        return self


class Quant(Section):
    """`quant`."""

    video_gen: VideoGen


class IgnoredLayers(Section):
    """`ignored_layers`: what LLMC leaves in full precision."""

    block_ids: list[BlockOrRange] = Field(default_factory=list)
    layer_names: list[str] = Field(default_factory=list)
    # LLMC's own spelling, and the right one.
    special_names: list[SpecialName] = Field(
        default_factory=list, validation_alias=AliasChoices("speical_names", "special_names")
    )


class Save(Section):
    """`save`."""

    save_path: str
    save_lightx2v: Annotated[bool, EXPORT_IS_ASKED_FOR] = True
    save_trans: Annotated[bool, ALWAYS_KEPT] = False
    save_fake: Annotated[bool, NOT_WRITTEN] = False
    save_vllm: Annotated[bool, NOT_WRITTEN] = False
    save_sgl: Annotated[bool, NOT_WRITTEN] = False
    save_lightllm: Annotated[bool, NOT_WRITTEN] = False
    save_lightllm_kv_cache_calib: Annotated[bool, NOT_WRITTEN] = False
    save_autoawq: Annotated[bool, NOT_WRITTEN] = False
    save_mlcllm: Annotated[bool, NOT_WRITTEN] = False
    save_trtllm: Annotated[bool, NOT_WRITTEN] = False


def _single(evals: object) -> object:
    """LLMC takes one evaluation or a list of them; a recipe holds one."""
    if not isinstance(evals, list):
        return evals
    if len(evals) != 1:
        raise refusal("but a recipe holds one evaluation: write one recipe for each.")
    return evals[0]


class LlmcRecipe(Section):
    """The whole file."""

    base: Base
    model: Model
    calib: Calib | None = None
    eval: Annotated[Eval | None, BeforeValidator(_single)] = None
    quant: Quant
    ignored_layers: IgnoredLayers | None = None
    save: Save | None = None

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        task = "i2v" if self.model.type == "WanI2V" else "t2v"
        for name, sampling in (("calib", self.calib), ("eval", self.eval)):
            if sampling is not None and sampling.name != task:
                mismatch = f"`{name}.name` is {sampling.name}, but `model.type` is {self.model.type}"
                raise refusal(f"{mismatch}: set the name to {task}, or the type to that of your model.")
        method = self.quant.video_gen.method
        if method != "RTN" and self.calib is None:
            raise refusal(f"{method} needs statistics of the activations: add the section `calib`.")
        return self
