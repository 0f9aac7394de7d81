import math
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest

from vq_wan_tiny.metrics import first_frame


def _figure(clip: Any) -> float:
    return first_frame.over_video(first_frame.measure(clip, clip))


def test_it_is_found_by_its_name() -> None:
    (entry,) = entry_points(group="vq_eval.metrics", name="wan_tiny_first_frame")
    assert entry.load() is first_frame


def test_the_image_itself_is_infinitely_good(real_clip: Any) -> None:
    assert first_frame.missing() is None
    assert first_frame.unsuited(real_clip) is None
    assert _figure(real_clip) == math.inf


def test_another_image_has_its_psnr(real_clip: Any) -> None:
    image = real_clip.frames[0] ^ 16
    error = np.square(real_clip.frames[0].astype(float) - image).mean()
    assert _figure(replace(real_clip, image=image)) == pytest.approx(10 * math.log10(255**2 / error))


def test_without_a_fitting_image_there_is_no_figure(real_clip: Any) -> None:
    lonely = replace(real_clip, image=None)
    assert "the image it was to start from is not known" in (first_frame.unsuited(lonely) or "")
    small = replace(real_clip, image=real_clip.frames[0, :48, :48])
    assert "has 48x48 pixels, unlike the clip" in (first_frame.unsuited(small) or "")
    assert "17 frames" in (first_frame.unsuited(replace(real_clip, frames=real_clip.frames[:9])) or "")
    with pytest.raises(ValueError, match="without caption and image"):
        _figure(lonely)
