"""The sections of docs/benchmarks.md that are tables of one result file each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Result = Mapping[str, Any]


def recording(result: Result) -> list[str]:
    """Recording beside the bare model."""
    rows = [
        (
            *(name, _pairs(case), f"{case['target']:.2f}", f"{case['beside_bare_without_mask']:.3f}"),
            *(case["folded_modules"], case["error_of_worst_feature"]),
        )
        for name, case in result["cases"].items()
    ]
    paddings = [
        (prompt_format, rows_and_sharing, f"{padding:.1%}")
        for prompt_format, found in result["padding"].items()
        for rows_and_sharing, padding in found.items()
    ]
    return [
        "Recording every feature of the demo's adapter (rank 1 on 210 modules) to disk, beside the forward pass of the "
        f"*base model's* bare backbone over the very same batches: {result['examples']} examples, {result['tokens']} "
        "tokens, prefixes not shared, in turns in one process. The bare model is called as usual, with the attention "
        "mask that says where there is padding. Recording does without one (`docs/large-models.md`), so beside it "
        "stands what the ratio is to a bare model without one. Before that, what is recorded is held to exactness (b), "
        "feature by feature.",
        "",
        *_table(
            ("case", "times the bare model", "at most", "without a mask", "modules folded", "worst error, PEFT's = 1"),
            rows,
        ),
        "",
        "Padding in the batches of the demo's dataset, of all tokens that run:",
        "",
        *_table(("prompt format", "rows", "padding"), paddings),
    ]


def prefixes(result: Result) -> list[str]:
    """What shared prefixes save."""
    rows = [
        (
            name,
            *(f"{one[field]:,}" for field in ("examples", "tokens", "distinct_tokens", "tokens_that_run")),
            _pairs(one),
            f"{one['of_distinct_tokens']:.2f}",
            *[", ".join(f"{limit:.2f}" for limit in result["targets"].get(name, {}).values()) or "–"],
        )
        for name, one in result["measured"].items()
    ]
    return [
        "Recording to disk with shared prefixes run once, beside the bare backbone's forward pass over *all* tokens, "
        "in float32. *Per distinct token* is the ratio divided by the share of distinct tokens: 1 means that each "
        "costs what a token costs the bare model, and the others nothing. *At most* is the limit that we set: for one "
        "prefix of the ratio, for the demo of the cost per distinct token.",
        "",
        *_table(
            (
                *("dataset", "examples", "tokens", "distinct", "run"),
                *("times the bare model", "per distinct token", "at most"),
            ),
            rows,
        ),
    ]


def build(result: Result) -> list[str]:
    """A whole build, and where its time goes."""
    parts = [(name, f"{seconds:,.2f}") for name, seconds in result["median_parts_seconds"].items()]
    return [
        f"A build of the demo's first {result['rows']} rows ({result['tokens']:,} tokens), rows to HTML, Dagster's "
        "events, checks and the store included, without imports and without making the base model ready and loading "
        f"it, beside the bare backbone's forward pass over all its tokens: **{_pairs(result)}** ({result['target']}).",
        "",
        f"Starting Python takes {result['process_start_seconds']:.2f} s, importing {result['imports_seconds']:.2f} s; "
        f"a second build, which finds everything in the store, {result['second_build_seconds']:.2f} s.",
        "",
        *_table(("part", "seconds"), parts),
        "",
        "![Where the seconds of a build go](images/build-profile.svg)",
    ]


def tables(result: Result) -> list[str]:
    """Tables from recorded activations, on one core."""
    rows = [
        (
            name,
            f"{one['activations_per_second'] / 1e6:,.0f} M",
            f"{result['targets'][name] / 1e6:,.0f} M" if name in result["targets"] else "–",
            _pairs(one),
        )
        for name, one in result["measured"].items()
    ]
    return [
        f"Activations a second on one core, {result['features']} features, k = {result['k']}, in memory, through the "
        "code of a build; the ratio is to one reading of the same memory (its maximum), in turns.",
        "",
        *_table(("what", "activations a second", "at least", "times one reading"), rows),
    ]


def memory(result: Result) -> list[str]:
    """Peak memory and time of every stage, without a model."""
    rows = [
        (name, f"{stage['seconds']:,.1f}", f"{stage['peak_mib']:,}", f"{stage['bytes_written'] / 1e6:,.0f}")
        for name, stage in result["stages"].items()
        if name != "dataset"
    ]
    return [
        f"{result['tokens']:,} tokens × {result['features']:,} features ({result['layers']} layers, rank "
        f"{result['rank']}): synthetic examples of 500 to 8,000 tokens and synthetic activations through the code of a "
        f"build, each stage in a process of its own. Peak of any stage: **{result['peak_mib']:,} MiB**, with all "
        "libraries.",
        "",
        *_table(("stage", "seconds", "peak MiB", "MB written"), rows),
    ]


def note_latency(result: Result) -> list[str]:
    """Seconds from a saved note to the page, and what runs when nothing changes."""
    return [
        f"{result['notes']} notes saved through the service at random moments while `loradash ui` runs, until page and "
        f"report hold them: median {result['seconds_median']} s, 95th percentile **{result['seconds_95']} s**, longest "
        f"{result['seconds_longest']} s ({result['target']}). A run that draws takes {result['run_seconds_median']} s; "
        f"in {result['idle_seconds']:.0f} s without a change {result['runs_while_idle']} runs started.",
    ]


def definitions(result: Result) -> list[str]:
    """How long Dagster waits for the definitions."""
    rows = [
        (case, result["assets"].get(case, "–"), "{} ({} to {})".format(seconds["median"], *seconds["from_to"]))
        for case, seconds in result["cases"].items()
    ]
    return [
        f"From the start of a fresh process to its end, the median of {result['times']} and their range "
        f"({result['target']}). To load the definitions is to resolve the whole graph with its jobs; no library of the "
        "steps (torch, transformers and others) is imported for it, by test.",
        "",
        *_table(("in the process", "assets", "seconds"), rows),
    ]


def lost_notes(result: Result) -> list[str]:
    """Schedules whose last page does not hold the last note."""
    rows = [(sensor, one["lost"], one["runs"]) for sensor, one in result["sensors"].items()]
    return [
        f"{result['schedules']} random schedules of {result['steps']} steps each: notes written before, during and "
        "after runs, runs that fail, runs that die without a word, restarts. *Lost* are the schedules after which, all "
        "quiet, page and report do not hold the last note.",
        "",
        *_table(("sensor", "lost", "runs"), rows),
    ]


def reliability(result: Result) -> list[str]:
    """When what was measured; the figures stand elsewhere, beside what they are to be."""
    return [
        "What was lost, broken or wrong after kills, failing disks, conflicts and damaged files, and what the controls "
        "lost: in [Reliability](reliability.md).",
        "",
        *_table(("row", "measured"), [(name, row["day"]) for name, row in result["rows"].items()]),
    ]


def fuzz(result: Result) -> list[str]:
    """Requests that make the annotation service stumble."""
    rows = [
        (
            *(service, f"{one['requests']['in_all']:,}", one["status_5xx"], one["undescribed"], one["tracebacks"]),
            one["cut_off_or_waited_for"],
        )
        for service, one in result["services"].items()
    ]
    return [
        "Valid and invalid requests that schemathesis makes from the service's OpenAPI document, and whole requests "
        "damaged byte by byte, with hostile JSON. *Undescribed* are replies that the document does not have. The "
        "control sends back what `await request.json()` gives. A request that the service waits for the rest of gets "
        "no reply.",
        "",
        *_table(("service", "requests", "status 500 or more", "undescribed", "tracebacks", "no reply"), rows),
    ]


def hostile_clients(result: Result) -> list[str]:
    """What clients that mean ill cost the annotation service."""
    rows = [
        (
            attack.replace("_", " "),
            ", ".join(f"{answer} × {count}" for answer, count in one["answers"].items()) or "none",
            one["memory_growth_mib"],
            *(one[f"p99_ms_{kind}"] for kind in ("alone", "attacked")),
            one["p99_times"],
        )
        for attack, one in result["attacks"].items()
    ]
    return [
        "A client that reads and stars a note every few milliseconds, alone and under one attack at a time, in turns "
        f"of {result['seconds']:.0f} s: how the attack is answered, how much the service's memory grows, and what the "
        "slowest of a hundred requests takes. *At most* 10 MiB and 4 times as long, as we set it; a page that is "
        "asked for and left unread is not held to the former, but is far from the 20 MB a connection that it has. The "
        "control has no limit on bodies, and waits for ever for a request. Where the machine does other things as "
        "well, the client alone is slow too, and the times say less.",
        "",
        *_table(("attack", "answers", "MiB more", "p99 ms alone", "p99 ms attacked", "times"), rows),
    ]


def page(result: Result) -> list[str]:
    """The dashboard in a browser beside the original's way, and with many features."""
    targets, compared, large = result["targets"], result["compared"], result["large"]
    sizes = [
        (
            *(case, *(f"{one['bytes'][way] / 1e6:.2f} MB" for way in ("original", "loradash"))),
            f"{one['times_smaller']:.1f}",
            f"{one['bytes_with_samples'] / 1e6:.2f} MB",
        )
        for case, one in compared.items()
    ]
    opening = [
        (
            f"{case}, {until}",
            *(f"{figures['seconds'][way]:.3f}" for way in ("original", "loradash", "empty")),
            *(_times(figures[name]) for name in ("times", "times_beyond_empty")),
        )
        for case, one in compared.items()
        for until, figures in one["opening"].items()
    ]
    alone = [
        (
            *(case, *(f"{one[name] / 1e6:.1f} MB" for name in ("bytes", "bytes_beside"))),
            *(f"{one['seconds'][until]:.2f}" for until in ("painted", "usable")),
        )
        for case, one in large.items()
    ]
    used = [(f"{case}, original's way", one["original"]) for case, one in compared.items()]
    used += [(case, one["loradash"]) for case, one in (compared | large).items()]
    frames = max(one["frames_ms"] for one in compared.values())
    return [
        "Synthetic features on real texts, 16 examples of either polarity, ±10 tokens, as our file and as one in which "
        "everything is rendered beforehand, written anew; the original's own file is "
        f"{result['originals_own_mb']} MB for 64 layers × 3 projections. Both show what the data says, by a check. "
        f"Chromium {result['chromium']}, headless, 1440 × 900, from disk. The limits: {targets['size']}; opening "
        f"{targets['opening']}; {targets['nodes']} nodes; a switch {targets['switch']}, a keystroke "
        f"{targets['keystroke']}.",
        "",
        *_table(("data", "original's way", "loradash", "times smaller", "with samples"), sizes),
        "",
        "Opened in turns in fresh profiles, median seconds since the navigation. *Painted*: the first layer's tokens "
        "in sight are. *Usable*: a click on the next layer is answered, too. *Beyond empty*: of what each takes more "
        "than a page of one word.",
        "",
        *_table(("until", "original's way", "loradash", "empty", "times faster", "beyond empty"), opening),
        "",
        *_table(("loradash alone", "file", "files beside it", "seconds until painted", "until usable"), alone),
        "",
        "A switch is from a click on the next layer, a keystroke from an event of the search field, to the second "
        f"frame after the change, of which the frames take {frames:.1f} ms. *Drawn*: until the document has changed. "
        "Median and 95th percentile, in ms.",
        "",
        *_table(
            ("held", "nodes", "most nodes", "JavaScript heap", "drawn", "painted"),
            [row for name, one in used for row in _held(name, one)],
        ),
        *_searched(large),
    ]


