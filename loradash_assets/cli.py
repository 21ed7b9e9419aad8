"""The command line: `loradash build | generate | render | annotate | import | export | ui | clean | init`.

The project is the working directory; `loradash.yaml` there holds the settings, and options override it for one run.
`build` and `generate` run the Dagster asset graph in this process, so lineage and history are recorded.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial, reduce
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from loradash_assets.compute.errors import InputError
from loradash_assets.settings import (
    SETTINGS_FILE,
    Settings,
    SettingsError,
    choices,
    commented_yaml,
    field_info,
    load_settings,
)

if TYPE_CHECKING:
    from annotation_server.bulk import Format
    from annotation_server.open_notes import Notes

Command = TypeVar("Command", bound=Callable[..., Any])
SECONDS_PER_DAY = 86_400
BUILD_EXAMPLES = 50  # the original's default for its whole refresh; its generator's is the settings' own

# Command-line name -> section and field of the settings; these are the original's options, then ours.
OPTIONS = {
    "base-model": ("model", "base_model"),
    "lora-path": ("adapter", "path"),
    "rank": ("adapter", "rank"),
    "num-examples": ("dataset", "num_examples"),
    "top-k": ("tables", "top_k"),
    "context-window": ("tables", "context_window"),
    "histogram-bins": ("tables", "histogram_bins"),
    "dataset": ("dataset", "path"),
    "prompt-format": ("dataset", "prompt_format"),
    "text-column": ("dataset", "text_column"),
    "basis": ("tables", "basis"),
    "distinct-contexts": ("tables", "distinct_contexts"),
    "exclude-special-tokens": ("tables", "exclude_special_tokens"),
    "exclude-first-positions": ("tables", "exclude_first_positions"),
    "exclude-token-ids": ("tables", "exclude_token_ids"),
    "max-per-example": ("tables", "max_per_example"),
    "intervals": ("tables", "intervals"),
    "interval-samples": ("tables", "interval_samples"),
    "random-samples": ("tables", "random_samples"),
    "sample-seed": ("tables", "sample_seed"),
    "output-dir": ("dashboard", "output_dir"),
}
WHOLE_NUMBERS = {
    *("rank", "num-examples", "top-k", "context-window", "histogram-bins", "exclude-first-positions"),
    *("max-per-example", "intervals", "interval-samples", "random-samples", "sample-seed"),
}
SWITCHES = {"distinct-contexts", "exclude-special-tokens"}


def _token_ids(context: click.Context, parameter: click.Parameter, value: str | None) -> list[int] | None:
    """Read whole numbers with commas between them; an empty text is an empty list."""
    if value is None:
        return None
    return [click.INT(part, parameter, context) for part in value.split(",")] if value else []


FILE = click.Path(path_type=Path, dir_okay=False)


def _setting_option(name: str, default: object) -> Callable[[Command], Command]:
    section, field = OPTIONS[name]
    shown = "" if default is None else f" [default: {default}]"
    text = f"{field_info(section, field).description} ({section}.{field}){shown}"
    if name in SWITCHES:
        return click.option(f"--{name}/--no-{name}", default=None, help=text)
    if name == "exclude-token-ids":
        return click.option(f"--{name}", metavar="ID,ID,...", callback=_token_ids, default=None, help=text)
    allowed = choices(section, field)
    kind = click.Choice(allowed) if allowed else click.INT if name in WHOLE_NUMBERS else click.STRING
    return click.option(f"--{name}", type=kind, default=None, help=text)


def _run_options(**defaults: object) -> Callable[[Command], Command]:
    """Return the options of a command that runs the model; `defaults` are those that differ from the settings'."""
    own = {name: defaults.get(field, field_info(section, field).default) for name, (section, field) in OPTIONS.items()}
    options = [
        *(_setting_option(name, default) for name, default in own.items()),
        click.option("--no-copy", is_flag=True, help="write the data file only, and leave the dashboard as it is"),
        click.option("--output", type=FILE, help="also write the data file here"),
    ]
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)


def _settings(options: Mapping[str, Any] | None = None, examples: int | None = None) -> Settings:
    """Load the project's settings; `examples` is the command's own default number of rows."""
    overrides: dict[str, dict[str, Any]] = {}
    for name, value in (options or {}).items():
        section, field = OPTIONS[name.replace("_", "-")]
        if value is not None:
            overrides.setdefault(section, {})[field] = value
    settings = load_settings(Path.cwd(), overrides)
    if examples is None or "num_examples" in settings.dataset.model_fields_set:
        return settings
    return settings.model_copy(update={"dataset": settings.dataset.model_copy(update={"num_examples": examples})})


