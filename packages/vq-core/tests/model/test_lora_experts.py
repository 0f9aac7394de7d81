"""Of two experts each gets the LoRA that is for it, and whoever may have meant something else is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest, parse_lora
from vq_core.model.source import Source, open_source
from vq_core.testing.tiny_models import Variant

TO_Q = "blocks.1.attn1.to_q.weight"
KEY = "diffusion_model.blocks.1.self_attn.q.diff"
HIGH, LOW = "transformer", "transformer_2"


@pytest.fixture
def model(tiny_model: Callable[[Variant], Path]) -> str:
    return str(tiny_model("i2v-2.2"))


def write(path: Path, value: float, key: str = KEY, **metadata: str) -> Path:
    """A LoRA that adds `value` to a weight."""
    path.parent.mkdir(exist_ok=True)
    save_file({key: torch.full((64, 64), value)}, path, metadata=metadata or None)
    return path


def added(source: Source, model: str) -> dict[str, float]:
    """What is added to the weight of each component."""
    plain = open_source(model).components
    found = {}
    for name, part in source.components.items():
        (after,), (before,) = part.plain([TO_Q]).values(), plain[name].plain([TO_Q]).values()
        found[name] = round(float((after.double() - before.double()).mean()), 1)
    return found


@pytest.mark.parametrize(
    ("component", "expected"),
    [(None, {HIGH: 1.0, LOW: 2.0}), (HIGH, {HIGH: 1.0, LOW: 0.0}), (LOW, {HIGH: 0.0, LOW: 2.0})],
)
@pytest.mark.parametrize("noted", [False, True])
def test_a_folder_with_the_two_loras_of_a_distillation(
    model: str, tmp_path: Path, caplog: Any, component: str | None, expected: dict[str, float], noted: bool
) -> None:
    for expert, value in (("high", 1.0), ("low", 2.0)):
        name = f"{value:g}" if noted else f"{expert}_noise_model"
        note = {"ss_sd_model_name": f"wan2.2_{expert}_noise"} if noted else {}
        write(tmp_path / "lightning" / f"{name}.safetensors", value, **note)
    source = open_source(model, [LoraRequest(tmp_path / "lightning", component=component)])
    assert added(source, model) == expected
    assert not caplog.records
    if component is None and not noted:
        files = {name: entry["file"] for name, part in source.components.items() for entry in part.lora}
        assert files == {HIGH: "high_noise_model.safetensors", LOW: "low_noise_model.safetensors"}


def test_two_loras_for_a_model_with_one_transformer(tmp_path: Path, tiny_model: Callable[[Variant], Path]) -> None:
    for name in ("high", "low"):
        write(tmp_path / "two" / f"{name}.safetensors", 1.0)
    with pytest.raises(VqError, match=r"two holds a LoRA for each of two experts, and .* has transformer alone: give "):
        open_source(str(tiny_model("t2v")), [LoraRequest(tmp_path / "two")])


@pytest.mark.parametrize("names", [["a", "b"], ["high", "high_2"], ["high", "low", "low_2"], ["high", "other"]])
def test_a_folder_with_several_loras_that_cannot_be_told_apart(model: str, tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path / "loras" / f"{name}.safetensors", 1.0)
    with pytest.raises(VqError) as refused:
        open_source(model, [LoraRequest(tmp_path / "loras")])
    assert str(refused.value) == (
        f"{tmp_path}/loras holds several LoRAs ({', '.join(f'{name}.safetensors' for name in names)}; `{KEY}` is in "
        "two of them): give one file or, for two experts, `--lora transformer=FILE` and `--lora transformer_2=FILE`."
    )


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        (
            "{file}:0.5",
            "merged into both: give `--lora transformer_2={file}:0.5` for that one alone.",
        ),
        (
            "transformer={file}",
            "merged into transformer, not transformer_2: check that it is meant so.",
        ),
        ("transformer_2={file}", None),
    ],
)
def test_a_lora_that_names_an_expert(
    model: str, tmp_path: Path, caplog: Any, request_of: str, said: str | None
) -> None:
    file = write(tmp_path / "mine_low_noise.safetensors", 1.0)
    open_source(model, [parse_lora(request_of.format(file=file))])
    assert [record.message for record in caplog.records] == (
        [f"{file} says that it is for the low-noise expert and is {said.format(file=file)}"] if said else []
    )


def test_a_lora_that_names_an_expert_of_a_model_that_has_none(
    tmp_path: Path, caplog: Any, tiny_model: Callable[[Variant], Path]
) -> None:
    open_source(str(tiny_model("t2v")), [LoraRequest(write(tmp_path / "high_noise.safetensors", 1.0))])
    assert not caplog.records


def keys_of_both(high: str, low: str) -> dict[str, Tensor]:
    return {
        f"{high}.blocks.1.attn1.to_q.diff": torch.full((64, 64), 1.0),
        f"{low}.blocks.1.attn1.to_q.diff": torch.full((64, 64), 2.0),
    }


@pytest.mark.parametrize(
    ("high", "low"),
    [("transformer", "transformer_2"), ("pipe.dit", "pipe.dit2"), ("high_noise_model", "low_noise_model")],
)
def test_one_file_for_both_experts(model: str, write_lora: Callable[..., Path], high: str, low: str) -> None:
    path = write_lora(keys_of_both(high, low))
    assert added(open_source(model, [LoraRequest(path)]), model) == {HIGH: 1.0, LOW: 2.0}
    assert added(open_source(model, [LoraRequest(path, component=LOW)]), model) == {HIGH: 0.0, LOW: 2.0}


def test_keys_of_an_expert_that_the_model_lacks_are_named(
    write_lora: Callable[..., Path], caplog: Any, tiny_model: Callable[[Variant], Path]
) -> None:
    model, both = str(tiny_model("t2v")), keys_of_both("transformer", "transformer_2")
    assert added(open_source(model, [LoraRequest(write_lora(both))]), model) == {HIGH: 1.0}
    (record,) = caplog.records
    assert "1 of 2 keys are for transformer_2, which" in record.message
    assert "are not merged, such as `transformer_2.blocks.1.attn1.to_q.diff`" in record.message
    alone = {key: tensor for key, tensor in both.items() if key.startswith("transformer_2")}
    with pytest.raises(
        VqError,
        match=r"All keys of .* are for transformer_2, such as `.*`, and it is to be merged into transformer of ",
    ):
        open_source(model, [LoraRequest(write_lora(alone, "alone.safetensors"))])


def test_a_file_for_the_second_expert_alone(model: str, write_lora: Callable[..., Path]) -> None:
    alone = {key: tensor for key, tensor in keys_of_both("transformer", "transformer_2").items() if "_2." in key}
    assert added(open_source(model, [LoraRequest(write_lora(alone))]), model) == {HIGH: 0.0, LOW: 2.0}
