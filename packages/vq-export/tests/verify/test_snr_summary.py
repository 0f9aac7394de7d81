"""Many linears, summed up by place."""

from vq_export.verify.snr_summary import by_place


def test_median_and_lowest_by_place() -> None:
    snrs = {f"blocks.{block}.attn1.to_q": snr for block, snr in enumerate((40.0, 31.0, 44.0))} | {
        "blocks.2.ffn.net.2": None
    }
    assert by_place(snrs) == {
        "attn1.to_q": "SNR 40.0 dB, lowest 31.0 dB (block 1)",
        "ffn.net.2": "SNR inf dB, lowest inf dB (block 2)",
    }
