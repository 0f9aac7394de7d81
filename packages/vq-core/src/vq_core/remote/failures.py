"""Errors of the libraries behind fsspec, in words. They may not be installed, so nothing imports them."""

import errno

_LIBRARIES = ("botocore", "aiobotocore", "s3fs", "aiohttp", "gcsfs", "google", "huggingface_hub", "httpx", "requests")
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound")
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
    "hf": "run `hf auth login`, or set HF_TOKEN",
}


def is_full_disk(error: BaseException) -> bool:
    """Whether this machine's disk, or the user's quota, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def describe(error: BaseException) -> str | None:
    """What is wrong, in a few words; None if `error` is neither an OSError nor from one of the libraries."""
    match error:
        case _ if type(error).__name__ in _NO_CREDENTIALS:
            return "no credentials were found"
        case FileNotFoundError():
            return "there is no such bucket, folder or file"
        case PermissionError():
            return "access is denied"
        case OSError():
            pass
        case _ if type(error).__module__.partition(".")[0] not in _LIBRARIES:
            return None
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def remedy(error: BaseException, protocol: str) -> str:
    """What the user can do about `error`."""
    match error:
        case _ if type(error).__name__ in _NO_CREDENTIALS:
            return _CREDENTIALS.get(protocol, "set the credentials that its fsspec filesystem reads")
        case FileNotFoundError():
            return "check the address"
        case PermissionError():
            return "check the credentials and what they allow there"
    endpoint = " and AWS_ENDPOINT_URL" if protocol == "s3" else ""
    return f"check the address, the network{endpoint}, and run the same command again"
