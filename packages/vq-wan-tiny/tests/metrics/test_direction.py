from importlib.metadata import entry_points
from typing import Any

from vq_wan_tiny.metrics import direction


def test_it_is_found_by_its_name() -> None:
    (entry,) = entry_points(group="vq_eval.metrics", name="wan_tiny_direction")
    assert entry.load() is direction


def test_a_real_clip_is_right_and_a_still_one_wrong(real_clip: Any, still_clip: Any) -> None:
    assert direction.missing() is None
    assert direction.unsuited(real_clip) is None
    assert direction.over_video(direction.measure(still_clip, real_clip)) == 1
    assert direction.over_video(direction.measure(real_clip, still_clip)) < 1
