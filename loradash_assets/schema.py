"""Every table's columns, types, units and axes, in one place.

Vocabulary: an *example* is a dataset row that became a prompt, named by its row number in the dataset; a *position*
is a token's place in its example, from 0. A *feature* is (layer, projection, component), component being a row of A
(`raw` basis) or a singular direction of scaling * B A (`svd` basis). Modules outside the layers have layer -1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import pyarrow as pa

Basis = Literal["raw", "svd"]
PromptFormat = Literal["text", "deepseek", "chat", "template"]
Polarity = Literal["positive", "negative"]
POLARITIES: tuple[Polarity, Polarity] = ("positive", "negative")
OUTSIDE_LAYERS = -1
# Written out in the docs: a share is exact, where a float 0.001 is not.
QUANTILE_SHARES = tuple(Fraction(thousandths, 1000) for thousandths in (1, 10, 50, 250, 500, 750, 950, 990, 999))
DENSITY_MULTIPLES = (1, 2, 3, 5)


def _column(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"description": description})


def _optional(name: str, kind: pa.DataType, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": description})


ROWS = pa.schema(
    [
        _column("row", pa.int32(), "row number in the dataset, from 0"),
        _column("json", pa.string(), "the row's fields, as JSON; null if it could not be read"),
        _column("error", pa.string(), "why the row could not be read; empty if it could"),
    ]
)

PROMPTS = pa.schema(
    [
        _column("example", pa.int32(), "the dataset row that the prompt was made from"),
        _column("text", pa.string(), "what the model reads"),
        _column("token_ids", pa.list_(pa.int32()), "token ids, (position,)"),
        _column(
            "tokens", pa.list_(pa.string()), "each token's stretch of the text, (position,); joined they give the text"
        ),
        _column("prefixes", pa.list_(pa.int64()), "(position,); equal numbers: equal tokens up to and including here"),
    ]
)

SKIPPED_ROWS = pa.schema(
    [
        _column("row", pa.int32(), "row number in the dataset, from 0"),
        _column("outcome", pa.string(), "skipped, or truncated"),
        _column("reason", pa.string(), "why"),
    ]
)

FEATURES = pa.schema(
    [
        _column("feature", pa.int32(), "index of the feature: by layer, module, component; experts last"),
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "the module's name, as short as it is unique in its layer"),
        _column("component", pa.int32(), "row of A and column of B, from 0"),
        _column("module", pa.string(), "full name of the adapted module in the base model"),
        _column("expert", pa.int32(), "the expert, which sees only tokens routed to it; -1: it is no expert"),
        _column("rank", pa.int32(), "the module's rank r"),
        _column("in_features", pa.int32(), "length of x; for an embedding, the number of its tokens or positions"),
        _column("out_features", pa.int32(), "length of the module's output"),
        _column(
            "scaling",
            pa.float64(),
            "factor on B A x: alpha / r, or alpha / sqrt(r) for rsLoRA; times the scale of a scaled embedding",
        ),
        _column("read_norm", pa.float64(), "norm of A[component]"),
        _column("write_norm", pa.float64(), "norm of B[:, component] (of g * B[:, component] for DoRA)"),
        _column("variant", pa.string(), "lora or dora"),
    ]
)

TOP_TOKENS = pa.schema(
    [
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "name of the adapted module in its layer"),
        _column("component", pa.int32(), "component in the table's basis, from 0"),
        _column("polarity", pa.string(), "positive or negative"),
        _column("rank", pa.int32(), "1 is the most extreme activation of this polarity"),
        _column("activation", pa.float32(), "A[component] . x, unscaled; v . x in the svd basis"),
        _column("example", pa.int32(), "the dataset row"),
        _column("position", pa.int32(), "the token's position in its example"),
        _column("token_id", pa.int32(), "the token's id"),
        _column("token", pa.string(), "the token's text"),
        _column(
            "occurrences", pa.int32(), "tokens with exactly this context and so this activation; 1 in the plain list"
        ),
        _column("target_position", pa.int32(), "index of the token in the context"),
        _column("context", pa.list_(pa.string()), "token texts around the token, clipped at the example's ends"),
        _column(
            "context_activations",
            pa.list_(pa.float32()),
            "activations on it; 0 for a token the feature does not see",
        ),
        _column(
            "minimap",
            pa.list_(pa.int8()),
            "the whole example in at most 64 bins, (bins,): the activation farthest from 0 in each, in 127ths of the "
            "feature's most extreme one that lists may hold, clipped to that; empty in a list that is not shown",
        ),
    ]
)

SAMPLES = pa.schema(
    [
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "name of the adapted module in its layer"),
        _column("component", pa.int32(), "component in the basis of top_tokens, from 0"),
        _column("interval", pa.int32(), "the interval that the token was drawn from, 0 the lowest; -1: from all"),
        _column("low", pa.float64(), "lower bound of the interval; the lowest activation for -1"),
        _column(
            "high", pa.float64(), "upper bound, which only the highest interval holds; the highest activation for -1"
        ),
        _column("count", pa.int64(), "tokens that it was drawn from, each as likely as another"),
        _column("draw", pa.int32(), "1, 2, ... in the order drawn: the first n draws are a sample of n"),
        *(TOP_TOKENS.field(name) for name in ("activation", *TOP_TOKENS.names[6:])),
    ]
)

STATISTICS = pa.schema(
    [
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "name of the adapted module in its layer"),
        _column("component", pa.int32(), "component in the table's basis, from 0"),
        _column("basis", pa.string(), "raw or svd"),
        _column("filtered", pa.bool_(), "over the tokens that no filter leaves out, rather than over all"),
        _column(
            "tied",
            pa.bool_(),
            "svd: a neighbour has nearly the same singular value, so only their span means something",
        ),
        _column(
            "count", pa.int64(), "finite activations, over every real token that the feature sees (see `filtered`)"
        ),
        _column("non_finite", pa.int64(), "NaN and infinite activations; never ranked, not in the other columns"),
        _column("min", pa.float64(), "lowest activation"),
        _column("max", pa.float64(), "highest activation"),
        _column("mean", pa.float64(), "mean activation"),
        _column("std", pa.float64(), "standard deviation of the population"),
        _optional("skewness", pa.float64(), "skewness of the population; null where std is 0"),
        _optional("kurtosis", pa.float64(), "excess kurtosis of the population (0 for a normal one); null likewise"),
        _column(
            "quantiles",
            pa.list_(pa.float64()),
            "lowest activations that shares of .001, .01, .05, .25, .5, .75, .95, .99, .999 do not exceed: (9,)",
        ),
        _column(
            "density", pa.list_(pa.float64()), "share of activations with |activation| > m * std, m = 1, 2, 3, 5: (4,)"
        ),
        _column(
            "effect_scale", pa.float64(), "times |activation|: the norm of what the feature adds to the module's output"
        ),
        _column("rms_effect", pa.float64(), "effect_scale times the root mean square of the activations"),
        _optional(
            "token_omega_squared",
            pa.float64(),
            "share of the variance that the token's id alone explains, 0 to 1; null where it is not defined",
        ),
        _optional(
            "position_omega_squared",
            pa.float64(),
            "share of the variance that the token's position alone explains, likewise",
        ),
        _column("bin_edges", pa.list_(pa.float64()), "histogram bin edges, (bins + 1,)"),
        _column("total_counts", pa.list_(pa.int64()), "activations per bin, (bins,)"),
        _column("positive_counts", pa.list_(pa.int64()), "activations > 0 per bin, (bins,)"),
        _column("negative_counts", pa.list_(pa.int64()), "activations < 0 per bin, (bins,)"),
    ]
)

COACTIVATION = pa.schema(
    [
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "name of the adapted module in its layer"),
        _column("component", pa.int32(), "component in the table's basis, from 0"),
        _column("basis", pa.string(), "raw or svd"),
        _column(
            "partners",
            pa.list_(pa.int32()),
            "other features, numbered from 0 in the order of the adapter's rows here, highest |correlation| first: "
            "all, or 50 of more than 2,048",
        ),
        _column("correlations", pa.list_(pa.float32()), "Pearson correlation with each partner over every token"),
    ]
)

COSINES = pa.schema(
    [
        _column("layer", pa.int32(), "layer of the model"),
        _column("first", pa.string(), "projection, with _c{component} where the adapter has more than one"),
        _column("second", pa.string(), "likewise"),
        _column("cosine", pa.float64(), "cosine of the two directions in the MLP's hidden space"),
    ]
)

NEIGHBOURS = pa.schema(
    [
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "name of the adapted module in its layer"),
        _column("component", pa.int32(), "component in the table's basis, from 0"),
        _column("basis", pa.string(), "raw or svd"),
        _column("kind", pa.string(), "read: by what the feature reads; write: by what it writes"),
        _column(
            "partners",
            pa.list_(pa.int32()),
            "the 10 other features of highest |cosine|, highest first, numbered from 0 in the order of the adapter's "
            "rows of this basis and kind; only those that read or write in the same space",
        ),
        _column(
            "cosines",
            pa.list_(pa.float32()),
            "cosine with what each partner reads, for kind read, or writes, for kind write; in the hidden space, which "
            "gate and up write and down reads, with what the partner does there",
        ),
    ]
)

LABEL = pa.struct(
    [
        _column("person", pa.string(), "whose label it is"),
        _optional(
            "tags",
            pa.list_(pa.string()),
            "what the person calls the feature; empty: looked, and none fits; null: said nothing of tags",
        ),
        _optional("confidence", pa.int8(), "1, a guess, to 5, certain"),
        _optional("at", pa.string(), "when, ISO 8601"),
    ]
)

NOTE = [
    _column("text", pa.string(), "what a person wrote"),
    _column("starred", pa.bool_(), "marked as important"),
    _column("skipped", pa.bool_(), "looked at and left without a text"),
    _optional("last_modified", pa.string(), "ISO 8601, as the file has it"),
    _optional("text_by", pa.string(), "who wrote the text, where the person gave a name"),
    _optional("text_at", pa.string(), "when, ISO 8601; likewise"),
    _column("people", pa.list_(pa.string()), "who wrote the text or a label, each once"),
    _column("tags", pa.list_(pa.string()), "the tags of all labels, each once"),
    _column("labels", pa.list_(LABEL), "what each person says beside the text"),
    _optional("examples_seen", pa.list_(pa.string()), "digests of the examples that the text was written on"),
]

INTERPRETATIONS = pa.schema(
    [
        _column("key", pa.string(), "the entry's key in interpretations.json"),
        _optional("adapter", pa.string(), "parsed from the key; null for the project's first adapter"),
        _optional("layer", pa.int32(), "parsed from the key; null if the key has another shape"),
        _optional("projection", pa.string(), "likewise"),
        _optional("component", pa.int32(), "likewise; null for rank 1"),
        _optional("basis", pa.string(), "likewise; raw or svd, null for rank 1"),
        _optional("polarity", pa.string(), "likewise"),
        _column("known", pa.bool_(), "whether this adapter is in the project and has this feature"),
        _optional(
            "unknown_because", pa.string(), "not a key, no such adapter, or no such feature; null if it is known"
        ),
        *NOTE,
    ]
)

ANNOTATED_FEATURES = pa.schema(
    [
        _column("key", pa.string(), "the panel's key in interpretations.json"),
        _column("layer", pa.int32(), "layer of the model, -1 outside the layers"),
        _column("projection", pa.string(), "name of the adapted module in its layer"),
        _column("component", pa.int32(), "component in the table's basis, from 0"),
        _column("basis", pa.string(), "raw or svd, as in top_tokens"),
        _column("polarity", pa.string(), "positive or negative"),
        *(field.with_nullable(True) for field in NOTE),
        _optional("stale", pa.bool_(), "fewer than half of examples_seen are still listed; null if it has none"),
        _optional("best_activation", pa.float32(), "of the list's first token; null, as the next, if it is empty"),
        _optional("best_token", pa.string(), "its text"),
        _optional("best_context", pa.string(), "the text around it"),
        _optional("best_example", pa.int32(), "its dataset row"),
        _optional("best_position", pa.int32(), "its position in that row"),
        *(
            STATISTICS.field(name)
            for name in STATISTICS.names[STATISTICS.names.index("count") : STATISTICS.names.index("bin_edges")]
        ),
    ]
)
