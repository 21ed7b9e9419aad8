"""Columns of computed tokens as those of other tokens, against loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from loradash_assets.compute.routed import Recorded, Routed


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_taken_tokens_have_their_columns(data: st.DataObject) -> None:
    tokens = data.draw(st.integers(1, 6))
    experts = data.draw(st.lists(st.sets(st.integers(0, tokens - 1)), min_size=1, max_size=4))  # tokens of each
    taken = data.draw(st.lists(st.integers(0, tokens - 1), max_size=9))
    columns = [(expert, token) for expert, of_expert in enumerate(experts) for token in sorted(of_expert)]
    routed = Routed(
        np.array([sum(expert < e for expert, _ in columns) for e in range(len(experts) + 1)], np.int64),
        np.array([token for _, token in columns], np.int32),
        np.array([[100 * expert + token, -token] for expert, token in columns], np.float32).reshape(-1, 2).T,
    )
    dense = np.arange(3 * tokens, dtype=np.float32).reshape(3, tokens)
    result = Recorded(dense, {"experts": routed}).take(np.array(taken, np.int64))

    assert result.tokens == len(taken)
    assert result.dense.T.tolist() == [dense[:, token].tolist() for token in taken]
    found = result.routed["experts"]
    assert (found.offsets.dtype, found.tokens.dtype, found.values.dtype) == (np.int64, np.int32, np.float32)
    assert len(found.offsets) == len(experts) + 1
    assert found.offsets[-1] == found.tokens.size == found.values.shape[1]
    for expert, of_expert in enumerate(experts):
        expected = [(new, 100 * expert + token, -token) for new, token in enumerate(taken) if token in of_expert]
        columns_of = slice(found.offsets[expert], found.offsets[expert + 1])
        rows = zip(found.tokens[columns_of].tolist(), *found.values[:, columns_of].tolist(), strict=True)
        assert list(rows) == expected
