"""The configuration that PEFT has written for a LoRA is found by what is in it, under any name."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import save, save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.lora_file import Lora
from vq_core.model.lora_request import LoraRequest, parse_lora

STEM = "base_model.model.blocks.1.attn1.to_q"
PAIR = {f"{STEM}.lora_A.weight": torch.ones(4, 64), f"{STEM}.lora_B.weight": torch.ones(64, 4)}
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 2, "target_modules": ["to_q", "attn1.to_k"]}


@pytest.fixture
def lora_beside(tmp_path: Path) -> Callable[..., Lora]:
    """A LoRA file with these JSON files beside it."""

    def open_lora(
        configs: dict[str, Any],
        name: str = "mine.safetensors",
        tensors: dict[str, Tensor] = PAIR,
        folder: bool = False,
        noted: str = "{}",
    ) -> Lora:
        save_file(tensors, tmp_path / name, metadata={"lora_adapter_metadata": noted})
        for config, content in configs.items():
            (tmp_path / config).write_text(content if isinstance(content, str) else json.dumps(content))
        return Lora(LoraRequest(tmp_path if folder else tmp_path / name))

    return open_lora


def alpha(lora: Lora) -> float | None:
    return lora.settings("transformer").alpha


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "renamed.safetensors"])
@pytest.mark.parametrize("config", ["adapter_config.json", "renamed.json"])
def test_it_is_found_under_any_name(
    lora_beside: Callable[..., Lora], tmp_path: Path, name: str, config: str, folder: bool
) -> None:
    lora = lora_beside({config: CONFIG, "other.json": {"r": 4, "lora_alpha": 3}, "bad.json": "{"}, name, folder=folder)
    assert alpha(lora) == 2
    digests = [hashlib.sha256((tmp_path / file).read_bytes()).digest() for file in (name, config)]
    assert lora.digest == hashlib.sha256(b"".join(digests)).hexdigest()


def test_what_is_found_by_its_content_is_said(lora_beside: Callable[..., Lora], caplog: Any) -> None:
    lora_beside({"adapter_config.json": CONFIG})
    (record,) = caplog.records
    assert record.message.endswith(
        "mine.safetensors has no alpha of its own and takes it from adapter_config.json beside it: 2."
    )


@pytest.mark.parametrize("other", [{"r": 8}, {"target_modules": ["to_v"]}, {"r": "4"}])
def test_that_of_another_lora_is_left_alone_and_said(
    lora_beside: Callable[..., Lora], caplog: Any, other: dict[str, Any]
) -> None:
    assert alpha(lora_beside({"adapter_config.json": CONFIG | other})) is None
    (record,) = caplog.records
    assert "and adapter_config.json beside it is another LoRA's: alpha is taken to be the rank." in record.message


@pytest.mark.parametrize("same", [{"rank_pattern": {"to_q": 4}, "r": 8}, {"target_modules": ".*to_q"}])
def test_one_that_may_be_its_own(lora_beside: Callable[..., Lora], same: dict[str, Any]) -> None:
    assert alpha(lora_beside({"adapter_config.json": CONFIG | same})) == 2


def test_one_in_its_place_that_is_another_lora_s(lora_beside: Callable[..., Lora]) -> None:
    with pytest.raises(
        VqError, match="adapter_config.json is not the configuration of .*, whose ranks or modules are o"
    ):
        lora_beside({"adapter_config.json": CONFIG | {"r": 8}}, "adapter_model.safetensors")


def test_two_that_fit_and_differ(lora_beside: Callable[..., Lora]) -> None:
    with pytest.raises(
        VqError, match="a.json and b.json in .* may both be the configuration of .*mine.safetensors, and"
    ):
        lora_beside({"a.json": CONFIG, "b.json": CONFIG | {"lora_alpha": 8}})


def test_a_lora_with_alphas_of_its_own_asks_nobody(lora_beside: Callable[..., Lora], caplog: Any) -> None:
    lora = lora_beside({"adapter_config.json": CONFIG}, tensors=PAIR | {f"{STEM}.alpha": torch.tensor(1.0)})
    assert alpha(lora) is None
    assert not caplog.records


@pytest.mark.parametrize(("noted", "expected"), [("transformer", 8), ("transformer_2", None), ("text_encoder", 2)])
def test_an_alpha_in_the_header_comes_before_it(lora_beside: Callable[..., Lora], noted: str, expected: int) -> None:
    assert alpha(lora_beside({"adapter_config.json": CONFIG}, noted=f'{{"{noted}.lora_alpha": 8}}')) == expected


def test_in_a_bucket(memory: MemoryFileSystem, caplog: Any) -> None:
    memory.pipe({"/loras/mine.safetensors": save(PAIR), "/loras/mine.json": json.dumps(CONFIG).encode()})
    assert alpha(Lora(parse_lora("memory://loras/mine.safetensors"))) == 2
    assert len(caplog.records) == 1


def test_what_lies_beside_it_and_cannot_be_listed_is_said(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    memory.pipe({"/loras/mine.safetensors": save(PAIR)})
    find = memory.find

    def refuse(path: str, **options: Any) -> Any:
        if path.endswith("loras"):
            raise PermissionError("no listing here")
        return find(path, **options)

    monkeypatch.setattr(type(memory), "find", lambda self, path, **options: refuse(path, **options))
    assert alpha(Lora(parse_lora("memory://loras/mine.safetensors"))) is None
    (record,) = caplog.records
    assert "has no alpha, and what lies beside it cannot be read, so it is taken to be the rank: " in record.message
