"""Finds near-duplicate videos by the motion in them.

Appearance is not enough: two people filmed one after the other by a static
camera look alike. So windows of a second are searched whose motion goes on in
the same way (`motion`), among all videos at once (`neighbors`); where one is
found, the two videos are laid over each other (`alignment`). Time and memory
grow with the number of seconds of video, not with its square.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from har_keras.errors import DataError
from har_keras.manifest.manifest import Manifest, Video
from har_keras.manifest.split_names import SPLITS
from har_keras.progress import ProgressBar
from har_keras.store.alignment import (
    Alignment,
    Pair,
    Signals,
    is_same_footage,
)
from har_keras.store.motion import RATES, Footage, signals, windows
from har_keras.store.neighbors import similar_pairs
from har_keras.store.shards import THUMBNAIL_STRIDE, Thumbnails
from har_keras.store.store import Store

logger = logging.getLogger(__name__)

Floats = NDArray[np.floating[Any]]

# Windows that are less alike are not of the same footage.
_LIKELY_WINDOW = 0.6
_NEIGHBORS = 3
_STEPS = (1, 2)
# Signals along the whole overlap, before and after the alignment is refined.
_LIKELY_SIGNALS = 0.4
_SAME_SIGNALS = 0.55
# Of a video, in each split: alignments whose signals are compared, pairs that
# are refined, and pairs whose pictures are compared.
_MOST_SHARED, _MOST_LIKELY, _MOST_COPIES = 32, 12, 3
# Of 255: with less change nothing moves, and only pictures can be compared.
_LEAST_CHANGE = 0.5
_LEAST_CONTRAST = 4.0
_STILL_LOOK = 0.99
# Frames that are compared at once.
_BLOCK = 4096
_NUM_NAMED = 3  # leaks, on the terminal

_SAME_FILE = "same file"
_SAME = "the same or nearly the same footage"


@dataclass(frozen=True)
class Duplicate:
    """A pair of videos with the same footage.

    Args:
        first: Video. The one listed first.
        second: Video.
        kind: str. "same file", or a description of the same or nearly the
            same footage.
        agreement: float. Motion agreement, at most 1.
        shift_seconds: float. Time in the first at which the second begins.
    """

    first: Video
    second: Video
    kind: str
    agreement: float = 1.0
    shift_seconds: float = 0.0

    @property
    def is_leak(self) -> bool:
        """Whether the two are in different splits."""
        return self.first.split != self.second.split

    def __str__(self) -> str:
        return (
            f"'{self.first.file}' ({self.first.split}) and "
            f"'{self.second.file}' ({self.second.split}): {self.kind}"
        )


def find_duplicates(
    store: Store,
    manifest: Manifest,
    thumbnails: Mapping[str, Thumbnails] | None = None,
) -> list[Duplicate]:
    """Finds videos with the same content or the same footage.

    Nothing is decoded: the store has thumbnails of every video. Of n files
    with the same content, each is paired with the first.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos; those that can't be used are left out.
        thumbnails: Mapping or None. Those of the videos by hash, where they
            were read already.

    Returns:
        A list of `Duplicate`, by decreasing agreement.
    """
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video in manifest.videos:
        if video.kept_frames and video.sha256 in store:
            by_content[video.sha256].append(video)
    found = [
        Duplicate(same[0], other, _SAME_FILE)
        for same in by_content.values()
        for other in _one_of_each_file(same)[1:]
    ]
    copies = [_one_of_each_split(same) for same in by_content.values()]
    hashes, rate = [*by_content], store.spec.fps / THUMBNAIL_STRIDE
    read = thumbnails or store.thumbnails(hashes)
    shown = [read[name] for name in hashes]
    splits = [{video.split for video in same} for same in copies]
    for i, j, kind, score, shift in _same_footage(shown, rate, splits):
        pairs = list(product(copies[i], copies[j]))
        crossing = [pair for pair in pairs if pair[0].split != pair[1].split]
        found += [
            Duplicate(first, second, kind, score, shift)
            for first, second in crossing or pairs[:1]
        ]
    return sorted(found, key=lambda pair: -pair.agreement)


def _one_of_each_file(videos: Sequence[Video]) -> list[Video]:
    """Returns one part of each file and split: its others are no copies."""
    first: dict[tuple[str, str], Video] = {}
    for video in videos:
        first.setdefault((video.file, video.split), video)
    return list(first.values())


def _one_of_each_split(videos: Sequence[Video]) -> list[Video]:
    return list({video.split: video for video in reversed(videos)}.values())


def updated(
    duplicates: Iterable[Duplicate], manifest: Manifest
) -> list[Duplicate]:
    """Returns pairs with the groups and splits that their videos have now.

    Args:
        duplicates: Iterable of Duplicate.
        manifest: Manifest. It has their videos.
    """
    videos = {video.name: video for video in manifest.videos}
    return [
        dataclasses.replace(
            pair,
            first=videos[pair.first.name],
            second=videos[pair.second.name],
        )
        for pair in duplicates
    ]


def report_leaks(
    duplicates: Iterable[Duplicate], manifest: Manifest, *, strict: bool = False
) -> list[Duplicate]:
    """Logs a warning for footage and groups that are in several splits.

    Three of each are named, and how many more there are: they are to be seen in
    the list of `check`.

    Args:
        duplicates: Iterable of Duplicate. As `find_duplicates` returns them.
        manifest: Manifest. The videos.
        strict: bool. Whether a leak is an error. Defaults to `False`.

    Returns:
        The leaks.

    Raises:
        DataError: If there is a leak and `strict` is set.
    """
    leaks = [pair for pair in duplicates if pair.is_leak]
    groups = leaking_groups(manifest)
    sure = sorted(leaks, key=_importance)
    _warn_of_some(
        [
            # Appearance and motion can coincide by chance; equal bytes can't.
            f"A {'' if pair.kind == _SAME_FILE else 'likely '}leak between "
            f"splits: {pair}."
            for pair in sure
        ],
        "leaks",
    )
    _warn_of_some(
        [
            f"Group '{group}' is in {' and '.join(splits)}."
            for group, splits in groups.items()
        ],
        "groups in several splits",
    )
    if strict and (leaks or groups):
        first = str(leaks[0]) if leaks else f"group '{next(iter(groups))}'"
        raise DataError(
            f"The split leaks in {len(leaks) + len(groups)} places, such as "
            f"{first}. Put related videos into one split, or leave out "
            "--strict."
        )
    return leaks


def _importance(pair: Duplicate) -> tuple[bool, bool]:
    """Puts equal files first, and then what makes the test flatter."""
    splits = {pair.first.split, pair.second.split}
    return pair.kind != _SAME_FILE, "test" not in splits


def _warn_of_some(sentences: Sequence[str], kind: str) -> None:
    for sentence in sentences[:_NUM_NAMED]:
        logger.warning("%s", sentence)
    if len(sentences) > _NUM_NAMED:
        logger.warning(
            "And %d more %s. har-keras check lists all of them.",
            len(sentences) - _NUM_NAMED,
            kind,
        )


def leaking_groups(manifest: Manifest) -> dict[str, list[str]]:
    """Returns groups that are in several splits, with the splits' names.

    Example:

    >>> from pathlib import Path
    >>> one = Video("1.mp4", "a", "train", "person01")
    >>> two = Video("2.mp4", "a", "test", "person01")
    >>> leaking_groups(Manifest(Path("."), ("a",), (one, two)))
    {'person01': ['train', 'test']}
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for video in manifest.videos:
        splits[video.group].add(video.split)
    return {
        group: [name for name in SPLITS if name in names]
        for group, names in sorted(splits.items())
        if len(names) > 1
    }


