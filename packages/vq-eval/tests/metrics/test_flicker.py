import numpy as np
import pytest

from vq_eval.metrics import Clip, flicker


def test_it_is_the_mean_absolute_difference_of_successive_frames(large: list[Clip]) -> None:
    frames = large[1].frames.astype(np.float64)
    literal = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    figures = flicker.measure(large[0], large[1])
    assert figures == pytest.approx(list(literal), rel=1e-6)
    assert flicker.over_video(figures) == pytest.approx(literal.mean(), rel=1e-6)


def test_a_still_video_has_none(large: list[Clip]) -> None:
    still = Clip(large[0].path, np.repeat(large[0].frames[:1], 3, axis=0))
    assert flicker.over_video(flicker.measure(large[0], still)) == 0
