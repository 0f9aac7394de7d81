"""Items are made when they are reached, in every iteration, and not kept."""

from vq_algos.smoothing.one_by_one import OneByOne


def test_each_item_is_made_when_it_is_reached() -> None:
    made: list[int] = []

    def make(key: int) -> list[int]:
        made.append(key)
        return [key]

    items = OneByOne(make, (1, 2, 3))
    assert len(items) == 3
    assert made == []
    first = iter(items)
    assert next(first) == [1]
    assert made == [1]
    assert list(items) == [[1], [2], [3]]
    assert made == [1, 1, 2, 3]
    assert [1] not in items  # which of equal ones is meant cannot be known
