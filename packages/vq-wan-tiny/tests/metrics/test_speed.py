from importlib.metadata import entry_points
from typing import Any

from vq_wan_tiny.metrics import speed


def test_it_is_found_by_its_name() -> None:
    (entry,) = entry_points(group="vq_eval.metrics", name="wan_tiny_speed")
    assert entry.load() is speed


def test_a_real_clip_is_right_and_a_still_one_wrong(real_clip: Any, still_clip: Any) -> None:
    assert speed.missing() is None
    assert speed.unsuited(real_clip) is None
    assert speed.over_video(speed.measure(still_clip, real_clip)) == 1
    assert speed.over_video(speed.measure(real_clip, still_clip)) < 1
