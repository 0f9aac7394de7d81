"""Breaks of files: damage on the way, strays, and shards in each other's place."""

import shutil

from broken_checkpoints.content import Broken, Content
from vq_core.files.tensor_folder import INDEX_FILE

SHARD = "block_1.safetensors"


def flip_a_bit(content: Content) -> None:
    raw = bytearray((content.path / SHARD).read_bytes())
    raw[-2] ^= 1
    (content.path / SHARD).write_bytes(raw)


def truncate(content: Content) -> None:
    (content.path / SHARD).write_bytes((content.path / SHARD).read_bytes()[:-10])


def edit_manifest(content: Content) -> None:
    path = content.path / "manifest.json"
    path.write_text(path.read_text().replace('"scheme": "int8"', '"scheme": "fp8"', 1))


def copy(content: Content, name: str) -> None:
    shutil.copyfile(content.path / SHARD, content.path / name)


def exchange_experts(content: Content) -> None:
    for shard in ("block_0", "block_1", "block_2", "non_block"):
        high, low = (content.path / f"{expert}_noise_model/{shard}.safetensors" for expert in ("high", "low"))
        first, second = high.read_bytes(), low.read_bytes()
        high.write_bytes(second)
        low.write_bytes(first)


def move_between_files(content: Content) -> None:
    name = "blocks.1.self_attn.q.bias"
    tensor = content.tensor(name)
    content.drop(name)
    content.rewrite(content.path / "block_0.safetensors", lambda tensors: tensors.update({name: tensor}))


FILES = (
    Broken("a flipped bit", "loads it", "its SHA-256 differs", flip_a_bit, damaged=True),
    Broken("a truncated shard", "safetensors refuses the file", "bytes and should have", truncate, damaged=True),
    Broken("a truncated shard, sealed", "safetensors refuses the file", "truncated or damaged", truncate),
    Broken("an edited manifest", "does not read it", "does not match its own digest", edit_manifest, damaged=True),
    Broken(
        "a lost shard",
        "KeyError for its first tensor",
        "lacks block_1.safetensors",
        lambda content: (content.path / SHARD).unlink(),
        damaged=True,
    ),
    Broken(
        "a stray safetensors file",
        "loads it too; for names that are twice there, the last file wins",
        "is not part of the artifact",
        lambda content: copy(content, "block_1_old.safetensors"),
        damaged=True,
    ),
    Broken(
        "a stray safetensors file, sealed",
        "loads it too; for names that are twice there, the last file wins",
        "is no part of a checkpoint",
        lambda content: copy(content, "block_1_old.safetensors"),
    ),
    Broken(
        "an extra file",
        "does not read it",
        "is no part of a checkpoint",
        lambda content: (content.path / "notes.txt").write_text("hello"),
    ),
    Broken(
        "a tensor in another block's file",
        "present releases load it; with lazy loading a KeyError",
        "belongs in block_1.safetensors",
        move_between_files,
    ),
    Broken(
        "a lying index",
        "releases up to 2025 read what it lists: KeyError; later ones ignore it",
        "does not say where the tensors are",
        lambda content: content.edit_json(
            INDEX_FILE, lambda index: index["weight_map"].pop("blocks.0.self_attn.q.weight")
        ),
    ),
    Broken(
        "the experts' files exchanged",
        "loads; high and low noise steps are done by the wrong expert",
        "and lies where",
        exchange_experts,
        example="experts",
    ),
)
