"""`python -m har_keras.sample`: draws the sample videos."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.errors import UsageError


@dataclass(frozen=True)
class SampleOptions:
    """Draws labelled videos of people at the gym, walking and at work."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where to put them; a new or empty folder."""
    num_videos: int = 400
    """Videos of each class; at least 3, one for each split."""
    seed: int = 0
    """Seed of the drawing: the same number, the same videos."""
    by_action: bool = False
    """Sort them by the twelve actions (squat, typing, ...), not by class."""


def sample(
    folder: Path,
    *,
    num_videos: int = 400,
    seed: int = 0,
    by_action: bool = False,
) -> Path:
    """Draws labelled sample videos into a folder that `train` can read.

    Args:
        folder: Path. A new or empty folder.
        num_videos: int. Videos of each class, at least 3. Defaults to `400`.
        seed: int. The same seed gives the same videos. Defaults to `0`.
        by_action: bool. Whether the twelve actions are the classes, instead
            of the three kinds of them. Defaults to `False`.

    Returns:
        `folder`.

    Raises:
        UsageError: If the folder has something in it, or a number is wrong.
        EnvironmentFault: If the disk is full.
    """
    if num_videos < 3:
        raise UsageError(
            "--num-videos must be at least 3, so that train, val and test "
            f"have a video of each class. Received: {num_videos}."
        )
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more. Received: {seed}.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(
            f"'{folder}' is there already and is not an empty folder. Choose "
            "a new one, or remove it."
        )
    from har_keras.progress import ProgressBar
    from har_keras.sample.samples import CLASS_NAMES, draw_samples

    with ProgressBar("Drawing", num_videos * len(CLASS_NAMES)) as bar:
        return draw_samples(
            folder,
            videos_per_class=num_videos,
            seed=seed,
            by_action=by_action,
            progress=bar.advance,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb with flags from the shell."""

    def verb() -> None:
        options = cli.parse(SampleOptions, argv, verb="sample")
        sample(
            options.folder,
            num_videos=options.num_videos,
            seed=options.seed,
            by_action=options.by_action,
        )
        print(f"Drew the sample videos into {options.folder}.")

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
