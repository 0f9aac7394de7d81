"""run_lightx2v.sh hands run configs and the user's words over to LightX2V unchanged."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.checkpoint import RUN_CONFIG_FOLDER
from vq_core.families.wan.kinds import KINDS
from vq_core.numerics.scheme import FP8, INT8, QuantScheme
from vq_export.lightx2v.run_configs import RUN_SCRIPT, Task, Variant, run_configs, run_script, variant_and_task

PROMPT = 'a "quoted" cat\'s  café, $HOME `date`\nsecond line; --seed 1 \\'

BY_NAME = {variant_and_task(kind): kind for kind in KINDS}


class Desk:
    """A checkpoint with its script, a model folder, and a LightX2V that writes what it was given."""

    def __init__(self, root: Path, variant: Variant, task: Task, scheme: QuantScheme, release: str) -> None:
        self.checkpoint = root / "my checkpoint"
        for name, config in run_configs(BY_NAME[variant, task], scheme, {}, gains=True).items():
            path = self.checkpoint / RUN_CONFIG_FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(config))
        (self.checkpoint / RUN_SCRIPT).write_text(run_script(), encoding="utf-8")
        self.model = root / "the model"
        self.model.mkdir()
        (self.model / "models_t5_umt5-xxl-enc-bf16.pth").touch()
        self.image = root / "an image, really.png"
        self.image.touch()
        self.lightx2v = root / "LightX2V"
        self.seen = root / "seen.json"
        _fake_lightx2v(self.lightx2v, self.seen, release)
        self.options = {"model": self.model, "lightx2v": self.lightx2v, "prompt": PROMPT, "python": sys.executable}
        self.last_image, self.video = root / "the last.png", root / "sea.mp4"
        self.last_image.touch()
        self.video.touch()
        files: dict[Task, dict[str, Path | str]] = {
            "t2v": {},
            "i2v": {"image": self.image},
            "flf2v": {"image": self.image, "last_image": self.last_image},
            "vace": {"reference": f"{self.last_image},{self.video}", "video": self.video},
        }
        self.options |= {"output": root / "out.mp4"} | files[task]
        self.site = root / "site"
        for module in ("vllm/_custom_ops", "sgl_kernel/__init__", "q8_kernels/functional/linear"):
            self.install(module, "int8_scaled_mm = fp8_scaled_mm = q8_linear = fp8_linear = None\n")

    def install(self, module: str, text: str) -> None:
        """Put the `module` of a package of kernels where the script's Python finds it."""
        path = self.site / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, **changes: str | Path | None) -> subprocess.CompletedProcess[str]:
        options = {key.replace("_", "-"): value for key, value in (self.options | changes).items() if value is not None}
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        command = ["bash", str(self.checkpoint / RUN_SCRIPT), *words]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.model,
            env=os.environ | {"PYTHONPATH": str(self.site)},
            check=False,
        )

    def given(self) -> dict[str, Any]:
        given: dict[str, Any] = json.loads(self.seen.read_text())
        return given


def _fake_lightx2v(folder: Path, seen: Path, release: str) -> None:
    flag = {"new": "--save_result_path", "2025-10": "--save_result_path", "2025-07": "--save_video_path"}[release]
    (folder / "lightx2v" / "utils").mkdir(parents=True)
    (folder / "lightx2v" / "__init__.py").touch()
    (folder / "lightx2v" / "utils" / "set_config.py").write_text("" if release == "new" else '{"mm_config": {}}\n')
    (folder / "lightx2v" / "infer.py").write_text(
        f"# takes {flag}\n"
        "import json, os, sys\n"
        "given = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))\n"
        "given['config'] = json.load(open(given['--config_json']))\n"
        "given['dtype'] = os.environ['DTYPE']\n"
        f"json.dump(given, open({str(seen)!r}, 'w'))\n"
    )


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Desk]:
    def make(variant: Variant = "wan2.1", task: Task = "i2v", scheme: QuantScheme = INT8, release: str = "new") -> Desk:
        return Desk(tmp_path, variant, task, scheme, release)

    return make


