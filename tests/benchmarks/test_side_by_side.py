"""The methods that need nothing that loradash does not, judged by the gate; and the gate, which must turn red."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.rivals import adapted, loradash_tables, loradash_top_k, original, plain_hooks
from benchmarks.rivals.contract import NO_TOKEN, Job, Record, Top, load_tokens, save_tokens
from benchmarks.rivals.gate import WrongLists, check, reference, reference_of
from benchmarks.rivals.processes import Method, run_method
from benchmarks.side_by_side import LORADASH, OTHERS, Inputs, Measured, figures, memory_and_disk
from tests.projects import save_adapter, save_base

K = 24  # some features have fewer tokens of one polarity
LENGTHS = (5, 11, 2, 17, 8, 8, 1, 14)
HERE = {"plain hooks": plain_hooks, "original": original, "top-k": loradash_top_k, "tables": loradash_tables}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    directory = tmp_path_factory.mktemp("side_by_side")
    vocabulary = save_base(directory / "base").vocab_size
    save_adapter(directory / "adapter", directory / "base", r=2)
    random = np.random.default_rng(0)
    examples = [random.integers(0, vocabulary, length) for length in LENGTHS]
    examples[4] = examples[5].copy()  # whose activations nothing but their numbers tells apart
    save_tokens(directory / "tokens.npz", examples)
    return Job(directory / "base", directory / "adapter", K)


@pytest.fixture(scope="module")
def token_ids(job: Job) -> list[np.ndarray]:
    return load_tokens(job.model.with_name("tokens.npz"))


@pytest.fixture(scope="module")
def right(job: Job, token_ids: list[np.ndarray]) -> dict[str, np.ndarray]:
    return reference(job, token_ids)


@pytest.fixture(scope="module")
def found(job: Job, token_ids: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Top:
    return plain_hooks.load(job)(token_ids, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("name", HERE)
def test_every_method_here_gives_the_right_lists(
    name: str,
    job: Job,
    token_ids: list[np.ndarray],
    right: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapted, "BATCH_TOKENS", 30)
    load: Callable[[Job], Record] = HERE[name].load
    top = load(job)(token_ids, tmp_path)
    assert check(top, right) < 1e-5
    assert len(top.names) == 3 * 7 * 2
    assert (top.tokens == NO_TOKEN).any()


def _too_large(top: Top) -> Top:
    return replace(top, values=top.values * np.float32(1.0001))


def _one_missing(top: Top) -> Top:
    return replace(top, values=np.roll(top.values, -1, axis=2), tokens=np.roll(top.tokens, -1, axis=2))


def _token_after(top: Top) -> Top:
    return replace(top, tokens=np.where(top.tokens == NO_TOKEN, NO_TOKEN, (top.tokens + 1) % sum(LENGTHS)))


def _one_twice(top: Top) -> Top:
    first, second, end = (sum(LENGTHS[:example]) for example in (4, 5, 6))  # two examples with the same activations
    of_second = (top.tokens >= second) & (top.tokens < end)
    return replace(top, tokens=np.where(of_second, top.tokens - second + first, top.tokens))


def _empty(top: Top) -> Top:
    return replace(top, values=np.zeros_like(top.values), tokens=np.full_like(top.tokens, NO_TOKEN))


def _polarities_swapped(top: Top) -> Top:
    return replace(top, values=top.values[:, ::-1], tokens=top.tokens[:, ::-1])


def _not_numbers(top: Top) -> Top:
    return replace(top, values=np.full_like(top.values, np.nan))


def _other_names(top: Top) -> Top:
    return replace(top, names=[*top.names[1:], top.names[0]])


SPOILS = (_too_large, _one_missing, _token_after, _one_twice, _empty, _polarities_swapped, _not_numbers, _other_names)


@pytest.mark.parametrize("spoil", SPOILS)
def test_the_gate_turns_red(spoil: Callable[[Top], Top], found: Top, right: dict[str, np.ndarray]) -> None:
    check(found, right)
    with pytest.raises(WrongLists, match="off by"):
        check(spoil(found), right)


def test_the_gate_asks_for_every_feature(found: Top, right: dict[str, np.ndarray]) -> None:
    fewer = Top(found.names[1:], found.values[1:], found.tokens[1:])
    with pytest.raises(WrongLists, match="41 features"):
        check(fewer, right)


def test_a_method_that_counts_padding_is_found_out(
    job: Job, token_ids: list[np.ndarray], right: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded = adapted.padded

    def every_token(examples: list[np.ndarray]) -> object:
        ids, mask = padded(examples)
        return ids, mask.roll(1, dims=1)

    monkeypatch.setattr(plain_hooks, "padded", every_token)
    with pytest.raises(WrongLists):
        check(plain_hooks.load(job)(token_ids, tmp_path), right)


def test_equal_contexts_may_stand_in_either_order(found: Top, right: dict[str, np.ndarray]) -> None:
    first, second = (sum(LENGTHS[:example]) for example in (4, 5))
    tokens = found.tokens.copy()
    for place in range(LENGTHS[4]):
        tokens[found.tokens == first + place] = second + place
        tokens[found.tokens == second + place] = first + place
    assert (tokens != found.tokens).any()
    check(replace(found, tokens=tokens), right)


def test_a_process_reports_what_it_took_and_leaves_nothing(
    job: Job, right: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tokens = job.model.with_name("tokens.npz")
    run = run_method(OTHERS[1], Path(sys.executable), job, tokens, tmp_path / "run")
    difference = check(run.top, right)
    assert 0 < run.seconds < run.process_seconds
    assert run.peak_mib > 100
    assert 0 < run.disk_mib < 1
    assert list(tmp_path.iterdir()) == []
    result = figures(Inputs(job, tokens, right), [Measured(OTHERS[1], [run], [run], [difference])])
    assert result["tokens"] == sum(LENGTHS)
    assert result["methods"][0]["recording"]["ratio"] == 1
    assert result["loradash"] | memory_and_disk([run]) == result["loradash"]


def test_a_process_that_fails_says_why(job: Job, tmp_path: Path) -> None:
    tokens = job.model.with_name("tokens.npz")
    with pytest.raises(RuntimeError, match=r"No module named .*nothing"):
        run_method(Method("nothing", "nothing", ()), Path(sys.executable), job, tokens, tmp_path / "run")


def test_the_reference_is_computed_once(job: Job, token_ids: list[np.ndarray], tmp_path: Path) -> None:
    first = reference_of(tmp_path / "right.npz", job, token_ids)
    again = reference_of(tmp_path / "right.npz", replace(job, model=tmp_path / "nowhere"), token_ids)
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)


def test_every_method_has_its_script() -> None:
    for method in (LORADASH, *OTHERS):
        assert (Path(adapted.__file__).parent / f"{method.name}.py").exists()
