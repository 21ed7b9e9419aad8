"""`python -m annotation_server`: the service without the rest of the project."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from annotation_server.server import (
    DEFAULT_DASHBOARD,
    DEFAULT_FILE,
    DEFAULT_HOST,
    DEFAULT_PORT,
    CannotServe,
    Door,
    serve,
)
from annotation_server.token import VARIABLE


def main(arguments: list[str] | None = None) -> int:
    """Parses the command line and serves; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        door = Door(options.host, options.port, options.token_file, options.allow_host)
        serve(options.interpretations_file, options.dashboard, door)
    except CannotServe as error:
        print(f"annotation_server: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m annotation_server",
        description="Serves the dashboard on this machine and saves what you write on it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--host", default=DEFAULT_HOST, help="any but a loopback address needs a token")
    parser.add_argument(
        "--token-file", type=Path, help=f"holds the token that the service asks for; else {VARIABLE} in the environment"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="also answer under this name; needs a token"
    )
    parser.add_argument("--interpretations-file", type=Path, default=DEFAULT_FILE, help="the file that holds the notes")
    parser.add_argument("--dashboard", type=Path, default=DEFAULT_DASHBOARD, help="the page to serve at /")
    return parser


if __name__ == "__main__":
    sys.exit(main())
