"""Digests of examples are those of the shared vectors, and tell what a reader would tell apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loradash_assets.site.page import Example
from loradash_assets.site.seen import Seen, digests, example_digest, fnv1a, still_seen

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("seen_vectors.json").read_text("utf-8"))


def example(*tokens: str, target: int = 0) -> Example:
    return Example(1.0, 0, 0, None, tokens, (1.0,) * len(tokens), target, 1)


@pytest.mark.parametrize("vector", VECTORS["digests"])
def test_a_digest_is_that_of_the_shared_vectors(vector: dict[str, Any]) -> None:
    assert example_digest(vector["tokens"], vector["target"]) == vector["digest"]


def test_the_hash_is_the_published_one() -> None:
    """FNV-1a's reference values, of the empty text and of "a" (draft-eastlake-fnv, appendix C)."""
    assert (fnv1a(b""), fnv1a(b"a")) == (0x811C9DC5, 0xE40C292C)


def test_more_context_changes_no_digest_and_the_place_of_the_token_does() -> None:
    near = [str(number) for number in range(9)]
    assert example_digest(["far", *near, "off"], 5) == example_digest(near, 4)
    assert example_digest(["a", "a", "a"], 0) != example_digest(["a", "a", "a"], 1)
    assert example_digest(["ab", "c"], 0) != example_digest(["a", "bc"], 0)


def test_a_panels_digests_are_in_its_order_each_once_and_at_most_64() -> None:
    many = [example(str(number // 2)) for number in range(200)]
    assert digests(many) == tuple(example_digest([str(number)], 0) for number in range(64))


@pytest.mark.parametrize("vector", VECTORS["stale"])
def test_a_note_is_stale_when_fewer_than_half_of_what_it_was_written_on_are_there(vector: dict[str, Any]) -> None:
    found = still_seen(vector["seen"], vector["present"])
    assert (found, found.stale) == (Seen(vector["here"], vector["total"]), vector["stale"])
