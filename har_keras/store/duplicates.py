"""The same footage twice: found by how pictures look and how they move.

Pictures alone don't tell: two people filmed one after the other by a camera
that doesn't move look alike. So two videos are the same footage if, laid over
each other at the best moment, small grey pictures agree and their changes over
a quarter of a second agree as well. This survives encoding, scaling, cropping,
grey or brighter pictures, mirroring, other frame rates, and cuts.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from har_keras.errors import DataError
from har_keras.manifest.manifest import SPLITS, Manifest, Video
from har_keras.progress import ProgressBar
from har_keras.store.shards import THUMBNAIL_STRIDE, Thumbnails
from har_keras.store.store import Store

logger = logging.getLogger(__name__)

Floats = NDArray[np.floating[Any]]

# Measured on 245 real videos. Copies of 40, altered in eight ways, agree in
# motion by 0.66 to 1 (one short part with hardly any motion is missed). Of the
# 29,890 pairs 10 reach 0.65, all from one recording; across recordings no
# pair that looks alike passes 0.37.
_SAME_MOTION = 0.65
_SAME_LOOK = 0.4
# One such moment makes two videos worth a comparison.
_LIKELY_LOOK = 0.6
# Brightness, of 255: less contrast is a blank picture, less change is noise.
_LEAST_CONTRAST = 4.0
_LEAST_CHANGE = 0.5
_STILL_LOOK = 0.99

_CHANGE_SECONDS = 0.25
_LEAST_OVERLAP_SECONDS = 1.0
# Of the shorter video. Over less, two people in the same rhythm agree by
# chance: 4 pairs of 1,200 drawn videos did, none of them over so much.
_LEAST_OVERLAP_SHARE = 0.6
_LIKELY_EVERY_SECONDS = 0.5
_ROWS_AT_ONCE = 4096

_SAME_FILE = "same file"
_SAME = "the same or nearly the same footage"
_MIRRORED = f"{_SAME}, mirrored"


@dataclass(frozen=True)
class Duplicate:
    """Two videos that show the same.

    Args:
        first: Video. The one listed first.
        second: Video.
        kind: str. "same file", or what is said of the same or nearly the same
            footage.
        agreement: float. How well their motion agrees, at most 1.
        shift_seconds: float. When in the first the second begins.
    """

    first: Video
    second: Video
    kind: str
    agreement: float = 1.0
    shift_seconds: float = 0.0

    @property
    def is_leak(self) -> bool:
        """Whether a split holds what another one is tested on."""
        return self.first.split != self.second.split

    def __str__(self) -> str:
        return (
            f"'{self.first.file}' ({self.first.split}) and "
            f"'{self.second.file}' ({self.second.split}): {self.kind}"
        )


def find_duplicates(
    store: Store, manifest: Manifest, *, leaks_only: bool = False
) -> list[Duplicate]:
    """Finds videos that are the same or show the same footage.

    Nothing is decoded: the store keeps small pictures of every video.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos.
        leaks_only: bool. Whether to compare across splits only, which is
            several times less work. Defaults to `False`.

    Returns:
        A list of `Duplicate`, the surest first.
    """
    same = _same_files(manifest.videos)
    seen: dict[str, Video] = {}
    for video in manifest.videos:
        if video.sha256 in store and store.num_frames(video.sha256):
            # One copy of each content in each split is enough.
            seen.setdefault(f"{video.sha256} {video.split}", video)
    videos = list(seen.values())
    prints = _fingerprints(store, videos)
    found = list(same)
    pairs = [*_likely_pairs(prints, videos, leaks_only)]
    with ProgressBar("Comparing videos", total=len(pairs)) as bar:
        for i, j, mirrored in pairs:
            bar.advance()
            kind = _MIRRORED if mirrored else _SAME
            second = prints[j].mirrored if mirrored else prints[j]
            match = agreement(prints[i], second)
            if match:
                shift = match[1] / prints[i].rate
                found.append(
                    Duplicate(videos[i], videos[j], kind, match[0], shift)
                )
    best: dict[tuple[str, str], Duplicate] = {}
    for pair in sorted(found, key=lambda pair: -pair.agreement):
        best.setdefault((pair.first.file, pair.second.file), pair)
    return [pair for pair in best.values() if pair.is_leak or not leaks_only]


def report_leaks(
    store: Store, manifest: Manifest, *, strict: bool = False
) -> list[Duplicate]:
    """Warns by name of footage and groups that stand in several splits.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos.
        strict: bool. Whether a leak is an error. Defaults to `False`.

    Returns:
        The leaks.

    Raises:
        DataError: If there is a leak and `strict` is set.
    """
    leaks = find_duplicates(store, manifest, leaks_only=True)
    groups = leaking_groups(manifest)
    for pair in leaks:
        # Footage is compared by look and motion, which can err; bytes can't.
        what = "A leak" if pair.kind == _SAME_FILE else "A likely leak"
        logger.warning("%s between splits: %s.", what, pair)
    for group, splits in groups.items():
        where = " and ".join(splits)
        logger.warning("Group '%s' stands in %s.", group, where)
    if strict and (leaks or groups):
        first = str(leaks[0]) if leaks else f"group '{next(iter(groups))}'"
        raise DataError(
            f"The split leaks in {len(leaks) + len(groups)} places, such as "
            f"{first}. Put what belongs together in one split, or leave "
            "--strict out."
        )
    return leaks


def leaking_groups(manifest: Manifest) -> dict[str, list[str]]:
    """Returns groups that stand in several splits, with the names of those.

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


