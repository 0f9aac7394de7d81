"""The catalogue as a page: breaks a checkpoint in every way and writes down what verify says (`make catalogue`)."""

import tempfile
from pathlib import Path

from broken_checkpoints.catalogue import CATALOGUE, Verdict, break_example, judge
from broken_checkpoints.content import Broken
from broken_checkpoints.example import Example, build_examples
from vq_core.runtime.progress import progress

PAGE = Path(__file__).resolve().parents[2] / "docs" / "broken_checkpoints.md"
HEAD = """# Broken checkpoints

What can be wrong with a LightX2V checkpoint, how LightX2V reacts, and what `vq-export verify` says. Written by
`make catalogue`, which breaks a small checkpoint in each of these ways; the tests break it again.

Except for damage, the manifest is rewritten after each break, as if the exporter had made the mistake, so the digests
do not reveal it. "Needs" says what `verify` needs to find it: only the checkpoint, or also the model (`--model`; right
after an export, what the codes were rounded from). Exit code 1: not sound; 2: damaged.
"""


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(Path(folder)), encoding="utf-8")


def page(folder: Path) -> str:
    """The text of the page; works in the empty `folder`."""
    examples = build_examples(folder / "examples")
    sections = [HEAD]
    with progress("break", sum(map(len, CATALOGUE.values())), "checkpoint") as advance:
        for title, entries in CATALOGUE.items():
            lines = [f"\n## {title}\n", "| broken | LightX2V | verify says | exit | needs |", "|---|---|---|---|---|"]
            for number, broken in enumerate(entries):
                lines.append(_line(broken, examples[broken.example], folder / f"{title}-{number}"))
                advance()
            sections.append("\n".join(lines) + "\n")
    return "".join(sections)


def _line(broken: Broken, example: Example, folder: Path) -> str:
    path = break_example(broken, example, folder)
    with_model, alone = judge(path, example.model), judge(path, None)
    needs = "checkpoint" if alone.code else "model"
    return f"| {broken.name} | {broken.runtime} | {_said(broken, with_model)} | {with_model.code} | {needs} |"


def _said(broken: Broken, verdict: Verdict) -> str:
    """The sentence about the break itself, and how many others there are."""
    sentence = next((it for it in verdict.sentences if broken.says in it), "nothing")
    others = len(verdict.sentences) - 1
    return sentence.replace("|", "\\|") + (f" And {others} more." if others > 0 else "")


if __name__ == "__main__":
    main()
