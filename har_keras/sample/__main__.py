"""`har-keras sample`: generates the sample videos."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.terminal import printable


@dataclass(frozen=True)
class SampleOptions:
    """Generates labeled videos of people at the gym, walking and at work."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Output folder, new or empty."""
    num_videos: int = 300
    """Number of videos per class; at least 3, one for each split."""
    seed: int = 0
    """Random seed; the same seed gives the same videos."""
    by_action: bool = False
    """Use the twelve actions (squat, typing, ...) as classes, not three."""
    untrimmed: bool = False
    """Join the actions of each person into one longer video, with the times of
    each as its labels (start and end in manifest.csv)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the verb with flags from the shell."""

    def verb() -> None:
        options = cli.parse(SampleOptions, argv, verb="sample")
        from har_keras.sample.samples import sample

        sample(
            options.folder,
            num_videos=options.num_videos,
            seed=options.seed,
            by_action=options.by_action,
            untrimmed=options.untrimmed,
        )
        print(f"Wrote the sample videos to {printable(options.folder)}.")

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
