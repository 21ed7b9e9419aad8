"""What a dashboard's file holds, read independently of the code that wrote it."""

from __future__ import annotations

import base64
import gzip
import json
import re
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from loradash_assets.schema import POLARITIES
from loradash_assets.site.page import Example, Text

Part = dict[str, Any]  # a header's fields, and arrays by name


def shown(page: Path) -> str:
    """Return the data of a dashboard in one file, as JSON: its head, and the other parts without arrays."""
    parts = {name: header_of(text) for name, text in inline(page.read_text("utf-8")).items()}
    return json.dumps({**parts.pop("head"), "parts": parts})


def inline(html: str) -> dict[str, str]:
    """Return the parts that stand in a page, each still packed."""
    return dict(re.findall(r'id="part-([a-z0-9-]+)">([^<]+)<', html))


def header_of(text: str) -> Part:
    """Return a part's header."""
    data = gzip.decompress(base64.b64decode(text))
    return json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])


def unpack(text: str) -> Part:
    """Return a part's header and arrays."""
    data = gzip.decompress(base64.b64decode(text))
    header = header_of(text)
    place = 4 + int.from_bytes(data[:4], "little")
    for name, kind, size in header.pop("arrays"):
        width = int(kind[1])
        columns = [data[place + byte * size : place + (byte + 1) * size] for byte in range(width)]
        header[name] = np.frombuffer(bytes(byte for value in zip(*columns, strict=True) for byte in value), f"<{kind}")
        place += width * size
    assert place == len(data)
    return header


class Reader:
    """Reads examples and texts back from a page's parts."""

    def __init__(self, parts: dict[str, str]) -> None:
        self.parts = {name: unpack(text) for name, text in parts.items()}
        self.head = self.parts["head"]
        self.tokens: list[list[tuple[str, int]]] = []
        for number, (start, stop) in enumerate(pairwise([*self.head["texts"], len(self.head["length"])])):
            self._read_texts(self.parts[f"texts-{number}"], self.head["length"][start:stop].tolist())

    def _read_texts(self, part: Part, lengths: list[int]) -> None:
        known = list(zip(part["strings"], part["ids"].tolist(), strict=True))
        tokens = [known[number] for number in part["tokens"]]
        ends = list(accumulate(lengths))
        assert not ends or ends[-1] == len(tokens)
        self.tokens += [tokens[end - length : end] for end, length in zip(ends, lengths, strict=True)]

    def texts(self) -> dict[int, Text]:
        """Return every row of which the page has the beginning, as far as it has it."""
        firsts = self.head["first"].tolist()
        return {
            row: Text(tuple(text for text, _ in tokens), tuple(number for _, number in tokens))
            for row, first, tokens in zip(self.head["row"].tolist(), firsts, self.tokens, strict=True)
            if first == 0
        }

    def examples(self, windows: Part, known: Part, prefix: str, first: int, count: int, skipped: int) -> list[Example]:
        """Return `count` examples from window `first`; the columns `known` begin `skipped` windows earlier."""
        made: list[Example] = []
        values = [0, *accumulate(windows["length"][first - skipped : first + count].tolist())]
        bins = [0, *accumulate(known[f"{prefix}.bins"].tolist())]
        for window in range(first, first + count):
            row = window - first + skipped
            segment, start, length, target = (
                int(windows[name][window]) for name in ("segment", "start", "length", "target")
            )
            tokens = self.tokens[segment][start : start + length]
            of_f4 = known[f"{prefix}.activations"][values[row] : values[row + 1]]
            activations = tuple(float(str(value)) for value in of_f4)
            made.append(
                Example(
                    activation=activations[target],
                    example=int(self.head["row"][segment]),
                    position=int(self.head["first"][segment]) + start + target,
                    token_id=None if tokens[target][1] < 0 else tokens[target][1],
                    tokens=tuple(text for text, _ in tokens),
                    activations=activations,
                    target=target,
                    occurrences=int(known[f"{prefix}.occurrences"][row]),
                    minimap=known[f"{prefix}.minimap"][bins[row] : bins[row + 1]].tobytes(),
                )
            )
        return made

    def lists(self, adapter: int) -> list[dict[str, list[Example]]]:
        """Return each feature's lists, by polarity."""
        windows = self.parts[f"windows-{adapter}"]
        counts = windows["counts"].tolist()
        layers = self.head[f"{adapter}.layer"].tolist()
        made: list[dict[str, list[Example]]] = []
        first = begun = 0
        for feature, layer in enumerate(layers):
            if feature == 0 or layers[feature - 1] != layer:
                begun = first
            of_feature: dict[str, list[Example]] = {}
            for side, polarity in enumerate(POLARITIES):
                known, count = self.parts[f"layer-{adapter}-{layer}"], counts[2 * feature + side]
                of_feature[polarity] = self.examples(windows, known, "listed", first, count, first - begun)
                first += count
            made.append(of_feature)
        return made
