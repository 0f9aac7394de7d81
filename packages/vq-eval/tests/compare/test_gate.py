from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from vq_core.errors import GateFailed, VqError
from vq_eval.compare.compared_folders import entries_of
from vq_eval.compare.gate import check_limits, enforce, hold, verdict_of
from vq_eval.compare.limits import Limit
from vq_eval.compare.metric_choice import choose_metrics
from vq_eval.compare.schema import CompareReport, Provenance, Row, VideoInfo

MakeRow = Callable[..., Row]
MakeReport = Callable[..., CompareReport]

MIN_PSNR = Limit("psnr", "worst", 30.0, "--min-psnr 30")


@pytest.fixture
def reference(make_row: MakeRow) -> Row:
    return make_row("reference", {"flicker": dict.fromkeys(("cat", "fog", "sea"), 4.0)}, "reference")


@pytest.fixture
def int8(make_row: MakeRow) -> Row:
    figures = {
        "psnr": {"sea": 33.0, "cat": 27.25, "fog": 29.0},
        "frame_difference": {"sea": 1.0, "cat": 3.0, "fog": 2.0},
        "flicker": {"sea": 4.0, "cat": 5.0, "fog": 6.0},
    }
    return make_row("int8", figures)


@pytest.fixture
def floor(make_row: MakeRow) -> Row:
    figures = {
        "psnr": {"sea": 34.0, "cat": 30.0, "fog": 32.0},
        "frame_difference": dict.fromkeys(("cat", "fog", "sea"), 0.5),
    }
    return make_row("floor", figures, "floor")


def _sentence(report: CompareReport) -> str:
    with pytest.raises(GateFailed) as failure:
        enforce(report)
    return str(failure.value)


@pytest.mark.parametrize(
    ("limit", "kept", "lack", "rule"),
    [
        (
            MIN_PSNR,
            27.25,
            "PSNR of `int8`, video `cat`, is 27.25 dB, 2.75 dB below",
            "--min-psnr 30 (2 of 3 videos fail).",
        ),
        (
            Limit("frame_difference", "worst", 2.5, "gate.yaml"),
            3.0,
            "Frame difference of `int8`, video `cat`, is 3.00 levels, 0.5 levels above",
            "at most 2.50 levels for every video (1 of 3 videos fail).",
        ),
        (
            Limit("psnr", "mean", 30.0, "gate.yaml"),
            29.7,
            "Mean PSNR of `int8` is 29.75 dB, 0.25 dB below",
            "at least 30.00 dB on average.",
        ),
        (
            Limit("psnr", "worse_than_floor_by", 2.0, "gate.yaml"),
            2.5,
            "Mean PSNR of `int8` is 29.75 dB, 0.25 dB below",
            "at most 2.00 dB worse than the floor, which has 32.00 dB.",
        ),
        (
            Limit("frame_difference", "worse_than_floor_by", 1.0, "gate.yaml"),
            1.5,
            "Mean Frame difference of `int8` is 2.00 levels, 0.5 levels above",
            "at most 1.00 levels worse than the floor, which has 0.50 levels.",
        ),
        (
            Limit("flicker", "worse_than_reference_by", 0.9, "gate.yaml"),
            1.0,
            "Mean Flicker of `int8` is 5.00 levels, 0.1 levels above",
            "at most 0.90 levels worse than the reference, which has 4.00 levels.",
        ),
    ],
)
def test_a_limit_is_kept_or_its_sentence_names_the_figure_and_what_it_lacks(
    make_report: MakeReport, reference: Row, floor: Row, int8: Row, limit: Limit, kept: float, lack: str, rule: str
) -> None:
    rows = [reference, floor, int8]
    report = make_report(rows, [limit])
    assert (report.verdict, _sentence(report)) == ("failed", f"{lack} what it should be: {rule}")
    enforce(make_report(rows, [replace(limit, value=kept)]))


def test_only_equal_videos_are_as_good_as_an_equal_floor(
    make_report: MakeReport, make_row: MakeRow, reference: Row, int8: Row
) -> None:
    equal = {"psnr": dict.fromkeys(("cat", "fog", "sea"))}
    limit = Limit("psnr", "worse_than_floor_by", 100.0, "gate.yaml")
    floor = make_row("floor", equal, "floor")
    enforce(make_report([reference, floor, make_row("same", equal)], [limit]))
    report = make_report([reference, floor, int8], [limit])
    assert report.gates[0].limit is None
    assert "which is not at most 100.00 dB worse than the floor, which has identical" in _sentence(report)


