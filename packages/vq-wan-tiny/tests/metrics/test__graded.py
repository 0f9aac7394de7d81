from dataclasses import replace
from typing import Any

import pytest

from vq_wan_tiny.grade import grade
from vq_wan_tiny.metrics._graded import not_of_the_world, shape_grades


def test_a_clip_of_another_size_is_not_graded(real_clip: Any) -> None:
    assert not_of_the_world(real_clip) is None
    reason = not_of_the_world(replace(real_clip, frames=real_clip.frames[:9]))
    assert reason == "it grades wan-tiny's 17 frames of 96x96, and the video has 9 of 96x96"


def test_without_a_caption_of_the_world_a_clip_is_not_graded(real_clip: Any) -> None:
    assert "its caption is not known: give" in (not_of_the_world(replace(real_clip, prompt=None)) or "")
    assert "is not one of wan-tiny's (" in (not_of_the_world(replace(real_clip, prompt="a boat on the sea")) or "")


def test_shapes_are_graded_as_the_grader_does(real_clip: Any) -> None:
    assert shape_grades(real_clip) == grade(real_clip.frames, real_clip.prompt, real_clip.image).shapes
    with pytest.raises(ValueError, match="without a caption"):
        shape_grades(replace(real_clip, prompt=None))