class _Group(click.Group):
    """Shows what a user can act on as one clear message, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, InputError) as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            if error.filename is None:  # not about a file, such as a closed pipe, which click handles
                raise
            raise click.ClickException(f"{error.filename}: {error.strerror}") from error


@click.group(cls=_Group, invoke_without_command=True)
@click.version_option(version("loradash"), prog_name="loradash")
@click.pass_context
def main(context: click.Context) -> None:
    """Show what a LoRA adapter reacts to.

    loradash runs a dataset through a base model with its adapter, records every adapter direction on every token, and
    makes a dashboard of the tokens that excite each direction most, for you to read and annotate.
    """
    if context.invoked_subcommand is None:
        next_step = _next_step(Path.cwd())
        click.echo(f"{context.get_help()}\n\nNext: {next_step}")


def _next_step(project: Path) -> str:
    dashboard = _dashboard(load_settings(project))
    if dashboard.exists():
        return f"open {dashboard}, or write notes on it with 'loradash annotate'."
    if (project / SETTINGS_FILE).exists():
        return f"'loradash build' makes the dashboard that {SETTINGS_FILE} here describes."
    return (
        f"'loradash init' writes {SETTINGS_FILE}, where you name base model, adapter and dataset; or at once:\n"
        "  loradash build --base-model MODEL --lora-path ADAPTER --dataset DATASET"
    )


def _dashboard(settings: Settings) -> Path:
    from loradash_assets.site.outputs import DASHBOARD_FILE

    return settings.output_dir / DASHBOARD_FILE


@main.command()
def init() -> None:
    """Write loradash.yaml here, with every setting explained.

    And dagster.yaml, by which Dagster keeps the run history here, however it is started.
    """
    from loradash_assets.run import history_home

    file = Path.cwd() / SETTINGS_FILE
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(commented_yaml(Settings()))
    except FileExistsError as error:
        raise click.ClickException(f"{file} is there already") from error
    history_home(Path.cwd())
    click.echo(f"Wrote {file}. Name your adapter, base model and dataset in it, then run 'loradash build'.")


@main.command()
@_run_options(num_examples=BUILD_EXAMPLES)
def build(no_copy: bool, output: Path | None, **options: Any) -> None:
    """Bring everything up to date, from the model to the dashboard.

    Makes what is missing or out of date: activations, tables, dashboard, data file and interpretation report.
    What has not changed comes from the store. An option counts before loradash.yaml, and that before the defaults.
    """
    settings = _settings(options, BUILD_EXAMPLES)
    _make(settings, _data_files(settings) if no_copy else None, output, no_copy=no_copy)


@main.command()
@_run_options()
def generate(no_copy: bool, output: Path | None, **options: Any) -> None:
    """Record the activations and write activations_data.json.

    The dashboard follows, unless --no-copy is given; the interpretation report does not.
    What has not changed comes from the store. An option counts before loradash.yaml, and that before the defaults.
    """
    settings = _settings(options)
    targets = [*_data_files(settings), *([] if no_copy else ["dashboard"])]
    _make(settings, targets, output, no_copy=no_copy)


def _data_files(settings: Settings) -> list[str]:
    """The asset of each adapter's data file."""
    from loradash_assets.sources import adapters

    return ["/".join((*adapter.place, "activations_data")) for adapter in adapters(settings)]


def _make(settings: Settings, targets: list[str] | None, output: Path | None, *, no_copy: bool) -> None:
    from loradash_assets.site.outputs import DATA_FILE
    from loradash_assets.sources import checkpoints

    for notice in checkpoints(settings).notices():
        click.echo(notice, err=True)
    _run(settings, targets)
    _copy(settings.output_dir / DATA_FILE, output)
    click.echo(f"Data file: {output or settings.output_dir / DATA_FILE}")
    if not no_copy:
        click.echo(f"Dashboard: {_dashboard(settings)}")
        click.echo("Write notes on it with 'loradash annotate'; see the asset graph with 'loradash ui'.")


@main.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="an activations_data.json [default: the project's own results]",
)
@click.option(
    "--output",
    type=FILE,
    help="the HTML file to write [default: lora_activations_dashboard.html, here with --data, else in output-dir]",
)
def render(data: Path | None, output: Path | None) -> None:
    """Draw the dashboard without running the model.

    It shows the last build's results, or those in a data file of this program or of the original.
    """
    from loradash_assets.site.files import copy_dashboard

    settings = _settings()
    if data is not None:
        target = output or Path(_dashboard(settings).name)
        if target.resolve() == data.resolve():
            raise click.ClickException(f"--output: {target} is the data file itself")
        _render_file(settings, data, target)
    else:
        from loradash_assets.run import RunError

        try:
            _run(settings, ["interpretations", "dashboard"], upstream=False)
        except RunError as error:
            raise click.ClickException(f"{error}\n('loradash build' makes what is missing)") from error
        target = output or _dashboard(settings)
        if target.resolve() != _dashboard(settings).resolve():
            copy_dashboard(_dashboard(settings), target)
    click.echo(f"Dashboard: {target.resolve()}")