_Match = tuple[int, int, str, float, float]


def _same_footage(
    thumbnails: Sequence[Thumbnails],
    rate: float,
    splits: Sequence[Collection[str]],
) -> Iterator[_Match]:
    """Yields pairs of videos: kind, agreement and shift in seconds."""
    if not thumbnails:
        return
    videos = [Footage(some, signals(some, rate), rate) for some in thumbnails]
    yield from _same_stills(videos)
    likely = _nearest(_likely_pairs(videos), splits, _MOST_SHARED)
    compared = Signals(videos)
    with ProgressBar("Comparing videos", total=len(likely)) as bar:
        near = []
        for pair in compared.agreements(likely):
            bar.advance()
            if pair.value >= _LIKELY_SIGNALS:
                near.append(pair)
    some = _nearest(_best_of_each(near), splits, _MOST_LIKELY)
    refined = compared.refined(some)
    close = [pair for pair in refined if pair.value >= _SAME_SIGNALS]
    for pair in _nearest(close, splits, _MOST_COPIES):
        one, other = videos[pair.first], videos[pair.second]
        if score := is_same_footage(one, other, pair.found):
            start = pair.found.start / rate
            yield pair.first, pair.second, _kind(pair.found), score, start


def _best_of_each(pairs: Iterable[Pair]) -> list[Pair]:
    """Returns the best alignment of each two videos."""
    best: dict[tuple[int, int], Pair] = {}
    for pair in sorted(pairs, key=lambda pair: -pair.value):
        best.setdefault((pair.first, pair.second), pair)
    return list(best.values())


