"""Cross-validation folds: every video is in the test split of exactly one.

The manifest's own test videos are in no fold, so that a model selected by
cross-validation can still be tested on them.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

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


def drawn(
    manifest: Manifest,
    per_class: int,
    *,
    val_fraction: float = 0.15,
    seed: int = 0,
) -> Manifest:
    """Draws some training videos of each class, by group.

    Args:
        manifest: Manifest. Its "test" videos are kept as they are.
        per_class: int. Videos of each class for training and validation
            together: those of groups in a random order, of the last one as
            many as are missing.
        val_fraction: float. Share of them that is used for validation.
        seed: int. Seed of the draw.

    Returns:
        A manifest of the drawn videos and those of the test split.

    Raises:
        UsageError: If fewer than two videos of each class are asked for.
        DataError: If a class has fewer videos.

    Example:

    >>> from pathlib import Path
    >>> videos = [
    ...     Video(f"{name}/{i}.mp4", name, "train", group=f"{name}{i // 3}")
    ...     for name in ("gym", "walk") for i in range(9)
    ... ]
    >>> found = drawn(Manifest(Path(), ("gym", "walk"), tuple(videos)), 4)
    >>> [len({v.group for v in found.videos if v.class_name == name})
    ...  for name in ("gym", "walk")]
    [2, 2]
    """
    if per_class < 2:
        raise UsageError(
            f"--videos-per-class must be at least 2. Received: {per_class}."
        )
    pool = [video for video in manifest.videos if video.split != "test"]
    groups = sorted({video.group for video in pool})
    order = np.random.default_rng(seed).permutation(len(groups))
    rank = {groups[place]: row for row, place in enumerate(order)}
    chosen: list[Video] = []
    for name in manifest.class_names:
        mine = [video for video in pool if video.class_name == name]
        if len(mine) < per_class:
            raise DataError(
                f"Class '{name}' has {len(mine)} videos for training, fewer "
                f"than the {per_class} of --videos-per-class."
            )
        chosen += sorted(mine, key=lambda v: rank[v.group])[:per_class]
    splits = _divided(chosen, {"val": val_fraction}, seed)
    tested = manifest.split("test")
    return manifest.with_videos([*_in_splits(chosen, splits), *tested])


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
