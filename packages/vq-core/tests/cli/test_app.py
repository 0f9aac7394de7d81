"""Exit codes, one sentence for a user's mistake, a traceback for a bug, and clean JSON."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.table import Table

from vq_core.cli.app import new_app, report, required, run
from vq_core.errors import GateFailed, VqError

Command = Callable[[], None]


@pytest.fixture
def exit_code(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run an app whose only command calls the given function; the exit code."""

    def outcome(action: Command, *arguments: str) -> int:
        app = new_app("A test.")

        @app.command("go")
        def go(count: int = 1) -> None:
            action()

        @app.command("stay")
        def stay() -> None:
            pass

        monkeypatch.setattr(sys, "argv", ["vq-test", *(arguments or ("go",))])
        with pytest.raises(SystemExit) as stopped:
            run(app)
        code = stopped.value.code
        return code if isinstance(code, int) else 0

    return outcome


def failing(error: BaseException) -> Command:
    def action() -> None:
        raise error

    return action


def test_done_is_zero(exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: print("done")) == 0
    assert capsys.readouterr().out == "done\n"


LONG = f"the tensor `blocks.0.[x]` in {'/folder' * 30} is [red] and wrong: get it again."


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (VqError(LONG), 2, LONG),
        (GateFailed("PSNR is 20 dB, below --min-psnr 30."), 1, "PSNR is 20 dB, below --min-psnr 30."),
        (OSError(errno.ENOSPC, "No space left", "/data/out"), 2, "No space is left for /data/out: free some"),
        (OSError(errno.ENOSPC, "No space left"), 2, "No space is left for the output"),
        (PermissionError(errno.EACCES, "denied", "/srv/x"), 2, "/srv/x may not be written or read"),
        (OSError(errno.EFBIG, "File too large", "/usb/x"), 2, "/usb/x is a larger file than this disk"),
        (OSError(errno.ENAMETOOLONG, "too long", "/x/aa"), 2, "/x/aa is a longer name than this disk allows"),
        (OSError(errno.ELOOP, "loop", "/x/loop"), 2, "/x/loop is a link that leads back to itself"),
        (
            OSError(errno.EIO, "Input/output error", "/usb/x"),
            2,
            "/usb/x cannot be read or written (Input/output",
        ),
        (OSError(errno.EMFILE, "Too many"), 2, "Too many files are open at once: allow more, such as with `ulimit -n"),
        (VqError("There is no LoRA a\nb: get it."), 2, r"There is no LoRA a\nb: get it."),
        (OSError(errno.EROFS, "read-only", "/cd/x"), 2, "/cd/x may not be written or read"),
        (NotADirectoryError(errno.ENOTDIR, "not a folder", "/a.mp4/x"), 2, "/a.mp4/x runs into a file"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "The device ran out of memory (CUDA out of memory)"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a capacity. Try this."),
            2,
            "The device ran out of memory (CUDA out of memory. Tried to allocate 2.50 GiB): use a smaller size",
        ),
        (KeyboardInterrupt(), 130, "Interrupted; what is unfinished can be continued with --resume."),
    ],
)
def test_a_mistake_is_one_sentence_on_stderr(
    exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, sentence: str
) -> None:
    assert exit_code(failing(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_folder_that_is_gone_and_few_files_are_sentences(
    exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("resource.getrlimit", lambda _: (16, 16))
        assert exit_code(failing(AssertionError())) == 2
    assert capsys.readouterr().err == "Only 16 files may be open at once here, and 64 are needed: see `ulimit -n`.\n"
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_code(failing(AssertionError())) == 2
    monkeypatch.chdir(tmp_path)
    assert capsys.readouterr().err.startswith("The folder that this command was started in has been removed")


@pytest.mark.parametrize(
    "bug",
    [ValueError("a bug"), KeyError("a bug"), RuntimeError("a bug"), OSError(errno.EINVAL, "a bug"), AssertionError()],
)
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, bug: Exception) -> None:
    app = new_app("A test.")
    app.command()(failing(bug))
    monkeypatch.setattr(sys, "argv", ["vq-test"])
    with pytest.raises(type(bug)) as caught:
        run(app)
    assert caught.value is bug


@pytest.mark.parametrize(
    ("line", "named"), [("go --count x", "--count"), ("go --nonsense", "--nonsense"), ("gone", "gone")]
)
def test_wrong_usage_is_two(
    exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str], line: str, named: str
) -> None:
    assert exit_code(lambda: None, *line.split()) == 2
    assert named in capsys.readouterr().err


def test_help_by_either_name(exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("-h", "--help"):
        assert exit_code(lambda: None, name) == 0
        assert "A test." in capsys.readouterr().out


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "print(*{'torch', 'numpy', 'pydantic', 'diffusers', 'huggingface_hub'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, vq_core.cli.app, vq_core.cli.options, vq_core.runtime.meter; {heavy}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""


def test_required() -> None:
    assert required(0, "--steps") == 0
    with pytest.raises(VqError, match="`--model` is missing: give it, or a --recipe that says it"):
        required(None, "--model")


def test_json_is_all_that_stdout_gets(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"path": Path("/données/[x]"), "psnr": 31.5, "linears": ["a"]}
    report("Done", {"psnr": "31.5 dB"}, result=result, as_json=True, next_steps="vq-export")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"path": "/données/[x]", "psnr": 31.5, "linears": ["a"]}
    assert err == ""


def test_the_table_shows_values_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    report("Done", {"output": "/data/[red]/x", "time": 3}, result={}, as_json=False, next_steps="vq-export verify [x]")
    out = capsys.readouterr().out
    assert "/data/[red]/x" in out
    assert "Next: vq-export verify [x]" in out
    assert out.startswith("Done")


def test_a_table_stands_above_the_summary_and_not_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("metric", "int8")
    table.add_row("PSNR", "31.50")
    report("Done", {"gate": "passed"}, result={}, as_json=False, table=table)
    out = capsys.readouterr().out
    assert out.index("31.50") < out.index("Done") < out.index("passed")
    report("Done", {"gate": "passed"}, result={"verdict": "passed"}, as_json=True, table=table)
    assert json.loads(capsys.readouterr().out) == {"verdict": "passed"}


def test_the_log_goes_to_stderr_and_what_helps_only_us_when_verbose() -> None:
    script = (
        "import logging, sys, warnings; from vq_core.cli.app import set_up_logging; set_up_logging(len(sys.argv) > 1);"
        "logging.getLogger('vq').debug('a tensor'); warnings.warn('in a library');"
        "logging.getLogger('vq').warning('careful')"
    )
    for flags, shown in ([], False), (["-v"], True):
        done = subprocess.run([sys.executable, "-c", script, *flags], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        assert "careful" in done.stderr
        assert ("a tensor" in done.stderr) is shown
        assert ("in a library" in done.stderr) is shown


def test_a_note_is_the_first_line_and_part_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    report("Title", {"row": 1}, result={"a": 1}, as_json=False, note="No --model was given.")
    assert capsys.readouterr().out.startswith("No --model was given.\nTitle")
    report("Title", {}, result={"a": 1}, as_json=True, note="No --model was given.")
    assert json.loads(capsys.readouterr().out) == {"note": "No --model was given.", "a": 1}
