"""`python -m har_keras.check`: what is in a folder of videos, before training.

Everything is decoded, into the store that training reads, so the time is not
lost. Nothing is deleted or changed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from har_keras import cli
from har_keras.config import Config
from har_keras.ranges import Metavar

if TYPE_CHECKING:
    from har_keras.report.check_page import CheckReport


@dataclass(frozen=True)
class CheckOptions:
    """Decodes every video and reports bad files, duplicates and leakage.

    Names each video that can't be used, with the reason; counts classes and
    splits; finds footage that occurs twice or in two splits. Deletes nothing.
    Ends with code 3 if a class has no usable training video.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos."""
    output: Path = Path("check")
    """Folder for report.html, videos.csv and duplicates.csv."""
    config: Path | None = None
    """TOML file of options; command-line flags take precedence."""
    settings: Annotated[Config, cli.DECODING] = field(default_factory=Config)


def check(
    videos: Path | str,
    output: Path | str | None = None,
    config: Config | None = None,
) -> CheckReport:
    """Decodes a folder of videos and reports on it.

    Args:
        videos: Path or str. The folder.
        output: Path, str or None. Folder for `report.html`, `videos.csv` and
            `duplicates.csv`; None writes nothing.
        config: Config or None. Every option. Defaults to `Config()`.

    Returns:
        A `CheckReport`. A class may have nothing usable in it.

    Raises:
        UsageError: If there is no such folder.
        DataError: If it has no videos, or fewer than two classes.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    from har_keras.manifest.manifest import Manifest
    from har_keras.report.check_page import CheckReport
    from har_keras.store.duplicates import find_duplicates
    from har_keras.store.preparation import decode_all

    config = config or Config()
    manifest = Manifest.from_folder(
        Path(videos),
        val_fraction=config.split.val_fraction,
        test_fraction=config.split.test_fraction,
        seed=config.split.split_seed,
        background=config.split.background,
    )
    store, manifest = decode_all(manifest, config.clip, config.store)
    duplicates = find_duplicates(store, manifest)
    report = CheckReport(manifest.root.name, manifest, store, duplicates)
    if output is not None:
        report.write(Path(output))
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, checks and prints what was found."""

    def verb() -> None:
        options = cli.parse(CheckOptions, argv, verb="check")
        report = check(options.videos, options.output, options.settings)
        print(report.text())
        print(f"Report       {options.output / 'report.html'}")
        _require(report, options.settings.split.strict)

    return cli.run_verb(verb)


def _require(report: CheckReport, strict: bool) -> None:
    """Raises `DataError` if the folder can't be trained on as it is."""
    from har_keras.store.duplicates import report_leaks
    from har_keras.store.preparation import require_usable

    require_usable(report.manifest)
    report_leaks(report.store, report.manifest, strict=strict)


if __name__ == "__main__":
    sys.exit(main())
