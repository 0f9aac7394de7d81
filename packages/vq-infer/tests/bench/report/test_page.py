"""What a page and a summary say."""

from dataclasses import replace

from vq_infer.bench.report.page import page, summary, title
from vq_infer.bench.report.results import Results


def test_summary_has_a_line_for_everyone(results: Results) -> None:
    lines = summary(results)
    assert lines["vq_fp8"] == "4 s a step, 1.50 times diffusers eager, first step 9.0 s, 5.0 s with warm caches"
    assert lines["diffusers_eager"] == "6 s a step, 1.0 GiB, first step 9.0 s"
    assert lines["torchao_int8"] == "not measured: not finished after 60 s"


def test_page_says_what_ran_and_what_did_not(results: Results) -> None:
    text = page(results, "bench.png")
    assert "| vq_fp8 | 4 | 1.50 | 1.12 | 9 | 5 | – | – | 690 | – |" in text
    assert "a card, 2026-11-26; torch 2." in text
    assert "plain 700 TFLOP/s; copies 3,000 GB/s" in text
    assert "* vq_fp8 ran with a kernel." in text
    assert "* torchao_int8: not finished after 60 s." in text
    assert "| norm, modulation, residual, quantization | 2 | 100.0% | – | 1 | 1 | 2.00 | `norm_kernel` |" in text
    assert "![Seconds a step, and where they go](bench.png)" in text
    assert "    vq-infer bench" in text
    assert "png" not in page(results, None)


def test_parts_of_a_model_are_never_called_the_whole(results: Results) -> None:
    assert "1 of 2 blocks" in title(results)
    assert "extrapolated from 1 of 2 blocks and from one" in title(replace(results, extrapolated=True))
    whole = replace(results, workload=replace(results.workload, whole=1))
    assert "blocks" not in title(whole)
