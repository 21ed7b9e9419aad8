"""How far people agree on their labels: Krippendorff's alpha, which knows chance and takes features that not all saw.

1 is perfect agreement, 0 what chance would give, below 0 systematic disagreement (Krippendorff, Content Analysis,
chapter 12). Only features that at least two people judged count; a label that says nothing of tags judges none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from annotation_server.document import Label

CONFIDENCES = range(1, 6)
Labels = Mapping[str, Label]  # of one feature, by person


@dataclass(frozen=True)
class Agreement:
    """Alpha over so many features that at least two people judged; None where it has no value, and why."""

    features: int
    alpha: float | None
    undefined_because: str = ""


@dataclass(frozen=True)
class Tag:
    """How often a tag was given, by whom, and how far people agree; tags without it say that it does not fit."""

    name: str
    features: int
    people: Mapping[str, int]  # features by person
    agreement: Agreement


def tags(labelled: Sequence[Labels]) -> list[Tag]:
    """Return every tag of the features' labels, the most frequent first."""
    given = [
        (tag, place, person)
        for place, labels in enumerate(labelled)
        for person, label in labels.items()
        for tag in dict.fromkeys(label.tags or ())
    ]
    people: dict[str, Counter[str]] = {}
    features: dict[str, set[int]] = {}
    for tag, place, person in given:
        people.setdefault(tag, Counter())[person] += 1
        features.setdefault(tag, set()).add(place)
    made = [Tag(tag, len(features[tag]), people[tag], tag_agreement(labelled, tag)) for tag in people]
    return sorted(made, key=lambda tag: (-tag.features, tag.name))


def tag_agreement(labelled: Sequence[Labels], tag: str) -> Agreement:
    """Return how far people agree that a tag fits or does not: nominal alpha."""
    counts = [
        [sum((tag in each) == fits for each in _tags_given(labels)) for fits in (False, True)] for labels in labelled
    ]
    return _alpha(counts, "nominal")


def confidence_agreement(labelled: Sequence[Labels]) -> Agreement:
    """Return how far people agree in how sure they are: ordinal alpha over those who said it."""
    counts = [
        [sum(label.confidence == confidence for label in labels.values()) for confidence in CONFIDENCES]
        for labels in labelled
    ]
    return _alpha(counts, "ordinal")


def disagree(labels: Labels) -> bool:
    """Whether people gave a feature different tags."""
    return len({frozenset(each) for each in _tags_given(labels)}) > 1


def _tags_given(labels: Labels) -> list[tuple[str, ...]]:
    return [label.tags for label in labels.values() if label.tags is not None]


def _alpha(counts: Sequence[Sequence[int]], level: Literal["nominal", "ordinal"]) -> Agreement:
    """Return alpha of how many people gave a feature each value: (feature, value), values in their order."""
    judged = [row for row in counts if sum(row) > 1]
    if not judged:
        return Agreement(0, None, "no two people judged the same feature")
    if sum(map(any, zip(*judged, strict=True))) == 1:
        return Agreement(len(judged), None, "everyone says the same of every feature")

    from nltk.metrics.agreement import AnnotationTask

    # Who gave which value does not count, only how many did: so any numbering of a feature's judges will do.
    given = [[value for value, times in enumerate(row) for _ in range(times)] for row in judged]
    judgements = [(judge, item, value) for item, values in enumerate(given) for judge, value in enumerate(values)]
    distance = _ordinal([sum(column) for column in zip(*judged, strict=True)]) if level == "ordinal" else _nominal
    return Agreement(len(judged), float(AnnotationTask(judgements, distance).alpha()))


def _nominal(a: int, b: int) -> float:
    return float(a != b)


def _ordinal(times: Sequence[int]) -> Callable[[int, int], float]:
    """Return the squared distance of two values: how many judgements lie between them, their own by half."""

    def distance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        return (sum(times[low : high + 1]) - (times[low] + times[high]) / 2) ** 2

    return distance
