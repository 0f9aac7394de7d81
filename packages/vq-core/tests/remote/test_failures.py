"""Each way that a bucket can fail is told in words, and what is a bug is left one."""

import errno

import pytest

from vq_core.remote.failures import describe, is_full_disk, remedy


def library_error(name: str, message: str) -> Exception:
    """An error of botocore's, which need not be installed."""
    return type(name, (Exception,), {"__module__": "botocore.exceptions"})(message)


NO_CREDENTIALS = library_error("NoCredentialsError", "Unable to locate credentials")
NO_ENDPOINT = library_error("EndpointConnectionError", 'Could not connect to the endpoint URL: "http://x"\nmore')


@pytest.mark.parametrize(
    ("error", "described", "remedied"),
    [
        (FileNotFoundError("The specified bucket does not exist"), "no such bucket, folder or file", "the address"),
        (PermissionError("Access Denied."), "access is denied", "the credentials"),
        (NO_CREDENTIALS, "no credentials were found", "set AWS_ACCESS_KEY_ID"),
        (NO_ENDPOINT, 'Could not connect to the endpoint URL: "http://x"', "AWS_ENDPOINT_URL"),
        (OSError(errno.EIO, "Slow down."), "Slow down", "run the same command again"),
        (TimeoutError(), "TimeoutError", "the network"),
    ],
)
def test_what_is_wrong_and_what_to_do(error: Exception, described: str, remedied: str) -> None:
    assert described in str(describe(error))
    assert remedied in remedy(error, "s3")


def test_credentials_are_the_protocol_s() -> None:
    assert "GOOGLE_APPLICATION_CREDENTIALS" in remedy(NO_CREDENTIALS, "gs")
    assert "fsspec" in remedy(NO_CREDENTIALS, "oss")


def test_a_bug_is_not_described() -> None:
    assert describe(KeyError("x")) is None
    assert describe(TypeError("x")) is None


def test_a_full_disk() -> None:
    assert is_full_disk(OSError(errno.ENOSPC, "No space left"))
    assert is_full_disk(OSError(errno.EDQUOT, "Quota"))
    assert not is_full_disk(OSError(errno.EIO, "x"))
    assert not is_full_disk(NO_ENDPOINT)
