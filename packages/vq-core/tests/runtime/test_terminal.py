"""What is said, whatever the streams are and whoever chose the names."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from vq_core.runtime.terminal import MAX_SENTENCE, new_console, one_line, printable

ESCAPES = "a\x1b[31m\x1b]0;title\x07\x9b2J\rb\x7f\u202ec"
SHOWN = r"a\x1b[31m\x1b]0;title\x07\x9b2J\rb\x7f\u202ec"


def test_control_characters_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(ESCAPES) == SHOWN
    assert printable("名字\té\n") == "名字\té\n"
    table = Table(title=ESCAPES)
    table.add_column(ESCAPES)
    table.add_row(ESCAPES)
    console = new_console(markup=False, highlight=False, width=200)
    console.print(table)
    console.print(ESCAPES, style="red", soft_wrap=True)
    out = capsys.readouterr().out
    assert out.count(SHOWN.replace(r"\x07", "").replace(r"\r", "")) == 4  # rich itself removes these two
    assert printable(out) == out


def test_a_sentence_is_one_line_and_has_an_end() -> None:
    assert one_line("no a\nb\r\x1b[31m: choose") == r"no a\nb\r\x1b[31m: choose"
    short = one_line(f"There is no {'x ' * 5000}: choose one.")
    assert len(short) < MAX_SENTENCE
    assert short.startswith("There is no x x")
    assert short.endswith("x : choose one.")


def test_styles_still_reach_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    new_console(force_terminal=True, color_system="standard").print("x\x1b[2J", style="red", highlight=False)
    assert capsys.readouterr().out == "\x1b[31mx\\x1b[2J\x1b[0m\n"


COMMAND = """
import sys
from pathlib import Path
from vq_core.cli.app import new_app, report, run
from vq_core.errors import VqError
from vq_core.runtime.progress import progress

app = new_app("A test.")

@app.command()
def make(folder: Path, fail: bool = False, as_json: bool = False) -> None:
    with (folder / "made").open("w") as file, progress("work", 2, "step") as advance:
        advance()
        file.write("all of it")
        advance()
    if fail:
        raise VqError("名字 is wrong: mend it.")
    report("Made 名字 😀", {"folder": "名字 😀\\x1b[2J"}, result={"name": "名字 😀"}, as_json=as_json)

run(app)
"""


def run(tmp_path: Path, redirected: str, *options: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, run by a shell that redirects its streams."""
    script = tmp_path / "command.py"
    script.write_text(COMMAND, encoding="utf-8")
    line = f'"{sys.executable}" "{script}" "{tmp_path}" {" ".join(options)} {redirected}'
    done = subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, check=False, env={"PYTHONIOENCODING": encoding, "PATH": ""}
    )
    assert (tmp_path / "made").read_text() == "all of it"  # and nothing of what was said
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("as_json", [(), ("--as-json",)])
def test_a_full_stdout_is_a_sentence(tmp_path: Path, as_json: tuple[str, ...]) -> None:
    code, _, err = run(tmp_path, ">/dev/full", *as_json)
    assert code == 2
    assert err.splitlines()[-1] == (
        "What was to be printed cannot be written to stdout (No space left on device): "
        "files that were to be written are finished; send stdout somewhere else."
    )
    assert "Traceback" not in err


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "2>/dev/full", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_or_a_full_stderr_costs_nothing_else(tmp_path: Path, redirected: str) -> None:
    code, out, err = run(tmp_path, redirected)
    assert code == 0
    assert "Traceback" not in err
    assert "exception" not in err.lower()
    assert (out == "") is (">&-" in redirected and redirected != "2>&-")


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_mistake_keeps_its_exit_code(tmp_path: Path, redirected: str) -> None:
    assert run(tmp_path, redirected, "--fail")[0] == 2


def test_a_mistake_is_said_once_where_stdout_is_full(tmp_path: Path) -> None:
    code, _, err = run(tmp_path, ">/dev/full", "--fail")
    assert (code, err.splitlines()[-1]) == (2, "名字 is wrong: mend it.")


def test_what_an_encoding_lacks_is_written_with_backslashes(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "", encoding="ascii")
    assert code == 0
    assert r"\u540d\u5b57 \U0001f600\x1b[2J" in out
    assert r'"name": "\u540d\u5b57 \ud83d\ude00"' in run(tmp_path, "", "--as-json", encoding="ascii")[1]
    assert run(tmp_path, "", "--fail", encoding="ascii")[2].splitlines()[-1] == r"\u540d\u5b57 is wrong: mend it."
