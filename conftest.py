"""Rules and fixtures of all tests: no network, no deadlines, and CUDA tests only where there is CUDA."""

import gc
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from vq_core.testing.tiny_models import Variant

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once

# Examples are the same on every run, and a busy machine is not a failure.
settings.register_profile("vq", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("vq")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where torch finds no CUDA device."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


class Frozen:
    """Keeps imported modules from the garbage collector: `encode` collects, and scanning them takes 0.3 s each time."""

    def __init__(self) -> None:
        self._modules = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Collect and freeze, if many modules have been imported since the last time."""
        if len(sys.modules) > self._modules + 100:
            gc.collect()
            gc.freeze()
            self._modules = len(sys.modules)


def pytest_configure(config: pytest.Config) -> None:
    """Freeze modules as tests import them."""
    config.pluginmanager.register(Frozen())


def pytest_unconfigure() -> None:
    """Unfreeze, so that the interpreter frees everything at its end."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give commands a cache folder that only the tests use."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """Skip flushing to the disk: tests need not survive a power cut. Processes that tests start still flush."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[["Variant"], Path]:
    """`tiny_model("i2v")`: the folder of that tiny pipeline, built when it is first asked for; not to be changed."""
    from vq_core.testing.tiny_models import build_tiny

    root = tmp_path_factory.mktemp("tiny")

    def build(variant: "Variant") -> Path:
        return root / variant if (root / variant).exists() else build_tiny(variant, root / variant)

    return build


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`run_command("vq-algos", "show", path)` runs a command in this process, 200 columns wide; its exit code."""

    def run(command: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [command, *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            import_module(f"{command.replace('-', '_')}.cli").main()
        return int(stopped.value.code or 0)

    return run


STAGES = [
    "vq_algos.smoothing.smooth",
    "vq_algos.rounding.quantize",
    "vq_algos.show",
    "vq_calib.collection.distributed",
    "vq_core.recipes.recipe",
    "vq_eval.videos.run",
]
PIPELINE = ["diffusers.pipelines.wan.pipeline_wan", "transformers.models.umt5.modeling_umt5"]
"""Diffusers asks for CUDA devices as it is imported, and a process that has asked cannot be forked to use them."""

# Run in front of the code, with `environment`, `threads` and `output`.
AS_A_COMMAND = """
import gc, os, sys
gc.freeze()  # or whatever collects would look through all that the process was forked with
os.environ.clear()
os.environ.update(environment)
if "torch" in sys.modules:
    sys.modules["torch"].set_num_threads(threads)
for stream in (1, 2):
    os.dup2(os.open(f"{output}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
"""


@dataclass(frozen=True)
class Started:
    """A started process and its output."""

    process: BaseProcess
    output: str

    def ended(self, timeout_s: float) -> int:
        """Wait for its end and return the exit code; minus the signal, if one killed it."""
        self.process.join(timeout_s)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
        assert code is not None, f"not ended after {timeout_s} s: {self.stderr}"
        return code

    @property
    def stdout(self) -> str:
        """Its standard output."""
        return Path(f"{self.output}.1").read_text()

    @property
    def stderr(self) -> str:
        """Its standard error."""
        return Path(f"{self.output}.2").read_text()


@pytest.fixture(scope="session")
def start_code(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Started]:
    """`start_code(code, NAME="value")` runs Python code in a process of its own with these more in its environment.

    It is forked from one that has imported the stages and done nothing else: importing takes each its own 7 s of a
    core. Its stages see the environment, but libraries that read it when they are imported do not.
    """
    import torch

    folder = tmp_path_factory.mktemp("started")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(STAGES if torch.cuda.is_available() else STAGES + PIPELINE)
    numbers = count()

    def start(code: str, **variables: str) -> Started:
        output = str(folder / str(next(numbers)))
        given = {"environment": os.environ | variables, "threads": torch.get_num_threads(), "output": output}
        prelude = "".join(f"{name} = {value!r}\n" for name, value in given.items())
        process = context.Process(target=exec, args=(prelude + AS_A_COMMAND + code, {"__name__": "__main__"}))
        process.start()
        return Started(process, output)

    return start


@pytest.fixture
def start_ranks(start_code: Callable[..., Started]) -> Callable[..., list[Started]]:
    """`start_ranks(code, …)` starts one process for each code, ranks as torchrun would start them, with no launcher."""

    def start(*codes: str) -> list[Started]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        sizes = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(len(codes)))
        ranks = [sizes | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(len(codes))]
        return [start_code(code, **address, **rank) for code, rank in zip(codes, ranks, strict=True)]

    return start


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an S3 server on this machine, a process of its own (moto's)."""
    log = tmp_path_factory.mktemp("s3") / "log.txt"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as server:
        try:
            while not (address := re.search(r"Running on (http://\S+)", log.read_text())):
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
            yield address[1]
        finally:
            server.terminate()


@pytest.fixture
def bucket(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of an empty bucket, reached through the environment as users' are; copies of it lie in `tmp_path`."""
    from s3fs import S3FileSystem

    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "VQ_CACHE": str(tmp_path / "cache"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # an instance keeps the environment that it was made in
    name = f"bucket-{uuid4().hex}"
    S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    S3FileSystem.clear_instance_cache()