def _render_file(settings: Settings, data: Path, target: Path) -> None:
    from annotation_server.document import DocumentError, read_interpretations
    from loradash_assets.site.entries import note_of_entry
    from loradash_assets.site.files import save_dashboard
    from loradash_assets.site.from_export import ExportError, page_from_export

    try:
        document = read_interpretations(settings.resolve(settings.annotations.interpretations_file))
        page = page_from_export(data.read_bytes(), data.name, settings.dashboard.title)
    except (ExportError, DocumentError) as error:
        raise click.ClickException(str(error)) from error
    notes = {key: note_of_entry(entry) for key, entry in document.entries.items()}
    save_dashboard(page, notes, target, settings.dashboard.largest_file)


def _annotation_option(field: str, **options: Any) -> Callable[[Command], Command]:
    info = field_info("annotations", field)
    text = f"{info.description} (annotations.{field}) [default: {info.default}]"
    return click.option(f"--{field.replace('_', '-')}", help=text, **options)


@main.command()
@_annotation_option("port", type=click.IntRange(0, 65535))
@_annotation_option("interpretations_file")
@click.option("--host", default="127.0.0.1", show_default=True, help="any but a loopback address needs a token")
@click.option("--token-file", type=FILE, help="holds the token to ask for; else LORADASH_TOKEN in the environment")
@click.option("--allow-host", metavar="NAME", multiple=True, help="also answer under this name; needs a token")
def annotate(
    port: int | None, interpretations_file: str | None, host: str, token_file: Path | None, allow_host: tuple[str, ...]
) -> None:
    """Serve the dashboard on this machine and save what you write on it."""
    from annotation_server.server import CannotServe, Door, serve
    from loradash_assets.lookup import ActivationLookup

    settings = _settings()
    file = settings.resolve(interpretations_file or settings.annotations.interpretations_file)
    chosen_port = settings.annotations.port if port is None else port
    try:
        door = Door(host, chosen_port, token_file, allow_host)
        serve(file, _dashboard(settings), door, ActivationLookup(settings))
    except CannotServe as error:
        raise click.ClickException(str(error)) from error


