"""Tiny models and the checkpoints that a conversion of them gives, written with vq_core alone."""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import (
    FORMAT,
    KIND,
    ConvertedCheckpoint,
    Role,
    checkpoint_tensors,
    open_checkpoint,
)
from vq_core.model.source import SourceTransformer, open_source
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.folding import fold_group
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import QuantScheme, scheme_named
from vq_core.store.writer import ArtifactWriter, ComponentHeader, Header, create_artifact


@pytest.fixture(scope="session")
def converted(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`converted("i2v", "fp8")`: the checkpoint of that tiny model, rounded to nearest; not to be changed.

    With `smooth`, random gains are folded exactly first.
    """
    root = tmp_path_factory.mktemp("converted")

    def convert(variant: str, scheme: str = "int8", *, smooth: bool = False) -> Path:
        path = root / f"{variant}-{scheme}-{smooth}"
        if path.exists():
            return path
        source = open_source(str(tiny_model(variant)))
        folders = source.family.expert_folders(tuple(source.components))
        header = Header(
            kind=KIND,
            format=FORMAT,
            tool="test",
            family=source.family_name,
            model=source.name,
            components={
                name: ComponentHeader(folders[name], component.fingerprint, component.config)
                for name, component in source.components.items()
            },
            settings={"scheme": scheme, "gains": smooth},
        )
        with create_artifact(path, header) as writer:
            for name, component in source.components.items():
                _write_component(writer, folders[name], component, scheme_named(scheme), smooth)
            for backend in ("torchao", "vllm"):
                writer.write_text(
                    f"run_configs/{scheme}-{backend}.json", json.dumps(_run_config(component.config, len(folders)))
                )
        return path

    return convert


@pytest.fixture(scope="session")
def opened(converted: Callable[..., Path]) -> Callable[..., ConvertedCheckpoint]:
    """The same, opened."""
    return lambda *arguments, **named: open_checkpoint(converted(*arguments, **named))


def _write_component(
    writer: ArtifactWriter, folder: str, component: SourceTransformer, scheme: QuantScheme, smooth: bool
) -> None:
    topology = component.topology
    tensors = component.plain(topology.tensors)
    if smooth:
        generator = torch.Generator().manual_seed(1)
        tensors |= {name: torch.ones(length) for name, length in topology.gains.items()}
        for group in topology.groups:
            if group.sink is not None:
                # Between 1/2 and 2: forgetting one is far outside the quantization error.
                fold_group(
                    tensors, group, nearest_bf16(2 ** (2 * torch.rand(group.in_features, generator=generator) - 1))
                )
    quantized = {
        linear.name: quantize_weight(tensors[f"{linear.name}.weight"], scheme.weight) for linear in topology.linears
    }
    shards: dict[str, dict[str, Tensor]] = {}
    for native, entry in checkpoint_tensors(topology, component.family, gains=smooth).items():
        match entry.role:
            case Role.CODES:
                tensor = quantized[entry.origin].codes
            case Role.SCALE:
                tensor = quantized[entry.origin].scale
            case _:
                tensor = tensors[entry.origin]
        shards.setdefault(entry.shard, {})[native] = tensor.reshape(entry.shape).clone()
    for shard, content in shards.items():
        writer.write_tensors(str(Path(folder) / f"{shard}.safetensors"), content)


def _run_config(config: dict[str, Any], transformers: int) -> dict[str, Any]:
    """The keys of a LightX2V run config that differ between models, and those that a run fills in."""
    experts = transformers == 2
    vace = config.get("vace_layers") is not None
    frames = "flf2v" if config.get("pos_embed_seq_len") else "i2v"
    task = "vace" if vace else frames if config["in_channels"] == 36 else "t2v"
    paths = {"high_noise_quantized_ckpt": "/high_noise_model", "low_noise_quantized_ckpt": "/low_noise_model"}
    return {
        "model_cls": "wan2.2_moe" if experts else "wan2.1_vace" if vace else "wan2.1",
        "task": task,
        "sample_guide_scale": [3.5, 3.5] if experts else 5.0,
        "use_image_encoder": config.get("image_dim") is not None,
        "infer_steps": 40,
    } | {
        name: f"/path/to/this/checkpoint{folder}"
        for name, folder in (paths if experts else {"dit_quantized_ckpt": ""}).items()
    }


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A first frame, 96x64."""
    from PIL import Image

    path = tmp_path / "image.png"
    Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(path)
    return path


@pytest.fixture
def vq_infer(run_command: Callable[..., int]) -> Callable[..., int]:
    """Run the command in this process; returns its exit code."""
    return partial(run_command, "vq-infer")


@pytest.fixture
def together() -> Callable[..., list[Any]]:
    """Run a function in so many processes, as `torchrun` would; gives what each returned."""

    def run(world: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        context = multiprocessing.get_context("fork")  # everything is imported here already
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ends = []
        for rank in range(world):
            own, other = context.Pipe(duplex=False)
            process = context.Process(target=_one_of, args=(rank, world, port, other, work, arguments))
            process.start()
            ends.append((process, own))
        answers = [own.recv() if own.poll(120) else None for _, own in ends]
        for process, _ in ends:
            process.join(10)
            process.kill()
        assert all(answer is not None for answer in answers), "a process did not answer"
        return answers

    return run


def _one_of(
    rank: int, world: int, port: int, answer: Any, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) | dict.fromkeys(
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(world)
    )
    os.environ.update(address | ranks)
    answer.send(work(*arguments))