def _held(name: str, one: Result) -> list[tuple[str, ...]]:
    """Rows of what a page holds as it opens, and with all columns."""
    views = [(name, one, "switch"), (f"{name}, all columns", one.get("all_columns"), "switch_all_columns")]
    return [
        (
            *(case, f"{held['nodes']:,}", f"{one[switch]['most_nodes']:,}", f"{held['heap_mib']} MiB"),
            *_drawn(one[switch]),
        )
        for case, held, switch in views
        if held
    ]


def _searched(large: Result) -> list[str]:
    rows = [(case, one["search"]["times"], *_drawn(one["search"])) for case, one in large.items() if "search" in one]
    return ["", *_table(("search", "keystrokes", "drawn", "painted"), rows)] if rows else []


def _drawn(figures: Result) -> list[str]:
    return ["{median} ({p95})".format(**figures[name]) for name in ("drawn", "painted")]


def _times(figures: Result) -> str:
    return "{:.1f} ({:.1f} to {:.1f}, {} pairs)".format(figures["ratio"], *figures["ratios_from_to"], figures["pairs"])


def next_note(result: Result) -> list[str]:
    """From a finished note to the next panel in the queue."""
    rows = [
        (case, way, str(one["times"]), *_drawn(one))
        for case, ways in result["pages"].items()
        for way, one in ways.items()
    ]
    return [
        f"A note is put into the queue's field and Ctrl+Enter pressed ({result['keystrokes']} keystroke beyond the "
        f"text), a second after the panel came; most panels are of another layer than the one before. The limit: "
        f"{result['target']}. *Drawn*: until the next panel is in the document; *painted*: until the second frame "
        f"after that, of which the frames take {result['frames_ms']:.1f} ms; median and 95th percentile, in ms. "
        f"Chromium {result['chromium']}, from disk.",
        "",
        *_table(("data", "", "notes", "drawn", "painted"), rows),
    ]


