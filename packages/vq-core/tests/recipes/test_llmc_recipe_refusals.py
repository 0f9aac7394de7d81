"""LLMC's YAML: what is refused, in one sentence each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.recipes.recipe import Recipe

SMOOTHQUANT = Path(__file__).with_name("llmc_smoothquant.yaml").read_text(encoding="utf-8")
FP8 = SMOOTHQUANT.replace("bit: 8\n", "quant_type: float-quant\n            bit: e4m3\n")
CALIB = SMOOTHQUANT[SMOOTHQUANT.index("calib:") : SMOOTHQUANT.index("eval:\n")]

ReadLlmc = Callable[[str], Recipe]


def edited(old: str, new: str, text: str = SMOOTHQUANT) -> str:
    """`text` with `old`, which it holds, replaced once."""
    assert old in text
    return text.replace(old, new, 1)


def weight(line: str, text: str = SMOOTHQUANT) -> str:
    """`text` with one more line in `quant.video_gen.weight`."""
    return edited("        weight:\n", f"        weight:\n            {line}\n", text)


def act(line: str, text: str = SMOOTHQUANT) -> str:
    """`text` with one more line in `quant.video_gen.act`."""
    return edited("        act:\n", f"        act:\n            {line}\n", text)


QUANT = "quant.video_gen"
REFUSALS = {
    "6 bit": (
        edited("bit: 8", "bit: 6"),
        f"`{QUANT}.weight.bit` in",
        "is 6, which LightX2V cannot run: set weight and act to 8",
    ),
    "e5m2": (FP8.replace("e4m3", "e5m2"), f"`{QUANT}.weight.bit` in", "is 'e5m2', which LightX2V cannot run"),
    "bit as a string": (edited("bit: 8", 'bit: "8"'), f"`{QUANT}.weight.bit` in", "is '8', which LightX2V cannot run"),
    "bit as a float": (edited("bit: 8", "bit: 8.0"), f"`{QUANT}.weight.bit` in", "is 8.0, which LightX2V cannot run"),
    "e4m3 of integers": (edited("bit: 8", "bit: e4m3"), f"`{QUANT}.weight` in", "int-quant has no bit e4m3"),
    "mixed formats": (
        FP8[: FP8.index("        act:")] + SMOOTHQUANT[SMOOTHQUANT.index("        act:") :],
        f"`{QUANT}` in",
        "one format for weight and act",
    ),
    "weight-only": (
        edited(
            "        act:\n            bit: 8\n            symmetric: True\n            granularity: per_token\n", ""
        ),
        f"`{QUANT}` in",
        "weight-only, and LightX2V cannot run that: add `act` with bit 8",
    ),
    "static activations": (act("static: True"), f"`{QUANT}.act.static` in", "set it to False"),
    "asymmetric": (edited("symmetric: True", "symmetric: False"), f"`{QUANT}.weight.symmetric` in", "set it to True"),
    "per group": (edited("per_channel", "per_group"), f"`{QUANT}.weight.granularity` in", "set it to per_channel"),
    "per tensor activations": (
        edited("per_token", "per_tensor"),
        f"`{QUANT}.act.granularity` in",
        "set it to per_token",
    ),
    "searched range": (weight("calib_algo: mse"), f"`{QUANT}.weight.calib_algo` in", "set it to minmax"),
    "own code range": (weight("int_range: [-128, 127]"), f"`{QUANT}.weight.int_range` in", "±127"),
    "quantized attention": (act("quant_attn: True"), f"`{QUANT}.act.quant_attn` in", "not available"),
    "ignored blocks that are no range": (
        SMOOTHQUANT + "ignored_layers: {block_ids: [0, 39-x]}\n",
        "`ignored_layers.block_ids.1",
        "neither a block nor a range of blocks",
    ),
    "special name of no linear": (
        SMOOTHQUANT + "ignored_layers: {speical_names: [proj_out]}\n",
        "`ignored_layers.speical_names.0` in",
        "write it as blocks.3.ffn.net.2",
    ),
    "awq without calibration": (
        edited(CALIB, "", edited("SmoothQuant", "Awq")),
        "Awq needs statistics of the activations: add the section `calib`",
        "",
    ),
    "unknown version of awq": (
        edited("alpha: 0.7", "trans_version: v3", edited("SmoothQuant", "Awq")),
        f"`{QUANT}.special.trans_version` in",
        "set it to v1 or v2",
    ),
    "learned clipping": (
        edited("alpha: 0.7", "clip_version: v2", edited("SmoothQuant", "Awq")),
        f"`{QUANT}.special.clip_version` in",
        "set it to v1",
    ),
    "gptq, with its own keys": (
        edited("SmoothQuant", "GPTQ").replace("alpha: 0.7", "percdamp: 0.01"),
        f"`{QUANT}.method` in",
        "GPTQ here is `vq-algos quantize --method gptq`",
    ),
    "kv cache": (
        edited("        special:", "        kvcache: {method: Naive}\n        special:"),
        f"`{QUANT}.kvcache` in",
        "no KV cache",
    ),
    "language model quantization": (edited("video_gen:", "language:"), "`quant.", "known here: video_gen"),
    "expression as dtype": (edited("dtype: auto", "dtype: torch.bfloat16"), "`model.torch_dtype` in", "set it to auto"),
    "language model": (edited("WanI2V", "Llama"), "`model.type` in", "WanT2V, WanI2V or Wan2T2V"),
    "task of another model": (
        edited("WanI2V", "WanT2V"),
        "`calib.name` is i2v, but `model.type` is WanT2V",
        "set the name to t2v",
    ),
    "smoothquant without calibration": (edited(CALIB, ""), "add the section `calib`", ""),
    "batches": (edited("bs: 1", "bs: 2"), "`calib.bs` in", "set it to 1"),
    "download": (edited("download: False", "download: True"), "`calib.download` in", "set it to False"),
    "evaluation of perplexity": (edited("type: video_gen", "type: ppl"), "`eval.type` in", "set it to video_gen"),
    "unknown eval_pos": (edited("[fake_quant]", "[fake]"), "`eval.eval_pos.0` in", "'pretrain', 'transformed'"),
    "two evaluations": (
        edited("eval:\n", "eval: [{name: i2v}, {name: i2v}]\nunused:\n"),
        "`eval` in",
        "write one recipe for each",
    ),
    "export to vllm": (edited("save_lightx2v", "save_vllm"), "`save.save_vllm` in", "set save_lightx2v to True"),
    "fake-quantized weights": (
        edited("save_lightx2v", "save_fake"),
        "`save.save_fake` in",
        "set save_lightx2v to True",
    ),
    "misspelt key": (
        edited("target_height", "target_heigth"),
        "`calib.target_heigth` in",
        "did you mean `target_height`?",
    ),
    "misspelt key that is required": (edited("method:", "methods:"), f"`{QUANT}.methods` in", "did you mean `method`?"),
    "misspelt section": (edited("calib:", "calibration:"), "`calibration` in", "did you mean `calib`?"),
    "missing key": (edited("    path: models/wan\n", ""), "`model.path` is missing in", ""),
    "string for a number": (
        edited("num_frames: 33", 'num_frames: "33"'),
        "`calib.num_frames` in",
        "it should be a valid integer",
    ),
    "string for a bool": (
        edited("symmetric: True", 'symmetric: "True"'),
        f"`{QUANT}.weight.symmetric` in",
        "valid boolean",
    ),
    "number for a path": (edited("save_path: ./x2v/", "save_path: 3"), "`save.save_path` in", "valid string"),
    "key twice": (SMOOTHQUANT + "base: {seed: 1}\n", "`base` is given twice in", "keep one of them"),
}


@pytest.mark.parametrize(("text", "where", "what"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_in_one_sentence(read_llmc: ReadLlmc, text: str, where: str, what: str) -> None:
    with pytest.raises(VqError) as refused:
        read_llmc(text)
    assert where in str(refused.value)
    assert what in str(refused.value)
    assert "llmc.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_bit_of_both_is_one_mistake_and_so_is_a_misspelt_section(read_llmc: ReadLlmc) -> None:
    for text in (SMOOTHQUANT.replace("bit: 8", "bit: 6"), edited("video_gen:", "vide_gen:")):
        with pytest.raises(VqError) as refused:
            read_llmc(text)
        assert "mistakes beside" not in str(refused.value)
    with pytest.raises(VqError, match=r"`quant\.vide_gen`.*\(Further mistakes: 1\.\)"):
        read_llmc(edited("video_gen:", "vide_gen:", edited("save_path: ./x2v/", "save_path: 3")))
