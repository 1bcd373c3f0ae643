"""Finds near-duplicate videos by appearance and motion.

Appearance alone is not enough: two people filmed one after the other by a
static camera look alike. So two videos are the same footage if, at the best
temporal alignment, both their grayscale thumbnails and the changes of these
over a quarter of a second agree. This is robust to encoding, scaling, cropping,
grayscale and brightness changes, mirroring, other frame rates, and cuts.
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

# Measured on 245 real videos. Copies of 40 of them, altered in eight ways, have
# a motion agreement of 0.66 to 1 (one short part with hardly any motion is
# missed). Of the 29,890 pairs 10 reach 0.65, all from one recording; across
# recordings no pair of similar appearance exceeds 0.37.
_SAME_MOTION = 0.65
_SAME_LOOK = 0.4
# One such frame pair makes two videos candidates for a comparison.
_LIKELY_LOOK = 0.6
# Of 255: with less contrast a frame is blank, with less change it is noise.
_LEAST_CONTRAST = 4.0
_LEAST_CHANGE = 0.5
_STILL_LOOK = 0.99

_CHANGE_SECONDS = 0.25
_LEAST_OVERLAP_SECONDS = 1.0
# Of the shorter video. With less overlap, two people moving in the same rhythm
# agree by chance: 4 pairs of 1,200 synthetic videos did, none at this overlap.
_LEAST_OVERLAP_SHARE = 0.6
_LIKELY_EVERY_SECONDS = 0.5
_ROWS_AT_ONCE = 4096

_SAME_FILE = "same file"
_SAME = "the same or nearly the same footage"
_MIRRORED = f"{_SAME}, mirrored"


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
    store: Store, manifest: Manifest, *, leaks_only: bool = False
) -> list[Duplicate]:
    """Finds videos with the same content or the same footage.

    Nothing is decoded: the store has thumbnails of every video.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos.
        leaks_only: bool. Whether to compare across splits only, which is
            several times faster. Defaults to `False`.

    Returns:
        A list of `Duplicate`, by decreasing agreement.
    """
    same = _same_files(manifest.videos)
    seen: dict[str, Video] = {}
    for video in manifest.videos:
        if video.sha256 in store and store.num_frames(video.sha256):
            # One copy of each content per split is enough.
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
    """Logs a warning for footage and groups that are in several splits.

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
        # Appearance and motion can coincide by chance; equal bytes can't.
        what = "A leak" if pair.kind == _SAME_FILE else "A likely leak"
        logger.warning("%s between splits: %s.", what, pair)
    for group, splits in groups.items():
        where = " and ".join(splits)
        logger.warning("Group '%s' is in %s.", group, where)
    if strict and (leaks or groups):
        first = str(leaks[0]) if leaks else f"group '{next(iter(groups))}'"
        raise DataError(
            f"The split leaks in {len(leaks) + len(groups)} places, such as "
            f"{first}. Put related videos into one split, or leave out "
            "--strict."
        )
    return leaks


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


def _same_files(videos: Sequence[Video]) -> list[Duplicate]:
    by_content: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        if video.sha256:
            by_content[video.sha256].append(video)
    return [
        Duplicate(first, second, _SAME_FILE)
        for same in by_content.values()
        for first, second in combinations(_one_a_file(same), 2)
    ]


def _one_a_file(videos: Sequence[Video]) -> list[Video]:
    """Returns the first part of each file and split; others are no copies."""
    first: dict[tuple[str, str], Video] = {}
    for video in videos:
        first.setdefault((video.file, video.split), video)
    return list(first.values())


class Fingerprint:
    """Appearance and motion of a video over time, as unit vectors.

    Args:
        thumbnails: `uint8` array of shape `(N, 16, 16)`, gray.
        rate: float. Thumbnails per second.
    """

    def __init__(self, thumbnails: Thumbnails, rate: float) -> None:
        self.thumbnails = thumbnails
        self.rate = rate
        frames = thumbnails.astype(np.float32)
        gap = max(1, round(_CHANGE_SECONDS * rate))
        self.look = _unit_vectors(frames, _LEAST_CONTRAST)  # (N, 256)
        change = frames[gap:] - frames[:-gap]
        self.motion = _unit_vectors(change, _LEAST_CHANGE)  # (N - gap, 256)
        moves = np.linalg.norm(self.motion, axis=1) > 0
        self.moves: Floats = moves.astype(np.float32)  # (N - gap,)

    @property
    def mirrored(self) -> "Fingerprint":
        """The fingerprint of the mirrored video."""
        return Fingerprint(self.thumbnails[:, :, ::-1], self.rate)


def _fingerprints(store: Store, videos: Sequence[Video]) -> list[Fingerprint]:
    thumbnails = store.thumbnails({video.sha256 for video in videos})
    rate = store.spec.fps / THUMBNAIL_STRIDE
    return [Fingerprint(thumbnails[video.sha256], rate) for video in videos]


def _unit_vectors(images: Floats, least: float) -> Floats:
    """Returns `(N, 256)` vectors of mean 0 and length 1, or 0 if faint."""
    vectors = images.reshape(len(images), 256)
    vectors = vectors - vectors.mean(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    faint = lengths <= least * np.sqrt(256)
    return np.where(faint, 0, vectors / np.maximum(lengths, 1e-6))


def agreement(
    first: Fingerprint, second: Fingerprint
) -> tuple[float, int] | None:
    """Aligns two videos in time where they agree best.

    Args:
        first: Fingerprint.
        second: Fingerprint.

    Returns:
        Motion agreement, and the index of the first's thumbnail at which the
        second begins; None if they are not the same footage.
    """
    looks = _diagonal_sums(first.look @ second.look.T)
    ones = _diagonal_sums(np.ones((len(first.look), len(second.look))))
    if not first.moves.any() and not second.moves.any():
        # Neither moves: only appearance can be compared.
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
    # `looks` starts earlier: there are more thumbnails than changes.
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
    # Rereading the rows with one column less skews them into diagonals.
    wide[:, :rows] = matrix.T[::-1]
    skewed = wide.ravel()[: columns * (rows + columns - 1)]
    return skewed.reshape(columns, rows + columns - 1).sum(0)


def _likely_pairs(
    prints: Sequence[Fingerprint], videos: Sequence[Video], leaks_only: bool
) -> Iterator[tuple[int, int, bool]]:
    """Yields pairs of videos with similar frames."""
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