def note_saves(result: Result) -> list[str]:
    """Durable saves of many at once, beside the disk's own."""
    rows = [
        (
            f"{int(size):,}",
            f"{one['ms']['single']:.2f}",
            f"{one['ms']['p50']:.1f}",
            f"{one['ms']['p99']:.1f}",
            _percentile(one),
            f"{one['p99_by_single_p99']:.1f}",
            f"{one['p99_of_nothing_new_by_single_save']:.1f}",
            f"{one['saves_a_second']:,}",
        )
        for size, one in result["sizes"].items()
    ]
    stores = [
        (
            f"{int(size):,}",
            _percentile(store),
            *(f"{store['saves_a_second'][kind]:,}" for kind in _STORES),
            ", ".join(f"{store['by'][kind]:.2f}" for kind in _STORES[1:]),
        )
        for size, one in result["sizes"].items()
        for store in [one["without_http"]]
    ]
    return [
        f"{result['clients']} connections, each of which saves a text as soon as its last one is saved, at a service "
        f"in a process of its own; in turns with single durable saves of the same file (write, fsync, rename, fsync of "
        f"the directory) in another process. The limit for the 99th percentile: {result['target']:g} single saves. "
        "*p99 / p99*: both of all turns together, for the disk is late now and then in either case. *Nothing new*: the "
        "same percentile in terms of a single save, where each saves its last text again, for which the disk has "
        "nothing to do.",
        "",
        *_table(
            (
                *("notes", "single save, ms", "median, ms", "p99, ms", "p99 / single save"),
                *("p99 / p99", "nothing new / single save", "saves a second"),
            ),
            rows,
        ),
        "",
        f"{result['clients']} threads at the store itself, without HTTP: the 99th percentile likewise, and in saves a "
        "second: all that wait in one commit (ours), a commit for each, and SQLite (WAL, `synchronous=FULL`, one row "
        "for each note). SQLite does not write the file that people read, keep in git and edit by hand.",
        "",
        *_table(("notes", "p99 / single save", "ours", "a commit each", "SQLite", "ours / these two"), stores),
    ]


