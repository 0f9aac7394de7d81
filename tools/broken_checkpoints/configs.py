"""Breaks of what LightX2V is told: config.json and the run configs."""

from collections.abc import Callable
from typing import Any

from broken_checkpoints.content import Broken, Content

CONFIG_FILE = "config.json"
RUN_CONFIG = "run_configs/int8-vllm.json"


def without(file: str, key: str) -> Callable[[Content], None]:
    return lambda content: content.edit_json(file, lambda config: config.pop(key))


def saying(file: str, **said: object) -> Callable[[Content], None]:
    return lambda content: content.edit_json(file, lambda config: config.update(said))


def as_diffusers_says_it(content: Content) -> None:
    def edit(config: dict[str, Any]) -> None:
        config["num_attention_heads"] = config.pop("num_heads")
        config["in_channels"] = config.pop("in_dim")

    content.edit_json(CONFIG_FILE, edit)


def exchange_folders(run_config: dict[str, Any]) -> None:
    high, low = "high_noise_quantized_ckpt", "low_noise_quantized_ckpt"
    run_config[high], run_config[low] = run_config[low], run_config[high]


CONFIGS = (
    Broken(
        "a lost quant_method",
        "silently ignores the gains: another video",
        "config.json says quant_method=None while the checkpoint has gains",
        without(CONFIG_FILE, "quant_method"),
    ),
    Broken(
        "a lost quant_method of two experts",
        "takes it from the run config here, and silently ignores the gains",
        "int8-vllm.json says quant_method=None while the checkpoint has gains",
        without(RUN_CONFIG, "quant_method"),
        example="experts",
    ),
    Broken(
        "a native key that is missing",
        "KeyError: it indexes them directly",
        "config.json says dim=None and the model has 64",
        without(CONFIG_FILE, "dim"),
    ),
    Broken(
        "a native key that is wrong",
        "builds another model: KeyError, or blocks left out",
        "config.json says num_layers=2 and the model has 3",
        saying(CONFIG_FILE, num_layers=2),
    ),
    Broken("diffusers' config.json", "KeyError 'in_dim'", "config.json says num_heads=None", as_diffusers_says_it),
    Broken(
        "a run config that names the wrong scheme",
        "reads INT8 codes with FP8 kernels",
        "int8-vllm.json says dit_quant_scheme='fp8-vllm' and the codes are int8",
        saying(RUN_CONFIG, dit_quant_scheme="fp8-vllm"),
    ),
    Broken(
        "an old run config that names the wrong scheme",
        "reads INT8 codes with FP8 kernels",
        "names the kernels 'W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm' and the codes are int8",
        lambda content: content.edit_json(
            "run_configs/old/int8-vllm.json",
            lambda config: config["mm_config"].update(mm_type="W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"),
        ),
    ),
    Broken(
        "a run config without dit_quantized",
        "reads the codes as weights",
        "says dit_quantized=None",
        without(RUN_CONFIG, "dit_quantized"),
    ),
    Broken(
        "an image encoder in the config of a model without one",
        "KeyError for k_img",
        "`blocks.0.cross_attn.k_img.weight` is missing",
        lambda content: content.edit_run_configs(lambda config: config.update(use_image_encoder=True)),
        example="experts",
    ),
    Broken(
        "no image encoder in the config of a model with one",
        "silently ignores the image's keys and values",
        "is nothing that LightX2V reads",
        lambda content: content.edit_run_configs(lambda config: config.update(use_image_encoder=False)),
    ),
    Broken(
        "the experts' folders exchanged in a run config",
        "high and low noise steps are done by the wrong expert",
        "high_noise_quantized_ckpt='/path/to/this/checkpoint/low_noise_model'",
        lambda content: content.edit_json(RUN_CONFIG, exchange_folders),
        example="experts",
    ),
    Broken(
        "dit_quantized_ckpt besides the experts' folders",
        "loads the same weights for both experts",
        "says dit_quantized_ckpt=",
        saying(RUN_CONFIG, dit_quantized_ckpt="/path/to/this/checkpoint/high_noise_model"),
        example="experts",
    ),
    Broken(
        "a run config without boundary",
        "KeyError: it does not know when the low-noise expert takes over",
        "says boundary=None",
        without(RUN_CONFIG, "boundary"),
        example="experts",
    ),
)
