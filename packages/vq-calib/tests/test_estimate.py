from collections.abc import Callable

from vq_calib.estimate import estimate
from vq_calib.planning.run_plan import CollectRequest, plan_run


def test_rows_of_the_summary(make_request: Callable[..., CollectRequest]) -> None:
    planned = plan_run(make_request(tokens=48))
    expected = estimate(planned, None)
    rows = expected.rows()
    k = 48 // (len(expected.components["transformer"].strata) // 2)
    assert rows["transformer: calls"] == "24"
    assert rows["transformer: fit rows"].startswith(f"48 (bucket 4: {k}+{k}, ")
    assert "sampling time" not in rows
    timed = estimate(planned, 600.0)
    assert timed.seconds == 12 * 600
    assert timed.rows()["sampling time"].startswith("2.0 h (7,200 s)")


def test_without_tokens_no_rows_are_expected(make_request: Callable[..., CollectRequest]) -> None:
    expected = estimate(plan_run(make_request(tokens=0)), None)
    assert expected.rows()["transformer: fit rows"] == "none"
    component = expected.components["transformer"]
    assert (component.rows_bytes, component.conditions_bytes, component.strata) == (0, 0, [])
