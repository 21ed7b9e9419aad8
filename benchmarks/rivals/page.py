"""The side-by-side comparison as docs/benchmarks.md shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTRODUCTION = (
    "loradash beside other ways to the same lists: the same model and adapter (the demo's, {features} features), the "
    "same {tokens} tokens in {examples} examples, k = {k}, float32. Each method is a script in `benchmarks/rivals/` "
    "and runs in an environment with what it needs and no more. Before anything is timed, and again on every run, its "
    "lists must be those of PEFT's forward pass in float64, each example alone: every value and every token within "
    "{tolerance:g} of the feature's largest activation. Then loradash and the method run in turns, a process each; a "
    "ratio is the median of {pairs} pairs, with its range."
)
NOTES = (
    "*Seconds* are from token ids to lists, after the base model is loaded; nothing has warmed up. loradash's hold "
    "putting the adapter on the model and probing it, which the others do while loading, or not at all. *Whole "
    "process* includes Python, its imports and loading. Memory is the process's peak, model included.",
    "*loradash, lists alone* does what the others do, and keeps every activation on disk, so that another k needs no "
    "model. *loradash, all tables* makes what `loradash build` makes of it: lists with contexts, statistics, "
    "quantiles, histograms, samples. delphi's cache keeps every activation on disk with its place, those of padding "
    "too. The other three keep the lists alone.",
)


def section(result: Mapping[str, Any]) -> list[str]:
    """Return paragraphs and the table, and how far each method was from float64."""
    pairs = result["methods"][0]["recording"]["pairs"]
    return [
        INTRODUCTION.format(**result, pairs=pairs),
        "",
        *table(result),
        "",
        *[line for paragraph in NOTES for line in (paragraph, "")],
        f"Largest difference from float64: {_differences(result)}.",
        "",
        f"Versions: {_versions(result)}.",
    ]


def table(result: Mapping[str, Any]) -> list[str]:
    """Return the table's lines: loradash first, the others from the fastest."""
    own = result["loradash"]
    lines = [
        "| method | seconds | times loradash | whole process | times loradash | peak memory | left on disk |",
        "|---|--:|--:|--:|--:|--:|--:|",
        f"| {own['name']} | {own['median_seconds']:.1f} | 1 | {own['median_process_seconds']:.1f} | 1 | "
        f"{own['peak_mib']} MiB | {own['disk_mib']} MiB |",
    ]
    for one in sorted(result["methods"], key=lambda one: one["recording"]["ratio"]):
        recording, process = one["recording"], one["process"]
        lines.append(
            f"| {one['name']} | {recording['median_seconds']:.1f} | {_ratio(recording)} | "
            f"{process['median_seconds']:.1f} | {_ratio(process)} | {one['peak_mib']} MiB | {one['disk_mib']} MiB |"
        )
    return lines


def _ratio(pairs: Mapping[str, Any]) -> str:
    low, high = pairs["ratios_from_to"]
    return f"{pairs['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _differences(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{one['name']} {one['largest_difference']:.0e}" for one in result["methods"])


def _versions(result: Mapping[str, Any]) -> str:
    """Name what loradash ran with, and what another method had beside or instead."""
    own = result["loradash"]["libraries"]
    versions = [f"{name} {number}" for name, number in own.items()]
    for one in result["methods"]:
        others = [f"{name} {number}" for name, number in one["libraries"].items() if own.get(name) != number]
        versions += [f"{', '.join(others)} ({one['name']})"] if others else []
    return ", ".join(versions)
