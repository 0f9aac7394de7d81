"""The command as a user types it: exit codes, one sentence for every mistake, and JSON that is nothing but JSON."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint

VqExport = Callable[..., int]


@pytest.fixture
def refused(vq_export: VqExport, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """The sentence with which a command line is refused; nothing may be left of its output."""

    def sentence(*arguments: object) -> str:
        before = sorted(tmp_path.iterdir())
        assert vq_export(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert sorted(tmp_path.iterdir()) == before
        return captured.err.strip().splitlines()[-1]

    return sentence


def test_from_artifacts_to_a_verified_checkpoint(
    vq_export: VqExport, smoothed_i2v: dict[str, Any], models: dict[str, Path], tmp_path: Path, capsys: Any
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
    vq_export: VqExport, models: dict[str, Path], tmp_path: Path, capsys: Any, rounding: tuple[str, ...]
) -> None:
    output = tmp_path / "ckpt"
    arguments = ("--model", models["i2v-2.2"], "--scheme", "fp8", *rounding, "-o", output, "--device", "cpu")
    assert vq_export("lightx2v", *arguments, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    assert result.pop("usage")["host_peak_bytes"] > 0
    found = result.pop("verified")
    assert found["problems"] == found["warnings"] == []
    assert found["blocks"].keys() == {"transformer", "transformer_2"}
    assert result == {
        "output": str(output),
        "scheme": "fp8",
        "smoothed": False,
        "components": ["transformer", "transformer_2"],
        "size": size,
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
    vq_export: VqExport, smoothed_i2v: dict[str, Any], models: dict[str, Path], tmp_path: Path
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
    vq_export: VqExport, checkpoints: dict[str, Path], rewrite: Callable[..., Path], capsys: Any
) -> None:
    broken = rewrite(checkpoints["int8-i2v"], lambda content: content.texts.update({"notes.txt": "hello"}))
    assert vq_export("verify", broken) == 1
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith(f"{broken} has a problem: ")
    assert "notes.txt is no part of a checkpoint" in captured.out

    assert vq_export("verify", broken, "--json") == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [f"{broken / 'notes.txt'} is no part of a checkpoint."]


def test_an_export_that_is_not_sound_exits_with_one_and_has_not_got_its_name(
    vq_export: VqExport, models: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vq_export.targets import lightx2v

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


def test_an_export_may_go_unverified(
    vq_export: VqExport, models: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vq_export.targets import lightx2v

    output = tmp_path / "ckpt"
    assert vq_export("lightx2v", "--model", models["t2v"], "--scheme", "int8", "-o", output, "--no-verify") == 0
    assert "no: --no-verify" in capsys.readouterr().out
    monkeypatch.setattr(lightx2v, "VERIFIER", None)
    assert vq_export("lightx2v", "--model", models["t2v"], "--scheme", "int8", "-o", tmp_path / "other") == 0
    assert "no: there is no verifier for lightx2v yet" in capsys.readouterr().out


def test_strict_fails_on_what_was_not_compared(
    vq_export: VqExport, checkpoints: dict[str, Path], models: dict[str, Path], capsys: Any
) -> None:
    path = checkpoints["int8-i2v"]
    assert vq_export("verify", path) == 0
    assert "There was no source to compare with" in capsys.readouterr().out
    assert vq_export("verify", path, "--strict") == 1
    assert "has a warning: There was no source to compare with" in capsys.readouterr().err
    assert vq_export("verify", path, "--strict", "--model", models["i2v"]) == 0


def test_show_tells_how_a_checkpoint_was_made(
    vq_export: VqExport, checkpoints: dict[str, Path], models: dict[str, Path], capsys: Any, refused: Callable[..., str]
) -> None:
    path = checkpoints["fp8-smoothed"]
    assert vq_export("show", path) == 0
    printed = capsys.readouterr().out
    for part in ("fp8", "random", "rtn", "smoothed-weights", "torch ", "attn1.to_q", "SNR"):
        assert part in printed
    assert vq_export("show", path / "block_1.safetensors", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["shard"], said["model"]) == ("block_1", str(models["i2v"]))
    assert "does not say how it was quantized" in refused(
        "show", models["i2v"] / "transformer" / "diffusion_pytorch_model.safetensors"
    )
    assert "is not a lightx2v-checkpoint artifact" in refused("show", models["i2v"])


def test_verify_refuses_what_was_edited_behind_the_manifest(
    checkpoints: dict[str, Path], rewrite: Callable[..., Path], refused: Callable[..., str]
) -> None:
    path = rewrite(checkpoints["int8-i2v"], lambda content: None)
    (path / "stray.safetensors").write_bytes(b"")
    assert "holds stray.safetensors, which is not part of the artifact" in refused("verify", path)
    (path / "stray.safetensors").unlink()

    manifest = path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"scheme": "int8"', '"scheme": "fp8"'))
    assert "does not match its own digest" in refused("verify", path)


def test_verify_refuses_what_is_no_checkpoint(
    refused: Callable[..., str], smoothed_i2v: dict[str, Any], models: dict[str, Path], tmp_path: Path
) -> None:
    assert "is not a lightx2v-checkpoint artifact" in refused("verify", models["t2v"])
    assert "is not a lightx2v-checkpoint artifact" in refused("verify", tmp_path / "nowhere")
    assert "lightx2v-checkpoint is needed here" in refused("verify", smoothed_i2v["int8"].weights)


def test_verify_refuses_another_model(
    refused: Callable[..., str], checkpoints: dict[str, Path], models: dict[str, Path]
) -> None:
    assert "was made from another model" in refused("verify", checkpoints["int8-i2v"], "--model", models["t2v"])


def test_nan_in_a_weight_is_refused_by_name(
    refused: Callable[..., str], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blocks.0.ffn.net.2.weight"][3, 4] = float("nan")

    model = make_model("t2v", edit=damage)
    sentence = refused("lightx2v", "--model", model, "--scheme", "int8", "-o", tmp_path / "ckpt")
    assert sentence.startswith("`blocks.0.ffn.net.2.weight` in ")
    assert "NaN or infinite" in sentence


def test_an_output_that_exists_is_refused(refused: Callable[..., str], models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "ckpt").mkdir()
    sentence = refused("lightx2v", "--model", models["t2v"], "--scheme", "int8", "-o", tmp_path / "ckpt")
    assert sentence == f"{tmp_path / 'ckpt'} exists already: choose another --output or remove it."


def test_what_is_missing_or_unknown_is_refused(
    refused: Callable[..., str], models: dict[str, Path], smoothed_i2v: dict[str, Any], tmp_path: Path
) -> None:
    model, made, output = models["t2v"], smoothed_i2v["int8"], tmp_path / "ckpt"
    assert "`--output` is missing" in refused("lightx2v", "--model", model, "--scheme", "int8")
    assert "Nothing to export" in refused("lightx2v", "-o", output)
    assert "`int4` is not a scheme" in refused("lightx2v", "--model", model, "--scheme", "int4", "-o", output)
    assert "give one or the other" in refused("lightx2v", "--model", model, "--weights", made.weights, "-o", output)
    assert "neither a folder nor a hub id" in refused(
        "lightx2v", "--model", tmp_path / "nowhere", "--scheme", "int8", "-o", output
    )
    assert "is not a device" in refused(
        "lightx2v", "--model", model, "--scheme", "int8", "-o", output, "--device", "tpu"
    )


def test_artifacts_in_each_others_place_or_of_each_other_are_refused(
    refused: Callable[..., str], smoothed_i2v: dict[str, Any], make_artifacts: Any, models: Any, tmp_path: Path
) -> None:
    made, output = smoothed_i2v["int8"], tmp_path / "ckpt"
    foreign = make_artifacts(models["t2v"])
    other = refused("lightx2v", "--weights", foreign.weights, "--qparams", made.qparams, "-o", output)
    assert "was not made from" in other
    other = refused("lightx2v", "--weights", made.qparams, "--qparams", made.weights, "-o", output)
    assert "smoothed-weights is needed here" in other


def test_examples_stand_in_the_help(vq_export: VqExport, capsys: Any) -> None:
    assert vq_export("verify", "--help") == 0
    assert "vq-export verify checkpoint --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers" in capsys.readouterr().out
    assert vq_export("lightx2v", "--help") == 0
    printed = capsys.readouterr().out
    assert "vq-export lightx2v --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --scheme fp8 -o checkpoint" in printed
    assert "TARGET" not in printed


# --- diffusers ------------------------------------------------------------------------------------


def test_diffusers_from_a_checkpoint(
    vq_export: VqExport, checkpoints: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
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


def test_diffusers_mistakes_are_one_sentence(
    refused: Callable[..., str], checkpoints: dict[str, Path], models: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint, output = checkpoints["int8-t2v"], tmp_path / "out"
    assert "`--output` is missing" in refused("diffusers", "--checkpoint", checkpoint)
    assert "Give one of --model, --checkpoint and --weights" in refused("diffusers", "-o", output)
    assert "`fp16` is not a dtype" in refused("diffusers", "--model", models["t2v"], "--dtype", "fp16", "-o", output)
    assert "lightx2v-checkpoint is needed here" in refused(
        "diffusers", "--checkpoint", make_kind(tmp_path, "smoothed-weights"), "-o", output
    )


def make_kind(tmp_path: Path, kind: str) -> Path:
    (tmp_path / kind).mkdir(exist_ok=True)
    (tmp_path / kind / "manifest.json").write_text(json.dumps({"kind": kind, "format": 1}))
    return tmp_path / kind


def test_what_is_quantized_already_is_refused_by_name(
    refused: Callable[..., str], checkpoints: dict[str, Path], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    def comfyui(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blocks.0.attn1.to_q.weight"] = tensors["blocks.0.attn1.to_q.weight"].to(torch.float8_e4m3fn)
        tensors["blocks.0.attn1.to_q.scale_weight"] = torch.ones(())

    output = ("--scheme", "int8", "-o", tmp_path / "out")
    said = refused("lightx2v", "--model", checkpoints["int8-t2v"], *output)
    assert "is a lightx2v-checkpoint, quantized already: use it as it is, or make full precision of it" in said
    said = refused("lightx2v", "--model", make_model("t2v", edit=comfyui), *output)
    assert (
        "is quantized already, for ComfyUI (`blocks.0.attn1.to_q.scale_weight` is F32): give the model in bf16" in said
    )


@pytest.mark.parametrize("native", [False, True])
def test_llmc_needs_no_scheme(
    vq_export: VqExport, by_llmc: Callable[..., Path], tmp_path: Path, capsys: Any, native: bool
) -> None:
    assert vq_export("lightx2v", "--model", by_llmc("i2v", "fp8", native=native), "-o", tmp_path / "ckpt") == 0
    printed = capsys.readouterr().out
    assert "advanced_ptq" in printed
    assert vq_export("verify", tmp_path / "ckpt") == 0


def test_pth_is_read_where_it_is_allowed(
    vq_export: VqExport, refused: Callable[..., str], models: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    folder = tmp_path / "pth"
    folder.mkdir()
    original = models["t2v"] / "transformer"
    (folder / "config.json").write_bytes((original / "config.json").read_bytes())
    torch.save(load_file(original / "diffusion_pytorch_model.safetensors"), folder / "model.pth")
    output = tmp_path / "ckpt"
    assert "add --allow-pth" in refused("lightx2v", "--model", folder, "--scheme", "int8", "-o", output)
    assert vq_export("lightx2v", "--model", folder, "--scheme", "int8", "-o", output, "--allow-pth") == 0
    assert vq_export("verify", output, "--model", folder, "--allow-pth") == 0
    assert vq_export("verify", output, "--model", models["t2v"]) == 0
