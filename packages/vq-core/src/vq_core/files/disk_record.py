"""The base of every schema of what lies on the disk as JSON or YAML."""

from pydantic import BaseModel, ConfigDict, ValidationError


class DiskRecord(BaseModel):
    """Frozen; refuses unknown keys and wrong types. A schema says as class arguments what it has otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def first_problem(error: ValidationError) -> str:
    """The first field that was refused, and why."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
