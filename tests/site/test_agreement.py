"""Agreement is Krippendorff's alpha, as computed here by the definition and as the literature has it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import permutations, product

import pytest

from annotation_server.document import Label
from loradash_assets.site.agreement import Labels, confidence_agreement, disagree, tag_agreement, tags

NOBODY = None
# Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C: four observers, twelve units.
OBSERVERS = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, NOBODY, NOBODY, NOBODY),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NOBODY, 3),
    (NOBODY, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NOBODY),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NOBODY),
)


def by_definition(units: Sequence[Sequence[int]], distance: Callable[[int, int, Sequence[int]], float]) -> float:
    """1 - observed / expected disagreement, over all pairs of values within a unit, and of all values that pair."""
    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    observed = sum(
        sum(distance(a, b, values) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units
    ) / len(values)
    expected = sum(distance(a, b, values) for a, b in permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - observed / expected


def nominal(a: int, b: int, _: Sequence[int]) -> float:
    return float(a != b)


def ordinal(a: int, b: int, values: Sequence[int]) -> float:
    """The square of how many values lie from one to the other, both ends counted by half."""
    low, high = sorted((a, b))
    between = sum(low <= value <= high for value in values)
    return (between - (values.count(low) + values.count(high)) / 2) ** 2


def sure(values: Sequence[int | None]) -> Labels:
    return {f"person {number}": Label((), value) for number, value in enumerate(values)}


def test_confidence_has_the_alpha_of_the_literature() -> None:
    found = confidence_agreement([sure(unit) for unit in zip(*OBSERVERS, strict=True)])
    assert found.features == 11  # one of the twelve has a single value
    assert found.alpha == pytest.approx(0.815, abs=5e-4)


def test_a_tag_has_the_alpha_computed_by_hand() -> None:
    """Krippendorff 2011, example A: two observers, ten units, binary; alpha 0.095."""
    meg, owen = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    labelled: list[Labels] = [
        {"Meg": Label(("dense",) * first), "Owen": Label(("other", *("dense",) * second))}
        for first, second in zip(meg, owen, strict=True)
    ]
    assert tag_agreement(labelled, "dense").alpha == pytest.approx(0.095, abs=5e-4)


@pytest.mark.parametrize("seed", range(20))
def test_any_labels_have_the_alpha_of_the_definition(seed: int) -> None:
    drawn = random.Random(seed)
    people = [f"person {number}" for number in range(drawn.randint(2, 5))]
    labelled: list[Labels] = [
        {
            person: Label(("dense",) * drawn.randint(0, 1), drawn.choice([None, 1, 2, 3, 4, 5]))
            for person in people
            if drawn.random() < 0.7
        }
        for _ in range(30)
    ]
    fits = [[int("dense" in (label.tags or ())) for label in labels.values()] for labels in labelled]
    said = [[label.confidence for label in labels.values() if label.confidence] for labels in labelled]
    assert tag_agreement(labelled, "dense").alpha == pytest.approx(by_definition(fits, nominal))
    assert confidence_agreement(labelled).alpha == pytest.approx(by_definition(said, ordinal))


@pytest.mark.parametrize("people", [0, 1])
def test_fewer_than_two_people_have_no_agreement(people: int) -> None:
    labelled = [sure([3] * people), sure([4] * people)]
    for found in (confidence_agreement(labelled), tag_agreement(labelled, "dense")):
        assert (found.features, found.alpha) == (0, None)
        assert found.undefined_because == "no two people judged the same feature"


@pytest.mark.parametrize("tagged", [True, False])
def test_without_variation_there_is_no_agreement(tagged: bool) -> None:
    found = tag_agreement([{person: Label(("dense",) * tagged) for person in "ab"} for _ in range(3)], "dense")
    assert (found.features, found.alpha) == (3, None)
    assert found.undefined_because == "everyone says the same of every feature"


def test_a_label_without_tags_is_no_judgement_of_any_tag_but_one_of_confidence() -> None:
    sure = Label(None, 4)
    agreed: list[Labels] = [{"a": Label(("x",)), "b": Label(("x",))}, {"a": Label(()), "b": Label(())}]
    unsaid: list[Labels] = [*({**labels, "c": sure} for labels in agreed), {"a": sure, "b": Label(("x",), 4)}]
    assert tag_agreement(unsaid, "x") == tag_agreement(agreed, "x")
    assert confidence_agreement(unsaid).features == 1
    assert [(tag.name, tag.features, dict(tag.people)) for tag in tags(unsaid)] == [("x", 2, {"a": 1, "b": 2})]
    for tags_of_b, differ in ((("x",), False), ((), True)):
        assert disagree({"a": Label(("x",)), "b": Label(tags_of_b), "c": sure}) == differ
    assert not disagree({"a": Label(()), "c": sure})


def test_perfect_agreement_is_1() -> None:
    labelled = [{person: Label(("dense",) * place) for person in "ab"} for place in (0, 1)]
    assert tag_agreement(labelled, "dense").alpha == 1


def test_tags_are_counted_once_a_feature_and_person_the_most_frequent_first() -> None:
    labelled: list[Labels] = [
        {"a": Label(("x", "x", "y")), "b": Label(("y",))},
        {"a": Label(("y",))},
        {"a": Label(("z",))},
    ]
    found = [(tag.name, tag.features, dict(tag.people)) for tag in tags(labelled)]
    assert found == [("y", 2, {"a": 2, "b": 1}), ("x", 1, {"a": 1}), ("z", 1, {"a": 1})]


def test_people_disagree_where_their_tags_differ_in_whatever_order() -> None:
    assert not disagree({})
    assert not disagree({"a": Label(("x",))})
    for first, second in product([("x", "y"), ("y", "x"), ("x",), ()], repeat=2):
        assert disagree({"a": Label(first), "b": Label(second)}) == (set(first) != set(second))
