"""The command as a user types it: exit codes, one sentence for every mistake, and JSON that is nothing but JSON."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_export.targets import lightx2v

VqExport = Callable[..., int]
Paths = dict[str, Path]


@pytest.fixture
def places(models: Paths, checkpoints: Paths, smoothed_i2v: Any, make_artifacts: Any, tmp_path: Path) -> Paths:
    """The paths that `REFUSALS` names."""
    (tmp_path / "there").mkdir()
    made = {"weights": smoothed_i2v["int8"].weights, "qparams": smoothed_i2v["int8"].qparams}
    made["foreign"] = make_artifacts(models["t2v"]).weights
    file = models["i2v"] / "transformer" / "diffusion_pytorch_model.safetensors"
    return {**models, **checkpoints, **made, "file": file, "tmp": tmp_path}


REFUSALS = [
    ("show {file}", "does not say how it was quantized"),
    ("show {i2v}", "is not a lightx2v-checkpoint artifact"),
    ("verify {t2v}", "is not a lightx2v-checkpoint artifact"),
    ("verify {tmp}/nowhere", "is not a lightx2v-checkpoint artifact"),
    ("verify {weights}", "lightx2v-checkpoint is needed here"),
    ("verify {int8-i2v} --model {t2v}", "was made from another model"),
    ("lightx2v --model {t2v} --scheme int8", "`--output` is missing"),
    ("lightx2v -o {tmp}/out", "Nothing to export"),
    ("lightx2v -o {tmp}/out --model {t2v} --scheme int4", "`int4` is not a scheme"),
    ("lightx2v -o {tmp}/out --model {t2v} --scheme int8 --device tpu", "is not a supported device"),
    ("lightx2v -o {tmp}/there --model {t2v} --scheme int8", "there exists already: choose another --output or"),
    ("lightx2v -o {tmp}/out --model {tmp}/nowhere --scheme int8", "neither a folder nor a hub id"),
    ("lightx2v -o {tmp}/out --model {int8-t2v} --scheme int8", "is a lightx2v-checkpoint, quantized already: use"),
    ("lightx2v -o {tmp}/out --model {t2v} --weights {weights}", "give one or the other"),
    ("lightx2v -o {tmp}/out --weights {foreign} --qparams {qparams}", "was not made from"),
    ("lightx2v -o {tmp}/out --weights {qparams} --qparams {weights}", "smoothed-weights is needed here"),
    ("diffusers --checkpoint {int8-t2v}", "`--output` is missing"),
    ("diffusers -o {tmp}/out", "Give one of --model, --checkpoint and --weights"),
    ("diffusers -o {tmp}/out --model {t2v} --dtype fp16", "`fp16` is not a dtype for computed weights: choose one"),
    ("diffusers -o {tmp}/out --checkpoint {weights}", "lightx2v-checkpoint is needed here"),
    ("encoders --model {t2v} --scheme int8", "`--output` is missing"),
    ("encoders --model {t2v} -o {tmp}/out", "`--scheme` is missing"),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSALS)
def test_a_mistake_is_one_sentence(
    vq_export: VqExport, places: Paths, capsys: Any, tmp_path: Path, line: str, sentence: str
) -> None:
    assert vq_export(*(word.format_map(places) for word in line.split())) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert sentence in captured.err.strip().splitlines()[-1]


def test_from_artifacts_to_a_verified_checkpoint(
    vq_export: VqExport, smoothed_i2v: dict[str, Any], models: Paths, tmp_path: Path, capsys: Any
) -> None:
    made, output = smoothed_i2v["fp8"], tmp_path / "ckpt"
    assert vq_export("lightx2v", "--weights", made.weights, "--qparams", made.qparams, "-o", output) == 0
    printed = capsys.readouterr().out
    for part in ("Wrote", "fp8", "advanced_ptq", "transformer", "GB", f"Next: vq-export verify {output} --model "):
        assert part in printed
    assert f"vq-infer i2v --model {models['i2v']} --checkpoint {output}" in printed
    assert vq_export("verify", output, "--model", models["i2v"]) == 0
    printed = capsys.readouterr().out
    assert "Verified" in printed
    assert "transformer attn1.to_q" in printed


@pytest.mark.parametrize("rounding", [(), ("--rounding", "qtorch")])
def test_conversion_prints_json_alone(
    vq_export: VqExport, models: Paths, tmp_path: Path, capsys: Any, rounding: tuple[str, ...]
) -> None:
    output = tmp_path / "ckpt"
    arguments = ("--model", models["i2v-2.2"], "--scheme", "fp8", *rounding, "-o", output, "--device", "cpu")
    assert vq_export("lightx2v", *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    assert result.pop("usage")["host_peak_bytes"] > 0
    assert result.pop("notes").keys() == {"model", "shift", "boundary"}
    found = result.pop("verified")
    assert found["problems"] == found["warnings"] == []
    assert found["blocks"].keys() == {"transformer", "transformer_2"}
    assert result == {
        "output": str(output),
        "scheme": "fp8",
        "smoothed": False,
        "components": ["transformer", "transformer_2"],
        "size": size,
        "rounding": "qtorch" if rounding else "nearest-even",
    }
    assert open_checkpoint(output).artifact.manifest.settings["quantize"] == {
        "scheme": "fp8",
        "method": "rtn",
        "rounding": "qtorch" if rounding else "nearest-even",
    }

    assert vq_export("verify", output, "--model", models["i2v-2.2"], "--json") == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["checkpoint"] == str(output)
    assert verified["problems"] == []
    assert [len(linears) for linears in verified["weight_snr_db"].values()] == [20, 20]


def test_a_recipe_says_everything(
    vq_export: VqExport, smoothed_i2v: dict[str, Any], models: Paths, tmp_path: Path
) -> None:
    (tmp_path / "road").mkdir()
    (tmp_path / "road" / "smoothed-weights").symlink_to(smoothed_i2v["int8"].weights)
    (tmp_path / "road" / "quant-params").symlink_to(smoothed_i2v["int8"].qparams)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {models['i2v']}\nscheme: int8\noutput: road\n")
    assert vq_export("lightx2v", "--recipe", recipe) == 0
    assert open_checkpoint(tmp_path / "road" / "lightx2v").has_gains

    assert vq_export("lightx2v", "--recipe", recipe, "--model", models["i2v"], "-o", tmp_path / "plain") == 0
    assert not open_checkpoint(tmp_path / "plain").has_gains


def test_verify_exits_with_one_where_something_is_wrong(
    vq_export: VqExport, checkpoints: Paths, rewrite: Callable[..., Path], capsys: Any
) -> None:
    broken = rewrite(checkpoints["int8-i2v"], lambda content: content.texts.update({"notes.txt": "hello"}))
    assert vq_export("verify", broken) == 1
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith(f"{broken} has a problem: ")
    assert "notes.txt is no part of a checkpoint" in captured.out

    assert vq_export("verify", broken, "--json") == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [f"{broken / 'notes.txt'} is no part of a checkpoint."]


def test_an_export_that_is_not_sound_exits_with_one_and_has_not_got_its_name(
    vq_export: VqExport, models: Paths, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(*arguments: Any) -> dict[str, torch.Tensor]:
        tensors = shard_tensors(*arguments)
        return {
            name: 2 * tensor if name.endswith("1.ffn.0.weight_scale") else tensor for name, tensor in tensors.items()
        }

    shard_tensors = lightx2v.shard_tensors
    output = tmp_path / "ckpt"
    arguments = ("lightx2v", "--model", models["t2v"], "--scheme", "int8", "-o", output)
    with monkeypatch.context() as patch:
        patch.setattr(lightx2v, "shard_tensors", doubled)
        assert vq_export(*arguments) == 1
    captured = capsys.readouterr()
    assert "blocks.1.ffn.net.0.proj` of transformer is not the source's weight" in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["ckpt.unverified"]
    assert vq_export("verify", tmp_path / "ckpt.unverified", "--model", models["t2v"]) == 1

    assert vq_export(*arguments) == 2
    assert "ckpt.unverified is in the way" in capsys.readouterr().err
    (tmp_path / "ckpt.unverified").rename(tmp_path / "broken")
    assert vq_export(*arguments) == 0
    assert "verified" in capsys.readouterr().out


def test_an_export_may_go_unverified(vq_export: VqExport, models: Paths, tmp_path: Path, capsys: Any) -> None:
    arguments = ("--model", models["t2v"], "--scheme", "int8", "-o")
    assert vq_export("lightx2v", *arguments, tmp_path / "ckpt", "--no-verify") == 0
    assert "no: --no-verify" in capsys.readouterr().out
    assert vq_export("comfyui", *arguments, tmp_path / "comfyui") == 0
    printed = capsys.readouterr().out
    assert re.search(r"verified +\d+ tensors; weight SNR .* transformer has heads of 16 channels and ComfyUI", printed)
    assert f"Next: copy {tmp_path}/comfyui/wan_t2v_int8.safetensors to ComfyUI" in printed


def test_strict_fails_on_what_was_not_compared(
    vq_export: VqExport, checkpoints: Paths, models: Paths, capsys: Any
) -> None:
    path = checkpoints["int8-i2v"]
    assert vq_export("verify", path) == 0
    assert "There was no source to compare with" in capsys.readouterr().out
    assert vq_export("verify", path, "--strict") == 1
    assert "has a warning: There was no source to compare with" in capsys.readouterr().err
    assert vq_export("verify", path, "--strict", "--model", models["i2v"]) == 0


def test_show_tells_how_a_checkpoint_was_made(
    vq_export: VqExport, checkpoints: Paths, models: Paths, capsys: Any
) -> None:
    path = checkpoints["fp8-smoothed"]
    assert vq_export("show", path) == 0
    printed = capsys.readouterr().out
    for part in ("fp8", "random", "rtn", "smoothed-weights", "torch ", "attn1.to_q", "SNR"):
        assert part in printed
    assert vq_export("show", path / "block_1.safetensors", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["shard"], said["model"]) == ("block_1", str(models["i2v"]))


def test_diffusers_from_a_checkpoint(vq_export: VqExport, checkpoints: Paths, tmp_path: Path, capsys: Any) -> None:
    output = tmp_path / "transformer"
    assert vq_export("diffusers", "--checkpoint", checkpoints["int8-t2v"], "-o", output, "--dtype", "bf16") == 0
    printed = capsys.readouterr().out
    for part in ("Wrote", "dequantized", "transformer", "GB"):
        assert part in printed
    assert vq_export("diffusers", "--model", output, "-o", tmp_path / "again", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["form"], result["components"]) == ("plain", ["transformer"])
    assert vq_export("diffusers", "--help") == 0
    assert "vq-export diffusers --weights smoothed -o transformer" in capsys.readouterr().out


def test_pth_is_read_where_it_is_allowed(vq_export: VqExport, models: Paths, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "pth"
    folder.mkdir()
    original = models["t2v"] / "transformer"
    (folder / "config.json").write_bytes((original / "config.json").read_bytes())
    torch.save(load_file(original / "diffusion_pytorch_model.safetensors"), folder / "model.pth")
    output = tmp_path / "ckpt"
    arguments = ("lightx2v", "--model", folder, "--scheme", "int8", "-o", output)
    assert vq_export(*arguments) == 2
    assert "add --allow-pth" in capsys.readouterr().err
    assert vq_export(*arguments, "--allow-pth") == 0
    assert vq_export("verify", output, "--model", folder, "--allow-pth") == 0
    assert vq_export("verify", output, "--model", models["t2v"]) == 0
