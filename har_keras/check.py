"""`har-keras check`: what is in a folder of videos, before training.

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
from har_keras.terminal import printable, shell_word

if TYPE_CHECKING:
    from har_keras.manifest.entries import FolderListing
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
    to: Path | None = None
    """Also write what the folder's annotations say as a manifest.csv, which
    is read when it is put into the folder. Not over a file that is there."""
    config: Path | None = None
    """TOML file of options; command-line flags take precedence."""
    settings: Annotated[Config, cli.DECODING] = field(default_factory=Config)


def check(
    videos: Path | str,
    output: Path | str | None = None,
    config: Config | None = None,
    *,
    to: Path | str | None = None,
) -> CheckReport:
    """Decodes a folder of videos and reports on it.

    Args:
        videos: Path or str. The folder.
        output: Path, str or None. Folder for `report.html`, `videos.csv` and
            `duplicates.csv`; None writes nothing.
        config: Config or None. Every option. Defaults to `Config()`.
        to: Path, str or None. File for a `manifest.csv` of the videos, written
            before they are decoded.

    Returns:
        A `CheckReport`. A class may have nothing usable in it.

    Raises:
        UsageError: If there is no such folder, or `to` exists.
        DataError: If it has no videos, or fewer than two classes.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    from har_keras.manifest.formats.writing import require_new
    from har_keras.manifest.manifest import Manifest
    from har_keras.report.check_page import CheckReport
    from har_keras.store.preparation import decode_all
    from har_keras.store.scenes import group_by_look

    config = config or Config()
    if to is not None:
        require_new(Path(to))
    manifest = Manifest.from_folder(
        Path(videos),
        val_fraction=config.split.val_fraction,
        test_fraction=config.split.test_fraction,
        seed=config.split.split_seed,
        group_by=config.split.group_by,
        background=config.split.background,
    )
    if to is not None:
        write_listing(manifest.listing, Path(to))
    store, manifest = decode_all(manifest, config.clip, config.store)
    found = group_by_look(store, manifest)
    report = CheckReport(
        manifest.root.name,
        found.manifest,
        store,
        found.duplicates,
        found.scenes,
    )
    if output is not None:
        report.write(Path(output))
    return report


def write_listing(listing: FolderListing, file: Path) -> None:
    """Writes what describes the videos of a folder as a `manifest.csv`.

    Args:
        listing: FolderListing. The videos; paths start from their folder.
        file: Path. The new file.

    Raises:
        UsageError: If the file exists.
        EnvironmentFault: If it can't be written.
    """
    from har_keras.manifest.formats.writing import (
        manifest_text,
        require_new,
        rows_of,
        write_new,
    )

    require_new(file)
    write_new(file, manifest_text(rows_of(listing.videos)))


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, checks and prints what was found."""

    def verb() -> None:
        options = cli.parse(CheckOptions, argv, verb="check")
        report = check(
            options.videos, options.output, options.settings, to=options.to
        )
        print(report.text())
        page = options.output / "report.html"
        print(f"Report       {printable(page)}")
        if options.to is not None:
            where = printable(f"{options.to}{_where(options)}")
            print(f"Manifest     {where}")
        _require(report, options.settings.split.strict)
        videos = printable(shell_word(options.videos))
        print(f"Next         har-keras train {videos} --recipe transfer")

    return cli.run_verb(verb)


def _where(options: CheckOptions) -> str:
    """Returns where a manifest must be put to be read."""
    assert options.to is not None
    if options.to.resolve() == options.videos.resolve() / "manifest.csv":
        return ""
    return f" (to be read: {options.videos / 'manifest.csv'})"


def _require(report: CheckReport, strict: bool) -> None:
    """Raises `DataError` if the folder can't be trained on as it is."""
    from har_keras.store.duplicates import report_leaks
    from har_keras.store.preparation import require_usable

    require_usable(report.manifest)
    report_leaks(report.duplicates, report.manifest, strict=strict)


if __name__ == "__main__":
    sys.exit(main())