@pytest.mark.parametrize(("variant", "task"), sorted(BY_NAME))
def test_script_hands_everything_over(desk: Callable[..., Desk], variant: Variant, task: Task) -> None:
    table = desk(variant, task, FP8)
    result = table.run(seed="7", negative_prompt="blurred, 'bad'")
    assert result.returncode == 0, result.stderr

    given = table.given()
    assert (given["--model_cls"], given["--task"], given["--seed"]) == (variant, task, "7")
    assert (given["--prompt"], given["--negative_prompt"]) == (PROMPT, "blurred, 'bad'")
    assert given["--model_path"] == str(table.model)
    assert given["--save_result_path"] == str(table.options["output"])
    assert given.get("--image_path") == (str(table.image) if task in ("i2v", "flf2v") else None)
    assert given.get("--last_frame_path") == (str(table.last_image) if task == "flf2v" else None)
    assert given.get("--src_ref_images") == (f"{table.last_image},{table.video}" if task == "vace" else None)
    assert given.get("--src_video") == (str(table.video) if task == "vace" else None)
    assert given["dtype"] == "BF16"
    config = given["config"]
    assert (config["dit_quant_scheme"], config["task"]) == ("fp8-vllm", task)
    checkpoint = str(table.checkpoint)
    folders = {key: value for key, value in config.items() if key.endswith("_ckpt")}
    if "moe" in variant:
        assert folders == {
            "high_noise_quantized_ckpt": f"{checkpoint}/high_noise_model",
            "low_noise_quantized_ckpt": f"{checkpoint}/low_noise_model",
        }
    else:
        assert folders == {"dit_quantized_ckpt": checkpoint}
    assert not Path(given["--config_json"]).exists()


def test_script_takes_an_edited_copy_of_a_run_config(desk: Callable[..., Desk], tmp_path: Path) -> None:
    table = desk()
    edited = json.loads((table.checkpoint / RUN_CONFIG_FOLDER / "int8-sgl.json").read_text()) | {"infer_steps": 4}
    (tmp_path / "mine.json").write_text(json.dumps(edited))
    assert table.run(run_config=tmp_path / "mine.json").returncode == 0
    config = table.given()["config"]
    assert (config["infer_steps"], config["dit_quant_scheme"]) == (4, "int8-sgl")
    assert config["dit_quantized_ckpt"] == str(table.checkpoint)


@pytest.mark.parametrize(
    ("release", "save", "seed"), [("2025-07", "--save_video_path", None), ("2025-10", "--save_result_path", "9")]
)
def test_script_speaks_to_releases_with_the_old_config(
    desk: Callable[..., Desk], release: str, save: str, seed: str | None
) -> None:
    table = desk(release=release)
    result = table.run(seed="9", scheme="int8-q8f")
    assert result.returncode == 0, result.stderr
    given = table.given()
    assert {key: value for key, value in given.items() if "save" in key} == {save: str(table.options["output"])}
    assert given.get("--seed") == seed
    assert given["config"]["seed"] == 9
    assert given["config"]["mm_config"]["mm_type"].endswith("-Q8F")


@pytest.mark.parametrize(
    ("kind", "option", "flag", "task"),
    [
        (("wan2.2", "t2v"), "image", "--image_path", "i2v"),
        (("wan2.2_moe", "i2v"), "last_image", "--last_frame_path", "flf2v"),
    ],
)
def test_an_image_that_is_given_decides_the_task(
    desk: Callable[..., Desk], kind: tuple[Variant, Task], option: str, flag: str, task: str
) -> None:
    table = desk(*kind)
    assert table.run(**{option: table.last_image}).returncode == 0
    given = table.given()
    assert given["--task"] == given["config"]["task"] == task
    assert given[flag] == str(table.last_image)


