import numpy as np
import pytest

from vq_eval.metrics import Clip, frame_difference


def _literal(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """Root mean square, over each step, of the difference of the differences of frames, in fp64."""
    error = np.diff(candidate.astype(np.float64), axis=0) - np.diff(reference.astype(np.float64), axis=0)
    return np.sqrt((error**2).mean(axis=(1, 2, 3)))


def _of(reference: Clip, frames: np.ndarray) -> float:
    return frame_difference.over_video(frame_difference.measure(reference, Clip(reference.path, frames)))


def test_it_is_the_literal_formula(large: list[Clip]) -> None:
    figures = frame_difference.measure(large[0], large[2])
    literal = _literal(large[0].frames, large[2].frames)
    assert figures == pytest.approx(list(literal), rel=1e-6)
    assert frame_difference.over_video(figures) == pytest.approx(np.sqrt((literal**2).mean()), rel=1e-6)


def test_an_error_that_stays_is_none(large: list[Clip]) -> None:
    assert _of(large[0], large[0].frames + np.uint8(9)) == 0


def test_an_error_that_comes_and_goes_is_all_of_it(large: list[Clip]) -> None:
    frames = large[0].frames.copy()
    frames[1] += 9
    assert _of(large[0], frames) == pytest.approx(9)


def test_frames_in_another_order_are_found(large: list[Clip]) -> None:
    assert _of(large[0], large[0].frames[[1, 0, 2]]) > 10
