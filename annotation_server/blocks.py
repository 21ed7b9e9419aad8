"""The members of a large JSON object as they are written, joined in blocks: a change of one leaves most as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

BETWEEN = b",\n"  # two members
MEMBERS = 125  # of a block


@dataclass(frozen=True)
class Block:
    """Members that stand one after the other: by name, and as they are written."""

    members: Mapping[str, bytes]
    joined: bytes

    @staticmethod
    def of(members: Mapping[str, bytes]) -> Block:
        """The block of these members."""
        return Block(members, BETWEEN.join(members.values()))


def with_members(blocks: Sequence[Block], changed: Mapping[str, bytes]) -> Sequence[Block]:
    """The blocks with these members replaced where they stand or, at the end, added."""
    left = dict(changed)
    found: list[Block] = []
    for block in blocks:
        here = {name: left.pop(name) for name in changed if name in block.members}
        found.append(Block.of({**block.members, **here}) if here else block)
    if left and found and len(found[-1].members) < MEMBERS:
        left = {**found.pop().members, **left}
    members = iter(left.items())
    while part := dict(islice(members, MEMBERS)):
        found.append(Block.of(part))
    return found
