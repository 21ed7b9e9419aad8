"""The key grammar: every key has one reading and one spelling."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from annotation_server.keys import FeatureKey, InvalidKey, format_key, parse_import_key, parse_key, short_key
from tests.annotation_server.untimed import UNTIMED

NUMBERS = st.integers(0, 999_999_999)
# Built from the pieces that could be taken for another part of a key, and from arbitrary admissible characters.
TRAPS = [
    "layer",
    "model",
    "positive",
    "negative",
    "c3",
    "s0",
    "c03",
    "10",
    "experts",
    "c_proj",
    "_",
    "-",
    "L4",
    "c3_s1",
]
NAMES = st.lists(st.sampled_from(TRAPS) | st.text("abcs_-0139", min_size=1), min_size=1, max_size=4).map("_".join)
PROJECTIONS = st.lists(NAMES, min_size=1, max_size=3).map(".".join)
ADAPTER_PARTS = (NAMES | st.text(min_size=1)).filter(
    lambda part: (
        part not in (".", "..") and "/" not in part and not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", part)
    )
)
ADAPTERS = st.lists(ADAPTER_PARTS | st.just("layer_1_up_proj_positive"), min_size=1, max_size=2).map("/".join)
KEYS = st.builds(
    FeatureKey,
    st.none() | ADAPTERS,
    st.none() | NUMBERS,
    PROJECTIONS,
    st.none() | st.tuples(st.sampled_from(("c", "s")), NUMBERS),
    st.sampled_from(("positive", "negative")),
)


@UNTIMED
@given(KEYS)
@example(FeatureKey(None, 1, "conv_c3", None, "positive"))
@example(FeatureKey("a/layer_1_up_proj_positive", None, "positive", ("s", 0), "negative"))
def test_what_is_formatted_parses_to_itself(key: FeatureKey) -> None:
    assert parse_key(format_key(key)) == key


@UNTIMED
@given(st.text() | KEYS.map(str) | st.from_regex(r"(\w+/)?(layer_[0-9]{1,3}|model)_[\w.-]*_(positive|negative)"))
def test_what_parses_has_that_one_spelling(text: str) -> None:
    try:
        key = parse_key(text)
    except InvalidKey:
        return
    # A projection that ends like a component cannot be told from one with it, so all such text has that reading.
    assert str(key) == text


@UNTIMED
@given(KEYS, KEYS)
def test_different_features_have_different_keys(first: FeatureKey, second: FeatureKey) -> None:
    assert (first == second) == (str(first) == str(second))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("layer_10_gate_proj_positive", FeatureKey(None, 10, "gate_proj", None, "positive")),
        ("layer_10_gate_proj_c3_positive", FeatureKey(None, 10, "gate_proj", ("c", 3), "positive")),
        ("layer_0_gate_proj_s12_negative", FeatureKey(None, 0, "gate_proj", ("s", 12), "negative")),
        ("layer_3_attn.c_proj_positive", FeatureKey(None, 3, "attn.c_proj", None, "positive")),
        ("layer_3_experts.3.gate_proj_positive", FeatureKey(None, 3, "experts.3.gate_proj", None, "positive")),
        ("model_lm_head_positive", FeatureKey(None, None, "lm_head", None, "positive")),
        ("step-200/layer_10_gate_proj_positive", FeatureKey("step-200", 10, "gate_proj", None, "positive")),
        ("runs/7 é/model_lm_head_negative", FeatureKey("runs/7 é", None, "lm_head", None, "negative")),
        ("layer_1_conv_c3_c0_positive", FeatureKey(None, 1, "conv_c3", ("c", 0), "positive")),
        ("layer_1_5_positive_positive", FeatureKey(None, 1, "5_positive", None, "positive")),
    ],
)
def test_the_documented_spellings(text: str, key: FeatureKey) -> None:
    assert parse_key(text) == key
    assert str(key) == text


def test_a_projection_that_ends_like_a_component_spells_its_component_out() -> None:
    assert str(FeatureKey(None, 1, "conv_c3", None, "positive")) == "layer_1_conv_c3_c0_positive"
    assert str(FeatureKey(None, 1, "conv", ("c", 3), "positive")) == "layer_1_conv_c3_positive"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "layer_10_gate_proj",
        "layer_10_positive",
        "layer_10__positive_extra",
        "layer_010_gate_proj_positive",
        "layer_-1_lm_head_positive",
        "layer_1٣_gate_proj_positive",
        "layer_9999999999_gate_proj_positive",
        "layer_10_gate_proj_Positive",
        "layer_10_gate proj_positive",
        "layer_10_gate..proj_positive",
        "layer_10_gate_proj_positive\n",
        " layer_10_gate_proj_positive",
        "L10_gate_proj_positive",
        "/layer_10_gate_proj_positive",
        "../layer_10_gate_proj_positive",
        "a//layer_10_gate_proj_positive",
        "a\x00/layer_10_gate_proj_positive",
        "\ud800/layer_10_gate_proj_positive",
        "layer_10_gate_proj_positive/",
        "layer_" + "9" * 5000 + "_gate_proj_positive",
        "__proto__",
    ],
)
def test_what_the_grammar_does_not_admit(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_key(text)


@pytest.mark.parametrize(
    ("layer", "projection", "component", "message"),
    [
        (-1, "lm_head", None, "layer -1"),
        (10**9, "lm_head", None, "layer 1000000000"),
        (1, "a/b", None, "projection 'a/b'"),
        (1, "", None, "projection ''"),
        (1, "up_proj", ("c", -1), "component -1"),
    ],
)
def test_impossible_parts_are_refused_by_name(
    layer: int, projection: str, component: tuple[str, int] | None, message: str
) -> None:
    with pytest.raises(InvalidKey, match=re.escape(message)):
        FeatureKey(None, layer, projection, component, "positive")  # pyright: ignore[reportArgumentType] (plain strings)


def test_the_other_spelling_is_read_for_imports_only() -> None:
    expected = FeatureKey(None, 10, "gate_proj", None, "negative")
    assert parse_import_key("L10_gate_proj_negative") == expected
    assert parse_import_key("layer_10_gate_proj_negative") == expected
    with pytest.raises(InvalidKey):
        parse_import_key("L10_gate_proj")


@UNTIMED
@given(KEYS)
def test_a_short_spelling_reads_as_its_key(key: FeatureKey) -> None:
    short = short_key(str(key))
    assert (short is None) == (key.adapter is not None or key.layer is None or key.component is not None)
    assert short is None or parse_import_key(short) == key
