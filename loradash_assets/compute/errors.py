"""Errors that a user can act on: the message names what is wrong and what to do, and is shown without a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used."""


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
