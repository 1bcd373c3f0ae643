"""`har-keras doctor`: checks this machine and installation."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from har_keras import cli
from har_keras.errors import EnvironmentFault
from har_keras.terminal import printable

if TYPE_CHECKING:
    from har_keras.doctor.finding import Finding

_WIDTH = 79
_TEXT_COLUMN = 19  # the longest topic is [pretrained]


@dataclass(frozen=True)
class DoctorOptions:
    """Checks this machine and installation, and says how to fix problems.

    Each line begins with ok, look (works, with a caveat) or bad. The exit code
    is 4 if anything is bad. Nothing is changed, and no key is printed.
    """

    backends: bool = True
    """Start each installed backend, which takes some seconds each."""
    run_dir: Path = Path("runs")
    """Parent folder of future runs."""
    store_dir: Path | None = None
    """Folder of the frame store. Default: har_keras in the user's cache."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags, runs the checks and prints the findings."""

    def verb() -> None:
        options = cli.parse(DoctorOptions, argv, verb="doctor")
        from har_keras.doctor.health import doctor

        findings = doctor(
            options.run_dir, options.store_dir, backends=options.backends
        )
        for finding in findings:
            print(_line(finding))
        _require_health(findings)

    return cli.run_verb(verb)


def _line(finding: Finding) -> str:
    """Returns a finding for a terminal, the remedy on its own line."""
    texts = [finding.text]
    texts += [f"-> {finding.mend}"] if finding.mend else []
    lines = [
        printable(line)
        for text in texts
        for line in textwrap.wrap(
            text,
            _WIDTH - _TEXT_COLUMN,
            break_on_hyphens=False,
            break_long_words=False,  # so that paths can be copied
        )
    ]
    first = f"{finding.state:4}  {finding.topic:12} "
    return first + ("\n" + " " * _TEXT_COLUMN).join(lines)


def _require_health(findings: Sequence[Finding]) -> None:
    bad = [finding.topic for finding in findings if finding.state == "bad"]
    if bad:
        raise EnvironmentFault(
            f"This machine is not ready: {', '.join(bad)}. See the remedies "
            "in the lines that begin with bad."
        )


if __name__ == "__main__":
    sys.exit(main())