def _percentile(figures: Result) -> str:
    return "{:.1f} ({:.1f} to {:.1f})".format(figures["p99_by_single_save"], *figures["from_to"])


_STORES = ("grouped", "one_fsync_each", "sqlite")


def cluster(result: Result) -> list[str]:
    """Recording on a Ray cluster: measured here, and 64 workers simulated."""
    measured, assumed = result["measured"], result["assumed"]
    killed, sleepers, workers = measured["killed"], measured["sleepers"], assumed["workers"]
    here = [
        (who, f"{found['seconds']:.1f}", f"{found['simulated_seconds']:.1f}")
        for who, found in (
            ("one worker", measured["one_worker"]),
            ("two workers", measured["two_workers"]),
            (f"{sleepers['workers']} workers that sleep", sleepers),
        )
    ]
    cases = list(result["simulated"][0]["shares"])
    rows = [
        (
            *(row["tokens"], f"{row['chunk_tokens']:,}", f"{row['chunks']:,}"),
            *(f"{row['shares'][case]:.2f}" for case in cases),
        )
        for row in result["simulated"]
    ]
    return [
        f"The demo's first rows ({measured['tokens']:,} tokens, {measured['chunks']} chunks) by workers of one thread "
        "each, warm, on a real Ray cluster of this machine; all runs wrote the same bytes as one process, which took "
        f"{measured['seconds_of_one_process']:.1f} s. A call takes {measured['way_milliseconds']} ms to a worker or "
        f"back, a chunk {measured['driver_milliseconds_per_chunk']} ms of the driver.",
        "",
        *_table(("workers", "seconds", "simulated"), here),
        "",
        "Workers with a model share this machine's cores with each other and with what else runs there, of which the "
        f"simulation knows nothing. Those that sleep, 0.5 to 1.5 s for each of {sleepers['chunks']} chunks, need no "
        f"cores: {sleepers['share_of_linear']:.2f} of linear.",
        "",
        f"With one of two workers killed in the middle, {killed['sent_again']} of the {measured['chunks']} chunks were "
        "sent once more; the same bytes.",
        "",
        f"Simulated: what {workers} workers gain, as a share of {workers}, with these costs and this spread (the "
        f"slowest chunk took {measured['longest_chunk_of_mean']} times the mean), "
        f"{assumed['seconds_per_token'] * 1e6:.0f} µs for a token, {assumed['features']} features, and files that "
        f"travel at {assumed['put_bytes_per_second'] / 1e6:.0f} MB/s. *Stragglers*: besides, "
        f"{assumed['stragglers']:.0%} of the chunks take {assumed['times_as_long']:.0f} times as long. *And a worker "
        f"lost*: in the middle, which is noticed after {assumed['notice_seconds']:.0f} s. *And cold*: every worker "
        f"loads the model for {assumed['load_seconds']:.0f} s first, as one worker alone does once. The lowest of "
        "several draws.",
        "",
        *_table(("tokens", "`chunk_tokens`", "chunks", *cases), rows),
    ]


def _pairs(figures: Result) -> str:
    low, high = figures["ratios_from_to"]
    return f"{figures['ratio']:.3f} ({low:.2f} to {high:.2f}, {figures['pairs']} pairs)"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