def _nearest(
    pairs: Iterable[Pair], splits: Sequence[Collection[str]], most: int
) -> list[Pair]:
    """Returns the pairs that are among the best of one of their videos.

    The best in each split count, so that no leak is hidden by copies within a
    split. In a room with a fixed camera any two videos are a little alike, and
    comparing all pairs would take quadratic time.
    """
    taken: Counter[tuple[int, str]] = Counter()
    kept = []
    for pair in sorted(pairs, key=lambda pair: -pair.value):
        sides = [
            (here, split)
            for here, there in (
                (pair.first, pair.second),
                (pair.second, pair.first),
            )
            for split in splits[there]
        ]
        if any(taken[side] < most for side in sides):
            kept.append(pair)
        taken.update(sides)
    return kept


def _kind(found: Alignment) -> str:
    kind = f"{_SAME}, mirrored" if found.mirrored else _SAME
    if found.is_faster:
        kind += f", {found.speed:.2g} times as fast"
    return kind


def _likely_pairs(videos: Sequence[Footage]) -> list[Pair]:
    """Finds where two videos share windows; the value is how many."""
    cut = [
        (owner, length, windows(video.signals, video.rate, length, step))
        for owner, video in enumerate(videos)
        for length, step in zip(RATES, _STEPS, strict=True)
    ]
    counts = [len(found.starts) for _, _, found in cut]
    if not sum(counts):
        return []
    owners = np.repeat([owner for owner, _, _ in cut], counts)
    lengths = np.repeat([length for _, length, _ in cut], counts)
    starts = np.concatenate([found.starts for _, _, found in cut])
    mirrored = np.concatenate([found.mirrored for _, _, found in cut])
    vectors = np.concatenate([found.vectors for _, _, found in cut])
    del cut
    first, second = similar_pairs(
        vectors, owners, least=_LIKELY_WINDOW, most=_NEIGHBORS
    ).T
    del vectors
    turned = owners[first] > owners[second]
    first, second = (
        np.where(turned, second, first),
        np.where(turned, first, second),
    )
    speeds = lengths[first] / lengths[second]
    shifts = starts[first] - speeds * starts[second]
    rows = np.stack(
        [
            owners[first],
            owners[second],
            mirrored[first] != mirrored[second],
            speeds,
            np.round(shifts / 2) * 2,
        ],
        1,
    )
    alignments, votes = np.unique(rows, axis=0, return_counts=True)
    return [
        Pair(int(i), int(j), votes, Alignment(start, speed, bool(flipped)))
        for (i, j, flipped, speed, start), votes in zip(
            alignments.tolist(), votes.tolist(), strict=True
        )
    ]


def _same_stills(videos: Sequence[Footage]) -> Iterator[_Match]:
    """Yields pairs of videos in which nothing moves and that look the same."""
    still = [i for i, video in enumerate(videos) if _is_still(video)]
    looks = [videos[i].thumbnails.mean(0).ravel() for i in still]
    if not looks:
        return
    pictures = np.stack(looks).astype(np.float32)
    pictures -= pictures.mean(1, keepdims=True)
    lengths = np.linalg.norm(pictures, axis=1, keepdims=True)
    faint = lengths <= _LEAST_CONTRAST * np.sqrt(pictures.shape[1])
    units = np.where(faint, 0, pictures / np.maximum(lengths, 1e-6))
    pairs = similar_pairs(units, np.arange(len(still)), least=_STILL_LOOK)
    for i, j in pairs.tolist():
        yield still[i], still[j], _SAME, float(units[i] @ units[j]), 0.0


def _is_still(video: Footage) -> bool:
    last = max(1, len(video.thumbnails) - video.gap)
    return not any(
        _moves(video.thumbnails[begin : begin + _BLOCK + video.gap], video.gap)
        for begin in range(0, last, _BLOCK)
    )


def _moves(thumbnails: Thumbnails, gap: int) -> bool:
    frames = thumbnails.astype(np.float32)
    spread = (frames[gap:] - frames[:-gap]).std((1, 2))
    return bool((spread > _LEAST_CHANGE).any())