def _person(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    import msgspec

    from annotation_server.limits import Name

    try:
        return msgspec.convert(value, Name | None)
    except msgspec.ValidationError as error:
        problem = "1 to 80 characters, no control characters, no blank at either end"
        raise click.BadParameter(problem, context, parameter) from error


@main.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@click.option("--replace", is_flag=True, help="where the file's notes and those here differ, take the file's")
@click.option("--by", metavar="NAME", callback=_person, help="who is to be named in the history of what is replaced")
@click.option("--undo", is_flag=True, help="take the last import back, where nobody changed a note since")
@click.option("--yes", is_flag=True, help="do it without asking")
@click.option("--token-file", type=FILE, help="holds the token of the service; else LORADASH_TOKEN in the environment")
@_annotation_option("interpretations_file")
def import_notes(
    file: Path | None,
    replace: bool,
    by: str | None,
    undo: bool,
    yes: bool,
    token_file: Path | None,
    interpretations_file: str | None,
) -> None:
    """Take the notes of FILE in, JSON or CSV; show first what that does.

    What is here stays: an import adds what is missing, and with --replace takes the file's where both differ. While
    'loradash annotate' runs it goes through that service.
    """
    from annotation_server.open_notes import NotesError, open_notes
    from annotation_server.token import TokenError, read_token

    if undo == (file is not None):
        raise click.UsageError("name a FILE, or --undo the last import")
    settings = _settings()
    target = settings.resolve(interpretations_file or settings.annotations.interpretations_file)
    try:
        with open_notes(target, read_token(token_file)) as notes:
            if file is None:
                _undo_import(notes, target, yes=yes)
            else:
                _import(notes, file, target, replace=replace, by=by, yes=yes)
    except (NotesError, TokenError) as error:
        raise click.ClickException(str(error)) from error


def _import(notes: Notes, file: Path, target: Path, *, replace: bool, by: str | None, yes: bool) -> None:
    from loradash_assets.importing import done_text, file_name, file_text, plan_lines

    take_in = partial(notes.take_in, file_name(file), file_text(file), replace=replace, by=by)
    plan = take_in(dry_run=True)
    click.echo("\n".join([f"{file} into {target}:", *plan_lines(plan)]))
    if not plan.added and not plan.replaced:
        return
    if not yes:
        click.confirm("Import?", abort=True)
    click.echo(done_text(take_in(dry_run=False)))


def _undo_import(notes: Notes, target: Path, *, yes: bool) -> None:
    from annotation_server.import_log import imports
    from loradash_assets.importing import import_text, undone_text

    standing = [imported for imported in imports(target.resolve()).values() if imported is not None]
    if not standing:
        raise click.ClickException(f"{target}: there is no import to undo")
    click.echo(import_text(standing[-1]))
    if not yes:
        click.confirm("Undo this import?", abort=True)
    click.echo(undone_text(notes.undo(standing[-1].id)))


@main.command("export")
@click.argument("file", type=FILE, required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "json-short", "csv"]),
    help="json-short spells keys like L10_gate_proj_positive [default: csv for a FILE of that name, else json]",
)
@_annotation_option("interpretations_file")
def export_notes(file: Path | None, form: Format | None, interpretations_file: str | None) -> None:
    """Write the notes to FILE, or to the standard output."""
    from annotation_server.bulk import exported
    from annotation_server.document import DocumentError, read_interpretations
    from loradash_assets.store import write_atomically

    settings = _settings()
    source = settings.resolve(interpretations_file or settings.annotations.interpretations_file)
    if file is not None and file.resolve() == source.resolve():
        raise click.ClickException(f"{file} is the file of notes itself")
    is_csv = file is not None and file.suffix.lower() == ".csv"
    try:
        content = exported(read_interpretations(source), form or ("csv" if is_csv else "json"))
    except DocumentError as error:
        raise click.ClickException(str(error)) from error
    if file is None:
        click.echo(content, nl=False)
    else:
        write_atomically(file, content)


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="port of the Dagster UI")
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
def ui(port: int, host: str) -> None:
    """Open the Dagster UI on this project.

    It shows the asset graph, its history and the schedule. The history is in .dagster/ and survives a restart.
    """
    from loradash_assets.definitions import PROJECT_VARIABLE
    from loradash_assets.run import history_home
    from loradash_assets.sources import adapter_layers, adapters

    settings = _settings()
    for adapter in adapters(settings):  # what the graph is made of, before Dagster says so less clearly
        adapter_layers(settings, adapter)
    arguments = ["dev", "-m", "loradash_assets.definitions", "--host", host, "--port", str(port)]
    environment = {**os.environ, "DAGSTER_HOME": str(history_home(settings.project))}
    environment[PROJECT_VARIABLE] = str(settings.project)
    # In place of this process, so that whoever stops it stops Dagster, by whatever signal.
    os.execve(sys.executable, [sys.executable, "-m", "dagster", *arguments], environment)  # noqa: S606 (no shell meant)


@main.command()
@click.option(
    "--older-than", type=click.FloatRange(min=0), default=0, show_default=True, help="days; newer results stay"
)
@click.option("--yes", is_flag=True, help="remove without asking")
def clean(older_than: float, yes: bool) -> None:
    """List what the store holds, and remove what no current result is.

    Earlier results make it free to set something back to an earlier value; an interrupted recording goes on from what
    it left. What an asset's latest result is stays whatever its age, also those of other projects that share the store,
    and so does what lies outside the store: dashboard, notes, history.
    """
    from loradash_assets.compute.forecast import bytes_text
    from loradash_assets.inventory import holdings, listing, remove
    from loradash_assets.project import Project
    from loradash_assets.store import StoreInUseError

    store = Project(_settings()).store
    try:
        held = holdings(store)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    now = time.time()
    unused = [each for each in held if not each.assets and now - each.changed >= older_than * SECONDS_PER_DAY]
    click.echo("\n".join(listing(held, unused, now)))
    if not unused:
        return
    if not yes:
        click.confirm(f"Remove the {len(unused)} that are marked?", abort=True)
    try:
        with store.alone():
            removed = [each for each in unused if remove(store, each)]
    except StoreInUseError as error:
        raise click.ClickException(
            "a run is using the store, and may need them: try again when it has finished"
        ) from error
    click.echo(f"Removed {len(removed)} results, {bytes_text(sum(each.bytes for each in removed))}.")


def _run(settings: Settings, targets: list[str] | None, *, upstream: bool = True) -> None:
    from loradash_assets.run import run

    click.echo(run(settings, targets, upstream=upstream))


def _copy(source: Path, target: Path | None) -> None:
    from loradash_assets.store import write_atomically

    if target is not None and target.resolve() != source:
        write_atomically(target, source.read_bytes())