def _same_files(videos: Sequence[Video]) -> list[Duplicate]:
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.sha256:
            by_content[video.sha256].append(video)
    return [
        Duplicate(first, second, _SAME_FILE)
        for same in by_content.values()
        for first, second in combinations(same, 2)
    ]


class Fingerprint:
    """What a video looks like and how that changes, as unit vectors.

    Args:
        thumbnails: `uint8` array of shape `(N, 16, 16)`, grey.
        rate: float. Thumbnails per second.
    """

    def __init__(self, thumbnails: Thumbnails, rate: float) -> None:
        self.thumbnails = thumbnails
        self.rate = rate
        pictures = thumbnails.astype(np.float32)
        gap = max(1, round(_CHANGE_SECONDS * rate))
        self.look = _unit_vectors(pictures, _LEAST_CONTRAST)  # (N, 256)
        change = pictures[gap:] - pictures[:-gap]
        self.motion = _unit_vectors(change, _LEAST_CHANGE)  # (N - gap, 256)
        moves = np.linalg.norm(self.motion, axis=1) > 0
        self.moves: Floats = moves.astype(np.float32)  # (N - gap,)

    @property
    def mirrored(self) -> "Fingerprint":
        """The fingerprint of the video with left and right exchanged."""
        return Fingerprint(self.thumbnails[:, :, ::-1], self.rate)


def _fingerprints(store: Store, videos: Sequence[Video]) -> list[Fingerprint]:
    thumbnails = store.thumbnails({video.sha256 for video in videos})
    rate = store.spec.fps / THUMBNAIL_STRIDE
    return [Fingerprint(thumbnails[video.sha256], rate) for video in videos]


def _unit_vectors(pictures: Floats, least: float) -> Floats:
    """Returns `(N, 256)` vectors of mean 0, length 1, or 0 if too faint."""
    vectors = pictures.reshape(len(pictures), 256)
    vectors = vectors - vectors.mean(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    faint = lengths <= least * np.sqrt(256)
    return np.where(faint, 0, vectors / np.maximum(lengths, 1e-6))


def agreement(
    first: Fingerprint, second: Fingerprint
) -> tuple[float, int] | None:
    """Lays two videos over each other at the moment where they agree best.

    Args:
        first: Fingerprint.
        second: Fingerprint.

    Returns:
        How well their motion agrees, and the thumbnail of the first at which
        the second begins; None if they aren't the same footage.
    """
    looks = _diagonal_sums(first.look @ second.look.T)
    ones = _diagonal_sums(np.ones((len(first.look), len(second.look))))
    if not first.moves.any() and not second.moves.any():
        # Two still pictures: all there is to compare is one of each.
        best = float((looks / ones).max())
        return (best, 0) if best >= _STILL_LOOK else None
    shorter = min(len(first.moves), len(second.moves))
    overlap = max(
        round(_LEAST_OVERLAP_SECONDS * first.rate),
        round(_LEAST_OVERLAP_SHARE * shorter),
    )
    overlap = min(overlap, shorter)
    if not overlap:
        return None
    motions = _diagonal_sums(first.motion @ second.motion.T)
    counts = _diagonal_sums(np.outer(first.moves, second.moves))
    enough = counts > overlap - 0.5
    scores = np.where(enough, motions / np.maximum(counts, 1), -1)
    best_place = int(scores.argmax())
    shift = best_place - (len(second.moves) - 1)
    # `looks` begins earlier, for there are more pictures than changes.
    place = shift + len(second.look) - 1
    look = float(looks[place] / ones[place])
    score = float(scores[best_place])
    same = score >= _SAME_MOTION and look >= _SAME_LOOK
    return (min(score, 1.0), shift) if same else None


def _diagonal_sums(matrix: Floats) -> Floats:
    """Returns the sum along each diagonal, from top right to bottom left.

    Args:
        matrix: array of shape `(N, M)`.

    Returns:
        Array of shape `(N + M - 1,)`; entry `M - 1 + d` sums `matrix[j + d,
        j]` over `j`.
    """
    rows, columns = matrix.shape
    wide = np.zeros((columns, rows + columns), np.float32)
    # Each row is set one to the right of the next, by reading them on end.
    wide[:, :rows] = matrix.T[::-1]
    skewed = wide.ravel()[: columns * (rows + columns - 1)]
    return skewed.reshape(columns, rows + columns - 1).sum(0)


def _likely_pairs(
    prints: Sequence[Fingerprint], videos: Sequence[Video], leaks_only: bool
) -> Iterator[tuple[int, int, bool]]:
    """Yields pairs of videos that look alike at some moment."""
    if not prints:
        return
    step = max(1, round(_LIKELY_EVERY_SECONDS * prints[0].rate))
    looks = [item.look[::step] for item in prints]
    owners = np.repeat(np.arange(len(looks)), [len(look) for look in looks])
    every = np.concatenate(looks)
    flipped = every.reshape(-1, 16, 16)[:, :, ::-1].reshape(-1, 256)
    splits = np.array([video.split for video in videos])
    for mirrored, begin in product(
        (False, True), range(0, len(every), _ROWS_AT_ONCE)
    ):
        rows = every[begin : begin + _ROWS_AT_ONCE]
        alike = rows @ (flipped if mirrored else every).T >= _LIKELY_LOOK
        first, second = np.nonzero(alike)
        pairs = np.stack([owners[begin + first], owners[second]], 1)
        pairs = np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)
        for i, j in pairs.tolist():
            if not leaks_only or splits[i] != splits[j]:
                yield i, j, mirrored
