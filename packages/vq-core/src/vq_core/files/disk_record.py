"""The base of every schema of what lies on the disk as JSON or YAML."""

from pydantic import BaseModel, ConfigDict


class DiskRecord(BaseModel):
    """Frozen; refuses unknown keys and wrong types. A schema says as class arguments what it has otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