def test_vace_needs_no_file(desk: Callable[..., Desk]) -> None:
    table = desk("wan2.1_vace", "vace")
    assert table.run(reference=None, video=None).returncode == 0
    assert not {"--src_ref_images", "--src_video", "--src_mask"} & table.given().keys()


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        (("wan2.1", "flf2v"), {"last_image": None}, "goes from a first frame to a last: give --image and --last-image"),
        (("wan2.1", "i2v"), {"last_image": "the last.png"}, "this checkpoint knows no last frame"),
        (("wan2.1", "t2v"), {"video": "sea.mp4"}, "is not steered by videos or references: leave --video, --mask and"),
        (("wan2.1", "t2v"), {"reference": "sea.mp4"}, "is not steered by videos or references"),
        (("wan2.1_vace", "vace"), {"image": "the last.png"}, "does not animate an image"),
        (("wan2.1_vace", "vace"), {"mask": "sea.mp4", "video": None}, "is for a video: give --video"),
        (("wan2.1_vace", "vace"), {"reference": "sea.mp4,nowhere.png"}, "--reference nowhere.png is not a file"),
        (("wan2.1_vace", "vace"), {"video": "nowhere.mp4"}, "--video nowhere.mp4 is not a file"),
        (("wan2.1_vace", "vace"), {"mask": "nowhere.mp4"}, "--mask nowhere.mp4 is not a file"),
        (("wan2.1", "flf2v"), {"last_image": "nowhere.png"}, "--last-image nowhere.png is not a file"),
        (("wan2.1", "t2v"), {"image": "the last.png"}, "leave --image out"),
        ((), {"model": None}, "give --model"),
        ((), {"model": "nowhere"}, "--model nowhere is not a folder"),
        ((), {"model": ".."}, "has no models_t5_umt5-xxl-enc-bf16.pth: give the native model"),
        ((), {"lightx2v": None}, "give --lightx2v"),
        ((), {"lightx2v": "/"}, "--lightx2v / is not a LightX2V clone"),
        ((), {"python": "no-such-python"}, "--python no-such-python is not a program"),
        ((), {"prompt": None}, "give --prompt"),
        ((), {"image": None}, "this checkpoint animates an image"),
        ((), {"image": "nowhere.png"}, "--image nowhere.png is not a file"),
        ((), {"run_config": "nowhere.json"}, "--run-config nowhere.json is not a file"),
        ((), {"scheme": "int8-triton"}, "--scheme int8-triton has no "),
        ((), {"seed": "x"}, "--seed x is not a whole number"),
        ((), {"output": "nowhere/out.mp4"}, "--output nowhere/out.mp4 is in a folder that does not exist"),
        ((), {"output": "models_t5_umt5-xxl-enc-bf16.pth"}, "exists: name another file"),
        ((), {"colour": "red"}, "there is no option --colour"),
    ],
)
def test_script_refuses(
    desk: Callable[..., Desk], kind: tuple[Variant, Task] | tuple[()], changes: dict[str, str | None], sentence: str
) -> None:
    table = desk(*kind)
    for file in ("the last.png", "sea.mp4"):
        (table.model / file).touch()
    result = table.run(**changes)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not table.seen.exists()


@pytest.mark.parametrize(
    ("scheme", "backend", "gone", "sentence"),
    [
        (INT8, None, "vllm", "kernels of int8-vllm cannot be imported (ModuleNotFoundError: No module named 'vllm'"),
        (FP8, "fp8-vllm", "vllm", "pip install vllm, or choose other kernels."),
        (INT8, "int8-sgl", "sgl_kernel", "pip install sglang-kernel (formerly sgl-kernel)"),
        (INT8, "int8-q8f", "q8_kernels", "build and install ModelTC/q8_kernels from GitHub"),
    ],
)
def test_kernels_that_are_not_installed_are_found_before_anything_is_loaded(
    desk: Callable[..., Desk], scheme: QuantScheme, backend: str | None, gone: str, sentence: str
) -> None:
    table = desk("wan2.1", "i2v", scheme)
    shutil.rmtree(table.site / gone)
    result = table.run(scheme=backend)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.startswith("run_lightx2v.sh: the kernels of ")
    assert result.stderr.count("\n") == 1
    assert not table.seen.exists()


def test_kernels_with_a_quantizer_that_truncates_are_warned_of(desk: Callable[..., Desk]) -> None:
    table = desk()
    shutil.rmtree(table.site / "vllm")
    table.install("sgl_kernel/__init__", "import sys; print('noise', file=sys.stderr)\nint8_scaled_mm = None\n")
    result = table.run(scheme="int8-sgl")
    assert result.returncode == 0
    assert result.stderr.startswith("run_lightx2v.sh: warning: int8-sgl has no exact quantizer of its inputs here")
    assert result.stderr.count("\n") == 1
    table.install("vllm/_custom_ops", "")
    assert table.run(scheme="int8-sgl").stderr == ""


def test_script_takes_relative_paths(desk: Callable[..., Desk]) -> None:
    table = desk()
    result = table.run(model=".", lightx2v="../LightX2V", image=f"../{table.image.name}", output="out.mp4")
    assert result.returncode == 0, result.stderr
    assert table.given()["--model_path"] == "."


def test_script_refuses_an_option_without_value_and_explains_itself(desk: Callable[..., Desk]) -> None:
    script = str(desk().checkpoint / RUN_SCRIPT)
    missing = subprocess.run(["bash", script, "--model"], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "--model needs a value" in missing.stderr
    help_text = subprocess.run(["bash", script, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--lightx2v" in help_text


def test_script_passes_on_that_lightx2v_failed(desk: Callable[..., Desk]) -> None:
    table = desk()
    (table.lightx2v / "lightx2v" / "infer.py").write_text("# --save_result_path\nraise SystemExit(3)\n")
    assert table.run().returncode == 3
