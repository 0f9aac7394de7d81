import io
import re
import sys
from collections.abc import Callable

import pytest

from vq_core.runtime import progress as module
from vq_core.runtime.progress import progress, transfer_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Stop the clock, and return the function that moves it on."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def test_a_log_gets_plain_lines(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("smooth", 10, "block") as advance:
        for _ in range(10):
            clock(20)
            advance()
    out, err = capsys.readouterr()
    assert out == ""
    # A line at most every 30 s, and always the last.
    assert err.splitlines() == [
        "smooth: 2/10 blocks, 20.0 s/block, 160 s left",
        "smooth: 4/10 blocks, 20.0 s/block, 120 s left",
        "smooth: 6/10 blocks, 20.0 s/block, 80 s left",
        "smooth: 8/10 blocks, 20.0 s/block, 40 s left",
        "smooth: 10/10 blocks, 20.0 s/block, 0 s left",
    ]


def test_fast_work_is_one_line_with_a_rate(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("verify", 4, "tensor") as advance:
        for _ in range(4):
            clock(0.1)
            advance()
    assert capsys.readouterr().err == "verify: 4/4 tensors, 10.0 tensors/s, 0 s left\n"


def test_work_that_takes_no_time_has_a_rate(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("verify", 1, "tensor") as advance:
        advance()
    assert capsys.readouterr().err.startswith("verify: 1/1 tensors, ")


def test_a_transfer_is_told_in_bytes(clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    with transfer_progress("upload s3://b/x", 4_000_000_000) as advance:
        for _ in range(4):
            clock(20)
            advance(1_000_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "upload s3://b/x: 2.0 GB/4.0 GB, 50.0 MB/s, 40 s left",
        "upload s3://b/x: 4.0 GB/4.0 GB, 50.0 MB/s, 0 s left",
        "upload s3://b/x: 4.0 GB, 50.0 MB/s, 0 s left",
    ]


def test_a_terminal_gets_a_bar_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with transfer_progress("upload [x]", 2_000_000) as advance:
        advance(2_000_000)
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "upload [x]" in shown
    assert "2.0/2.0 MB" in shown


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("smooth", 2, "block") as advance:
        advance()
        advance()
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "smooth" in shown
    assert "2/2" in shown
    assert re.search(r"blocks/s", shown)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_errors_pass_through(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    with pytest.raises(KeyError), progress("smooth", 2, "block"):
        raise KeyError
