"""Samples that show the same footage, and those of the same scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from har_keras.config import Config
from har_keras.manifest.groups import join_groups, merge_groups
from har_keras.store.duplicates import find_duplicates
from har_keras.store.scenes import find_scenes
from har_keras.suggestions.samples import (
    DecodedSamples,
    Progress,
    Sample,
    decode_samples,
    transfer_config,
)


def copies(
    samples: Sequence[Sample],
    store_dir: Path | None,
    *,
    config: Config | None = None,
    progress: Progress | None = None,
) -> list[tuple[int, int, float]]:
    """Finds samples that show the same or nearly the same footage.

    By the motion in them, as `har_keras.check` does: re-encoded, mirrored,
    cropped and faster copies are found, too. Parts of one file are no copies
    of each other; of a file, the first part stands for all.

    Args:
        samples: Sequence of Sample.
        store_dir: Path or None. The store, which has the frames afterwards.
            Defaults to that of the user.
        config: Config or None. That of the features. Defaults to
            `transfer_config`.
        progress: Callable or None. As for `decode_samples`.

    Returns:
        list of tuples: two samples, the earlier first, and how much their
        motion agrees, 1 for equal files; the most alike first.

    Raises:
        EnvironmentFault: If the disk is full or can't be written to.
    """
    chosen = config or transfer_config(store_dir)
    decoded = decode_samples(samples, chosen, progress)
    number: dict[str, int] = {}
    for index, video in enumerate(decoded.videos):
        number.setdefault(video.name, index)
    found = [
        (number[pair.first.name], number[pair.second.name], pair.agreement)
        for pair in find_duplicates(decoded.store, decoded.manifest)
    ]
    return [(min(i, j), max(i, j), float(value)) for i, j, value in found]


def scene_groups(
    samples: Sequence[Sample],
    groups: Sequence[str],
    store_dir: Path | None,
    *,
    config: Config | None = None,
    progress: Progress | None = None,
) -> list[str]:
    """Returns groups in which the parts of a file, and scenes, are whole.

    Args:
        samples: Sequence of Sample.
        groups: Sequence of str. The group of each; "" is not known, and
            becomes the file, or the scene where the same camera saw others.
        store_dir: Path or None. As for `copies`.
        config: Config or None. As for `copies`.
        progress: Callable or None. As for `decode_samples`.

    Returns:
        list of str, one for each sample.
    """
    chosen = config or transfer_config(store_dir)
    decoded = decode_samples(samples, chosen, progress)
    files = [video.file for video in decoded.videos]
    named = [group or file for group, file in zip(groups, files, strict=True)]
    joined = join_groups(named, files)
    known = {joined[i] for i, group in enumerate(groups) if group}
    pairs: list[tuple[str, str]] = []
    for members in _scenes(decoded):
        # Groups that were chosen stay apart; others join the first of them.
        mine = sorted(
            {joined[i] for i in members},
            key=lambda group: (group not in known, group),
        )
        pairs += [(mine[0], group) for group in mine[1:] if group not in known]
    return merge_groups(joined, pairs)


def _scenes(decoded: DecodedSamples) -> list[list[int]]:
    """Returns the samples of each scene, and of each file outside of scenes."""
    same: dict[str, list[int]] = {}
    for index in decoded.usable:
        same.setdefault(decoded.videos[index].sha256, []).append(index)
    hashes = [*same]
    scenes = find_scenes(decoded.store.thumbnails(hashes), hashes)
    together = [
        [i for k in members for i in same.pop(hashes[k])] for members in scenes
    ]
    return [*together, *same.values()]
