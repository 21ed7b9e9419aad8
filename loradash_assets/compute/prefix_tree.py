"""Which prefixes of the examples are worth running once: a tree of shared tokens, found by sorting.

Examples that are a prefix of another one, or equal to it, need no tokens of their own: such a chain is one entry. A
prefix that several entries share is a node if running it once saves more tokens than it costs to run it apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.integer]

# How many tokens more a forward pass takes as long as. Measured with SmolLM2-135M on a CPU: 20 to 25; an 8B model on a
# GPU reads its weights anew in the time of some hundred. What is run apart mostly runs in a batch with others.
RUN = 64


@dataclass(frozen=True)
class Entry:
    """Examples of which each is a prefix of the next one, or equal to it; only the last has tokens to run."""

    examples: tuple[int, ...]
    length: int  # of the last, the longest


@dataclass(frozen=True)
class Node:
    """A prefix of `depth` tokens that entries start:stop share."""

    depth: int
    start: int
    stop: int


def entries_of(token_ids: Sequence[Tokens]) -> list[Entry]:
    """Return the examples as entries, in lexicographic order."""
    keys = [ids.astype(">u4").tobytes() for ids in token_ids]  # sorts as the tokens do, a prefix before what extends it
    order = sorted(range(len(keys)), key=lambda example: (keys[example], example))
    chains: list[list[int]] = []
    for example in order:
        if chains and keys[example].startswith(keys[chains[-1][-1]]):
            chains[-1].append(example)
        else:
            chains.append([example])
    return [Entry(tuple(chain), len(token_ids[chain[-1]])) for chain in chains]


def shared_prefixes(token_ids: Sequence[Tokens], entries: Sequence[Entry]) -> list[Node]:
    """Return the nodes that pay, by start and depth, so each before those below it; entries in lexicographic order."""
    rows = [token_ids[entry.examples[-1]] for entry in entries]
    common = [_common(a, b) for a, b in pairwise(rows)]
    return _without_idle(_worthwhile(_all_nodes(common)))


def _common(a: Tokens, b: Tokens) -> int:
    """How many tokens two examples share from their start on."""
    length = min(len(a), len(b))
    differs = a[:length] != b[:length]
    return int(differs.argmax()) if differs.any() else length


def _all_nodes(common: Sequence[int]) -> list[Node]:
    """Return the longest shared prefix of every group of neighbours, given what next neighbours have in common.

    These are the intervals of a longest-common-prefix array: Abouelhoda, Kurtz, Ohlebusch, 2004, algorithm 4.4.
    """
    nodes: list[Node] = []
    unfinished = [(0, 0)]  # (depth, start), deeper and deeper
    for stop, depth in enumerate([*common, 0], start=1):
        start = stop - 1
        while unfinished[-1][0] > depth:
            finished, start = unfinished.pop()
            nodes.append(Node(finished, start, stop))
        if unfinished[-1][0] < depth:
            unfinished.append((depth, start))
    return sorted(nodes, key=_downwards)


def _worthwhile(nodes: Sequence[Node]) -> list[Node]:
    """Keep the nodes that save enough if each entry below would run their tokens by itself."""
    kept: list[Node] = []
    above: list[Node] = []
    for node in nodes:
        while above and above[-1].stop <= node.start:
            above.pop()
        if _pays(node.stop - node.start, node.depth - (above[-1].depth if above else 0)):
            kept.append(node)
            above.append(node)
    return kept


def _without_idle(nodes: Sequence[Node]) -> list[Node]:
    """Drop nodes that save little because the entries below share their tokens further down as well."""
    depths = [0 if parent is None else nodes[parent].depth for parent in parents_of(nodes)]
    kept: list[Node] = []
    bottom: list[Node] = []  # kept nodes that no kept node holds yet
    for node, depth in sorted(zip(nodes, depths, strict=True), key=lambda pair: (pair[0].stop, -pair[0].depth)):
        inside = next((i for i, other in enumerate(reversed(bottom)) if other.start < node.start), len(bottom))
        children = bottom[len(bottom) - inside :]
        rows = node.stop - node.start - sum(child.stop - child.start - 1 for child in children)
        if _pays(rows, node.depth - depth):
            bottom[len(bottom) - inside :] = [node]
            kept.append(node)
    return sorted(kept, key=_downwards)


def parents_of(nodes: Sequence[Node]) -> list[int | None]:
    """Return which node is right above each node, from nodes in the order of `shared_prefixes`."""
    parents: list[int | None] = []
    above: list[int] = []
    for number, node in enumerate(nodes):
        while above and nodes[above[-1]].stop <= node.start:
            above.pop()
        parents.append(above[-1] if above else None)
        above.append(number)
    return parents


def _downwards(node: Node) -> tuple[int, int]:
    return node.start, node.depth


def _pays(rows: int, tokens: int) -> bool:
    return (rows - 1) * tokens > RUN
