"""Errors that a user can act on: the message names what is wrong and what to do, and is shown without a traceback."""

from __future__ import annotations

BUSY = {408, 429}  # HTTP: request timeout, too many requests


class InputError(ValueError):
    """Something the user gave cannot be used."""


def may_pass(error: BaseException) -> bool:
    """Whether an error comes from a network or a server that may answer again in a while."""
    status = getattr(getattr(error, "response", None), "status_code", 0) or 0  # of an HTTP client's error
    unreachable = isinstance(error, ConnectionError | TimeoutError) or _is_of_transport(error)
    if unreachable or status in BUSY or status >= 500:
        return True
    return error.__cause__ is not None and may_pass(error.__cause__)


def _is_of_transport(error: BaseException) -> bool:
    return any(f"{kind.__module__}.{kind.__name__}" == "httpx.TransportError" for kind in type(error).__mro__)


class ModelError(InputError):
    """The base model cannot be used."""


class AdapterError(InputError):
    """The adapter cannot be used, or does not fit the base model."""


class DatasetError(InputError):
    """The dataset cannot be used."""


class StorageError(InputError):
    """The store has no room for the results."""


class ClusterError(InputError):
    """The cluster cannot be used, or fails again and again."""
