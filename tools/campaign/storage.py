"""A case in which inputs and output lie in a bucket, behind a network that fails; then the same again, healthy."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from campaign.child import Call
from campaign.classify import Judged, Verdict, judge_end, judge_output
from campaign.faulty_proxy import FAULTS
from campaign.stage import Stage, Told

SERVED = {"vq-calib merge", "vq-algos smooth", "vq-algos quantize", "vq-export lightx2v", "vq-export comfyui"}
"""Commands whose roads are short, for which every input may be a URI."""


def server_log(folder: Path) -> Path:
    return folder / "s3.log"


@contextmanager
def s3_server(folder: Path) -> Iterator[str | None]:
    """Address of moto's S3 server, a process of its own; None where moto is not installed."""
    log = server_log(folder)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as server:
        try:
            while not (address := re.search(r"Running on http://(\S+)", log.read_text())):
                if server.poll() is not None:
                    yield None
                    return
                time.sleep(0.1)
            yield address[1]
        finally:
            server.terminate()


@contextmanager
def _proxy(server: str, fault: str, every: int) -> Iterator[str]:
    """Address of a server that passes on to `server`, with a fault."""
    host, port = server.split(":")
    command = [sys.executable, "-m", "campaign.faulty_proxy", host, port, fault, str(every)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as proxy:
        assert proxy.stdout is not None
        try:
            yield f"127.0.0.1:{proxy.stdout.readline().strip()}"
        finally:
            proxy.kill()


def _reached_at(address: str, call: Call) -> Call:
    environment = {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }
    return replace(call, environment=environment)


def fits(command: str, words: tuple[str, ...]) -> bool:
    """Whether a road can be taken through a bucket."""
    return command in SERVED and "--recipe" not in words and "out" in words


def bucket_call(stage: Stage, bucket: str) -> Call:
    """The command with every input and the output in the bucket."""
    there = {*stage.reads, "out"}
    words = [f"{bucket}/{word}" if word.split("/")[0] in there else word for word in stage.road.words]
    words = [f"{bucket}/{word}" if word.split(":")[0] in there else word for word in words]
    return Call("", stage.folder, arguments=tuple(words))


def copy_files(stage: Stage, address: str, bucket: str, back: bool) -> None:
    """Copy the inputs to the bucket, or the output from there, in a process of its own."""
    call = _reached_at(address, stage.call)

    def copy() -> None:
        from s3fs import S3FileSystem

        S3FileSystem.clear_instance_cache()
        s3 = S3FileSystem()
        if back:
            s3.get(f"{bucket}/out", str(stage.folder / "out"), recursive=True)
        else:
            s3.mkdir(bucket)
            for name in stage.reads:
                s3.put(str(stage.folder / name), f"{bucket}/{name}", recursive=True)
        os._exit(0)

    stage.start(replace(call, line="vq-algos --help", arguments=None), copy).ended()


def run(stage: Stage) -> Told:
    """Run against a server that fails, then, if that was refused, against a healthy one; judge both."""
    assert stage.s3 is not None
    fault, every = stage.chance.choice(FAULTS), stage.chance.choice((1, 2, 3, 7))
    bucket = f"s3://bucket-{stage.chance.randrange(1 << 48):x}"
    copy_files(stage, stage.s3, bucket, back=False)
    call = bucket_call(stage, bucket)
    scene = stage.scene(bucket=f"{bucket}/")
    with _proxy(stage.s3, fault, every) as address:
        outcome = stage.run(_reached_at(address, call))
    what, exactly = f"S3: {fault}", f"every {every}. connection"
    judged = judge_end(scene, outcome)
    if judged is None and outcome.code != 0:
        again = replace(call, arguments=(*call.words, "--resume")) if stage.road.resumable else call
        outcome = stage.run(_reached_at(stage.s3, again))
        if outcome.code != 0:
            judged = judge_end(scene, outcome) or Judged(Verdict.LOST, f"cannot go on: {outcome.stderr.strip()[-200:]}")
    if judged is None:
        copy_files(stage, stage.s3, bucket, back=True)
        judged = judge_output(scene, outcome.stdout, None)
    return stage.told(what, exactly, judged)
