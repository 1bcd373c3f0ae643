"""`har-keras compare`: runs side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.errors import UsageError
from har_keras.ranges import Metavar
from har_keras.terminal import printable


@dataclass(frozen=True)
class CompareOptions:
    """Compares runs on the test videos that they share.

    Says what differs in options and data, and whether a difference in accuracy
    is real.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, Metavar("RUN RUN")]
    """Folders of two or more runs; the others are held against the first."""
    output: Path = Path("compare")
    """Folder of the page and of comparison.json."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags, compares the runs and prints a table."""

    def verb() -> None:
        options = cli.parse(CompareOptions, argv, verb="compare")
        if len(options.runs) < 2:
            raise UsageError(
                "compare needs two runs or more. Received: "
                f"{len(options.runs)}."
            )
        from har_keras.compare.comparison import compare
        from har_keras.compare.page import comparison_text, write_comparison

        found = compare(options.runs)
        print(comparison_text(found))
        page = write_comparison(found, options.output)
        print(f"Page: {printable(page)}")

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
