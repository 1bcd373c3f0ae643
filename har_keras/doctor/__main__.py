"""`python -m har_keras.doctor`: what works on this machine."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from har_keras import cli
from har_keras.errors import EnvironmentFault

if TYPE_CHECKING:
    from har_keras.doctor.health import Finding

_WIDTH = 79
_TEXT_COLUMN = 18


@dataclass(frozen=True)
class DoctorOptions:
    """Looks at this machine and says what works and how to mend the rest.

    Each line begins with ok, look (works, but see) or bad. Ends with code 4
    if anything is bad. Nothing is changed, and no key is shown.
    """

    backends: bool = True
    """Start each installed backend, some seconds each, to see it compute."""
    run_dir: Path = Path("runs")
    """Folder in which runs will be made."""
    store_dir: Path | None = None
    """Folder of the frame store. Default: har_keras in the user's cache."""


def doctor(
    run_dir: Path = Path("runs"),
    store_dir: Path | None = None,
    *,
    backends: bool = True,
) -> list[Finding]:
    """Looks at packages, backends, devices, ffmpeg, disk and W&B.

    Args:
        run_dir: Path. Folder in which runs will be made.
        store_dir: Path or None. Folder of the frame store. Defaults to the
            user's cache.
        backends: bool. Whether each installed backend is started.

    Returns:
        A `Finding` for each thing that was looked at.
    """
    from har_keras.doctor import health
    from har_keras.doctor.backends import BACKENDS
    from har_keras.doctor.backends import backends as started
    from har_keras.progress import ProgressBar

    findings = [*health.software()]
    if backends:
        with ProgressBar("Starting backends", len(BACKENDS)) as bar:
            findings += started(bar.advance)
    findings += health.ffmpeg()
    findings += health.room(run_dir, store_dir)
    findings += health.wandb()
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, looks around and prints what was found."""

    def verb() -> None:
        options = cli.parse(DoctorOptions, argv, verb="doctor")
        findings = doctor(
            options.run_dir, options.store_dir, backends=options.backends
        )
        for finding in findings:
            print(_line(finding))
        _require_health(findings)

    return cli.run_verb(verb)


def _line(finding: Finding) -> str:
    """Returns a finding for a terminal, its remedy on a line of its own."""
    texts = [finding.text]
    texts += [f"-> {finding.mend}"] if finding.mend else []
    lines = [
        line
        for text in texts
        for line in textwrap.wrap(
            text,
            _WIDTH - _TEXT_COLUMN,
            break_on_hyphens=False,
            break_long_words=False,  # paths are there to be copied
        )
    ]
    first = f"{finding.state:4}  {finding.topic:11} "
    return first + ("\n" + " " * _TEXT_COLUMN).join(lines)


def _require_health(findings: Sequence[Finding]) -> None:
    bad = [finding.topic for finding in findings if finding.state == "bad"]
    if bad:
        raise EnvironmentFault(
            f"This machine is not ready: {', '.join(bad)}. The lines that "
            "begin with bad say how to mend it."
        )


if __name__ == "__main__":
    sys.exit(main())
