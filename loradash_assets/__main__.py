"""`python -m loradash_assets`: the command line, where the script `loradash` is not on the PATH."""

from __future__ import annotations

from loradash_assets.cli import main

if __name__ == "__main__":
    main(prog_name="loradash")