def test_rows_that_are_not_named_and_the_floor_are_not_held(
    make_report: MakeReport, make_row: MakeRow, reference: Row, floor: Row, int8: Row
) -> None:
    good = make_row("good", {"psnr": dict.fromkeys(("cat", "fog", "sea"), 40.0)})
    strict = Limit("psnr", "worst", 35.0, "gate.yaml", ("good",))
    report = make_report([reference, floor, int8, good], [strict])
    assert [(gate.row, gate.passed) for gate in report.gates] == [("good", True)]
    everyone = make_report([reference, floor, int8, good], [MIN_PSNR])
    assert [gate.row for gate in everyone.gates] == ["int8", "good"]


def test_every_failed_figure_is_named(make_report: MakeReport, reference: Row, int8: Row) -> None:
    limits = [MIN_PSNR, Limit("flicker", "worst", 5.0, "gate.yaml"), Limit("psnr", "mean", 1.0, "gate.yaml")]
    sentence = _sentence(make_report([reference, int8], limits))
    assert sentence.count(" should be: ") == 2
    assert "PSNR of `int8`, video `cat`" in sentence
    assert "Flicker of `int8`, video `fog`" in sentence


@pytest.mark.parametrize("minimum", [27.25, -5.0])
def test_figures_at_or_above_the_minimum_pass(
    make_report: MakeReport, reference: Row, int8: Row, minimum: float
) -> None:
    report = make_report([reference, int8], [Limit("psnr", "worst", minimum, "--min-psnr")])
    enforce(report)
    assert report.verdict == "passed"
    assert report.gates[0].sentence == f"PSNR of `int8`, video `cat`, is 27.25 dB and keeps {report.gates[0].rule}"


def test_equal_videos_pass_every_minimum(make_report: MakeReport, make_row: MakeRow, reference: Row) -> None:
    same = make_row("same", {"psnr": dict.fromkeys(("cat", "fog", "sea"))})
    enforce(make_report([reference, same], [Limit("psnr", "worst", 1e9, "--min-psnr 1e9")]))


PROVENANCE = Provenance(
    path="made", digest="d", variant="full", tool="vq", family="wan", model="m", fingerprints={}, settings={},
    prompts=(), parents={}, altered=("cat.mkv", "sea.mkv"),
)  # fmt: skip


@pytest.mark.parametrize("altered", ["int8", "reference", "floor"])
def test_no_limit_is_kept_by_videos_that_were_altered_or_against_them(
    make_report: MakeReport, reference: Row, floor: Row, int8: Row, altered: str
) -> None:
    rows = [row.model_copy(update={"provenance": PROVENANCE if row.name == altered else None})
            for row in (reference, floor, int8)]  # fmt: skip
    limits = [Limit("psnr", "worst", 0.0, "a"), Limit("psnr", "worse_than_floor_by", 100.0, "b")]
    report = make_report(rows, limits)
    assert report.verdict == "failed"
    assert [gate.passed for gate in report.gates] == [altered == "floor", False]
    assert _sentence(report) == (
        f"cat.mkv, sea.mkv of `{altered}` changed after the manifest was written, so no limit is kept: "
        "make the videos again."
    )


def test_without_limits_there_is_no_verdict() -> None:
    assert verdict_of(()) == "no gate"


def test_a_video_that_a_limited_metric_does_not_suit_is_refused(reference: Row, int8: Row) -> None:
    blank = {"frames": 2, "height": 8, "width": 8, "prompt": None, "negative_prompt": None, "seed": None}
    small = VideoInfo(name="cat", unavailable={"psnr": "it is too small"}, **blank)
    with pytest.raises(
        VqError, match="--min-psnr 30 limits `psnr`, which cannot be measured on `cat`: it is too small"
    ):
        hold([MIN_PSNR], {}, [reference, int8], [small])


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (
            Limit("ssim", "worst", 0.9, "--min-ssim 0.9"),
            r"--min-ssim 0.9 limits `ssim`, which is not measured \(it is not",
        ),
        (Limit("psnr", "worst", 30.0, "g.yaml", ("int4",)), "g.yaml limits `psnr` of `int4`, and no row has that name"),
        (Limit("psnr", "worse_than_floor_by", 1.0, "g.yaml"), "by the floor, and there is none: give one with --floor"),
        (Limit("psnr", "worse_than_reference_by", 1.0, "g.yaml"), "by the reference's figure, which does not exist"),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused_before_anything_is_measured(limit: Limit, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        check_limits([limit], choose_metrics("psnr,flicker"), entries_of(Path("a"), ["int8"], None))


def test_a_limit_that_can_be_held_is_taken() -> None:
    limits = [
        Limit("psnr", "worse_than_floor_by", 1.0, "g.yaml", ("int8",)),
        Limit("flicker", "worse_than_reference_by", 1.0, "g.yaml"),
    ]
    check_limits(limits, choose_metrics("psnr,flicker"), entries_of(Path("a"), ["int8"], Path("f")))
