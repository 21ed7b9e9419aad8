"""The Dagster assets: wiring, metadata and data versions, no numerics.

These modules do without `from __future__ import annotations`: Dagster reads the annotations of its functions.
"""
