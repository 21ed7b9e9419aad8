"""Token texts from offsets, for real small tokenizers of three families; and the numbering of tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from loradash_assets.compute.tokens import TokenIndex, token_texts

CORPUS = ["Hello there, a b x", "hello world, e fi 1 2 3", "你好 你们", "the lazy dog"] * 5
TEXTS = [
    "Hello there",
    "Hi 你好,你们 好",
    "👩‍👩‍👧 family 🇩🇪!",
    "e\u0301 cafe\u0301 n\u0303",
    "a\tb\t\tc\n\n\nd\r\n",
    "  two  spaces  ",
    "\n",
    "ﬁne ½ ① Å",
    "नमस्ते สวัสดี \u200b\u00a0\u3000x",
    "好",
    "a \u2581b",
    "",
]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
MARKS = re.compile(r"^(‹[^›]+›)+")


def _bos(tokenizer: Tokenizer) -> Tokenizer:
    special = [("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))]
    template = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=special)
    tokenizer.post_processor = template
    return tokenizer


def _byte_level(*, trim: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if trim:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def _sentencepiece_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    special = ["<unk>", "<s>", "</s>", *BYTE_TOKENS]
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS[:2], trainer)
    return _bos(tokenizer)


def _unigram(*, byte_fallback: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>", *BYTE_TOKENS]
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS[:2], trainer)
    state = json.loads(tokenizer.to_str())
    state["model"]["byte_fallback"] = byte_fallback
    return _bos(Tokenizer.from_str(json.dumps(state)))


FAMILIES: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": lambda: _byte_level(trim=False),
    "byte-level, trimmed": lambda: _byte_level(trim=True),
    "sentencepiece bpe": _sentencepiece_bpe,
    "unigram": lambda: _unigram(byte_fallback=False),
    "unigram, byte fallback": lambda: _unigram(byte_fallback=True),
}


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return FAMILIES[request.param]()


def _texts(tokenizer: Tokenizer, text: str) -> tuple[list[str], list[str]]:
    encoding = tokenizer.encode(text)
    return token_texts(text, encoding.offsets, encoding.tokens), encoding.tokens


def _joined(texts: list[str], tokens: list[str]) -> str:
    """The text without the tokenizer's own tokens and without marks, told apart by spelling alone."""
    own = ("<s>", "</s>", "\u2581", "Ġ")
    shown = [text for text, token in zip(texts, tokens, strict=True) if not (text == token and token in own)]
    return "".join(MARKS.sub("", text) for text in shown)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_texts_join_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    texts, tokens = _texts(tokenizer, text)
    assert len(texts) == len(tokens)
    # A literal SentencePiece mark in the text is white space to the tokenizer and itself to the reader.
    assert _joined(texts, tokens) == text or "\u2581" in text


WRITING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="‹›\u2581Ġ<>"), max_size=30)


@settings(max_examples=150, deadline=None)
@given(text=WRITING | st.text("aé你👩\u200d\u0301ﬁ \t\n", max_size=20))
def test_any_text_joins(tokenizer: Tokenizer, text: str) -> None:
    if not text.isspace() and _covered(tokenizer, text):
        assert _joined(*_texts(tokenizer, text)) == text


def _covered(tokenizer: Tokenizer, text: str) -> bool:
    """Whether any token stands for text: a normaliser may leave nothing."""
    return any(end > start for start, end in tokenizer.encode(text, add_special_tokens=False).offsets)


def test_bytes_of_a_cut_character_are_marked() -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([], trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    assert _texts(tokenizer, "a 你\n")[0] == ["a", " ", "你", "‹BD›", "‹A0›", "\n"]
    assert _texts(tokenizer, "👩")[0] == ["👩", "‹9F›", "‹91›", "‹A9›"]


def test_byte_fallback_is_marked_and_newlines_stay_newlines() -> None:
    texts, tokens = _texts(_sentencepiece_bpe(), "好\n\n")
    assert tokens == ["<s>", "\u2581", "<0xE5>", "<0xA5>", "<0xBD>", "<0x0A>", "<0x0A>", "</s>"]
    assert texts == ["<s>", "\u2581", "好", "‹A5›", "‹BD›", "\n", "\n", "</s>"]


def test_unigram_byte_fallback_gives_each_character_to_its_first_byte() -> None:
    texts, _ = _texts(_unigram(byte_fallback=True), "你好\t\t")
    assert texts == ["<s>", "\u2581", "你", "‹BD›", "‹A0›", "好", "‹A5›", "‹BD›", "\t", "\t", "</s>"]


def test_a_character_split_by_the_normaliser_is_shown_once() -> None:
    offsets = [(0, 1), (0, 1), (1, 2)]
    assert token_texts("ﬁn", offsets, ["f", "i", "n"]) == ["ﬁ", "‹i›", "n"]


def test_a_token_with_the_end_of_one_character_and_the_next() -> None:
    # Byte-level BPE may merge across characters: E4 BD | A0 E5 A5 BD.
    assert token_texts("你好", [(0, 1), (0, 2)], ["ä½", "łå¥½"]) == ["你", "‹A0›好"]


def test_gaps_go_to_the_next_token_and_the_rest_to_the_last() -> None:
    assert token_texts(" a  b ", [(1, 2), (4, 5)], ["a", "b"]) == [" a", "  b "]
    assert token_texts("a  b ", [(0, 0), (0, 1), (3, 4), (0, 0)], ["<s>", "a", "b", "</s>"]) == [
        "<s>",
        "a",
        "  b ",
        "</s>",
    ]


def test_a_stretch_of_bytes_of_a_megabyte_is_quick_enough_to_finish() -> None:
    text = "ﷺ" * 20_000
    tokens = [f"<0x{byte:02X}>" for byte in text.encode()]
    texts = token_texts(text, [(0, len(text))] * len(tokens), tokens)
    assert texts == ["ﷺ", "‹B7›", "‹BA›"] * 20_000


INDEX = TokenIndex.of_lengths([2, 3, 7, 9], [3, 0, 1, 2])


def test_numbers_and_places_are_each_others_inverse() -> None:
    numbers = np.arange(INDEX.tokens)
    examples, positions = INDEX.locate(numbers)
    assert list(zip(examples.tolist(), positions.tolist(), strict=True)) == [
        (2, 0),
        (2, 1),
        (2, 2),
        (7, 0),
        (9, 0),
        (9, 1),
    ]
    np.testing.assert_array_equal(INDEX.numbers(examples, positions), numbers)


def test_windows_end_with_their_example() -> None:
    starts, stops = INDEX.windows(np.arange(6), 1)
    assert list(zip(starts.tolist(), stops.tolist(), strict=True)) == [(0, 2), (0, 3), (1, 3), (3, 4), (4, 6), (4, 6)]


@pytest.mark.parametrize("number", [-1, 6])
def test_no_token_has_that_number(number: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 5"):
        INDEX.locate(np.array([number]))


@pytest.mark.parametrize(("example", "position"), [(4, 0), (10, 0), (3, 0), (2, 3), (2, -1)])
def test_no_token_stands_there(example: int, position: int) -> None:
    with pytest.raises(IndexError, match="no such"):
        INDEX.numbers(np.array([example], np.int32), np.array([position], np.int32))


def test_prompts_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        TokenIndex.of_lengths([3, 2], [1, 1])
