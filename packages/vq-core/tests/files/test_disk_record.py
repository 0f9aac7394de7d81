"""What every schema refuses, and what one says otherwise."""

import pytest
from pydantic import ValidationError

from vq_core.files.disk_record import DiskRecord


class Strict(DiskRecord):
    figure: float


class Lenient(DiskRecord, strict=False, allow_inf_nan=False):
    figure: float


def test_every_schema_is_frozen_and_refuses_unknown_keys() -> None:
    for schema in (Strict, Lenient):
        record = schema(figure=1.0)
        with pytest.raises(ValidationError, match="frozen"):
            record.figure = 2.0
        with pytest.raises(ValidationError, match="Extra inputs"):
            schema.model_validate({"figure": 1.0, "other": 2})


def test_types_and_infinity_are_as_the_schema_says() -> None:
    with pytest.raises(ValidationError, match="valid number"):
        Strict.model_validate({"figure": "1"})
    assert Lenient.model_validate({"figure": "1"}).figure == 1
    assert Strict.model_validate({"figure": float("inf")})
    with pytest.raises(ValidationError, match="finite"):
        Lenient.model_validate({"figure": float("inf")})
