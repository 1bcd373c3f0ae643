"""Cross-validation folds: every video is in the test split of exactly one.

The manifest's own test videos are in no fold, so that a model selected by
cross-validation can still be tested on them.
"""

import dataclasses
from collections.abc import Sequence

from har_keras.errors import DataError, UsageError
from har_keras.manifest.groups import split_groups
from har_keras.manifest.manifest import Manifest, Video


def folds(
    manifest: Manifest,
    num_folds: int,
    *,
    val_fraction: float = 0.15,
    seed: int = 0,
) -> list[Manifest]:
    """Splits the training and validation videos into folds, by group.

    Args:
        manifest: Manifest. Its "test" videos are in no fold.
        num_folds: int. At least 2.
        val_fraction: float. Share of the remaining videos of each fold that
            is used for validation.
        seed: int. Seed of the random assignment.

    Returns:
        A manifest for each fold, whose "test" videos are the fold's and whose
        "train" and "val" videos are all others.

    Raises:
        UsageError: If there are fewer than two folds.
        DataError: If there are fewer groups than folds.

    Example:

    >>> from pathlib import Path
    >>> videos = [
    ...     Video(f"{name}/{i}.mp4", name, "train", group=f"{name}{i}")
    ...     for name in ("gym", "walk") for i in range(6)
    ... ]
    >>> parts = folds(Manifest(Path(), ("gym", "walk"), tuple(videos)), 3)
    >>> [len(part.split("test")) for part in parts]
    [4, 4, 4]

    Reference:
        - [Stone, 1974](https://doi.org/10.1111/j.2517-6161.1974.tb00994.x).
    """
    pool = [video for video in manifest.videos if video.split != "test"]
    num_groups = len({video.group for video in pool})
    if num_folds < 2:
        raise UsageError(f"--folds must be at least 2. Received: {num_folds}.")
    if num_groups < num_folds:
        raise DataError(
            f"{num_folds} folds need as many groups of videos; there are "
            f"{num_groups}. Lower --folds."
        )
    # `split_groups` calls the remainder "train"; here it is the first fold.
    names = ["train", *map(str, range(1, num_folds))]
    shares = {name: 1 / num_folds for name in names[1:]}
    chosen = _divided(pool, shares, seed)
    parts = []
    for name in names:
        tested = [
            v for v, fold in zip(pool, chosen, strict=True) if fold == name
        ]
        rest = [v for v, fold in zip(pool, chosen, strict=True) if fold != name]
        splits = _divided(rest, {"val": val_fraction}, seed)
        videos = [
            *_in_splits(rest, splits),
            *_in_splits(tested, ["test"] * len(tested)),
        ]
        parts.append(manifest.with_videos(videos))
    return parts


def _divided(
    videos: Sequence[Video], shares: dict[str, float], seed: int
) -> list[str]:
    groups = [video.group for video in videos]
    class_names = [video.class_name for video in videos]
    return split_groups(groups, class_names, shares, seed=seed)


def _in_splits(videos: Sequence[Video], splits: Sequence[str]) -> list[Video]:
    return [
        dataclasses.replace(video, split=split)
        for video, split in zip(videos, splits, strict=True)
    ]
