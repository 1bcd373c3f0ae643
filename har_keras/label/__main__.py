"""`har-keras label`: from a heap of videos to labels, on a page."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.errors import UsageError
from har_keras.manifest.formats import FormatName
from har_keras.ranges import PORT, Metavar
from har_keras.terminal import printable
from har_keras.web.sockets import require_page_packages


@dataclass(frozen=True)
class LabelOptions:
    """Shows a folder of videos on a page: look, cut, name, mend, train.

    Needs the extra app. The page is only reachable from this machine, and
    nothing is uploaded. Labels are written to VIDEOS/manifest.csv at every
    change; videos are never moved, renamed or deleted. With --to, the labels
    are written for another program, and no page is shown.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos, sorted or not."""
    run: Annotated[Path | None, Metavar("RUN")] = None
    """A run whose answers are the suggestions. Default: a backbone and the
    labels alone."""
    backbone: Annotated[str, Metavar("NAME")] = ""
    """Pretrained network for suggestions and training. Default: that of the
    recipe transfer."""
    by: Annotated[str, Metavar("NAME")] = ""
    """Who labels, for the column labelled_by. Default: your user name."""
    port: Annotated[int, PORT] = 7870
    """Port of the page; 0 chooses a free one."""
    open: bool = True
    """Open the page in the browser."""
    unsorted: bool = False
    """Take no class from the names of folders, nor from annotations. Once
    there is a manifest.csv, that alone counts."""
    runs: Path = Path("runs")
    """Folder for the runs that the page trains."""
    config: Path | None = None
    """TOML file of options for these trainings. Default: the recipe transfer
    where its backbone is there, else small-data."""
    store_dir: Path | None = None
    """Folder for frames, features and thumbnails. Default: the user's cache
    folder."""
    to: Annotated[Path | None, Metavar("PATH")] = None
    """Write the labels to this new file; of CVAT and ELAN, to this folder a
    file for each video."""
    format: FormatName = "manifest"
    """Format for --to."""


def label(options: LabelOptions) -> None:
    """Serves the page of a folder until Ctrl-C, or writes its labels.

    Args:
        options: LabelOptions. The folder, and how it is shown.

    Raises:
        UsageError: If there is no such folder or run, the port is taken, or
            `to` exists.
        DataError: If what describes the videos can't be read.
        EnvironmentFault: If a package of the extra is missing.
    """
    from har_keras.manifest.entries import require_folder
    from har_keras.run import Run

    root = require_folder(options.videos)
    if options.to is not None:
        _write(options, root)
        return
    require_page_packages()
    run = Run.open(options.run).path.resolve() if options.run else None
    from har_keras.label.server import serve_page
    from har_keras.label.session import Session

    session = Session(
        root,
        by=options.by.strip() or _user(),
        run=run,
        backbone=options.backbone,
        runs=options.runs,
        store_dir=options.store_dir,
        unsorted=options.unsorted,
        train_options=_train_options(options),
    )
    if not session.files:
        raise UsageError(
            f"There is no video in '{root}'. Give a folder with videos in it, "
            "sorted or not."
        )
    serve_page(session, options.port, opens=options.open)


def _train_options(options: LabelOptions) -> tuple[str, ...]:
    if options.config is None:
        return ()
    if not options.config.is_file():
        raise UsageError(f"There is no file '{options.config}' for --config.")
    return ("--config", str(options.config.resolve()))


def _write(options: LabelOptions, root: Path) -> None:
    from har_keras.label.labels import Labels
    from har_keras.manifest.formats.writing import write_annotations

    assert options.to is not None
    rows = Labels(root, unsorted=options.unsorted).rows
    videos = [x.found() for x in rows if x.class_name and not x.left_out]
    files = write_annotations(videos, root, options.to, options.format)
    for file in files[:10]:
        print(printable(file))
    if len(files) > 10:
        print(f"and {len(files) - 10} more")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name in the system
        return "me"


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and serves the page until Ctrl-C."""

    def verb() -> None:
        label(cli.parse(LabelOptions, argv, verb="label"))

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
