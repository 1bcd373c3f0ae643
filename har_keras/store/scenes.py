"""Finds recordings of one scene: the same background, seen by the same camera.

A still background is what the frames of a video have in common, their median;
of a moving camera, single frames are compared, which finds cuts that follow
each other. Both the picture and its detail have to agree, for a bright middle
between dark borders is no place.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.manifest.division import has_known_group
from har_keras.manifest.groups import merge_groups
from har_keras.manifest.manifest import Manifest, Video
from har_keras.progress import plural
from har_keras.store.duplicates import Duplicate, find_duplicates, updated
from har_keras.store.neighbors import similar_pairs
from har_keras.store.shards import Thumbnails
from har_keras.store.store import Store

logger = logging.getLogger(__name__)

Floats = NDArray[np.floating[Any]]

# Measured on 245 real videos in 143 groups, of 258 pairs in one group: 159 are
# found, and none of two groups; what is missed are cuts of films and moving
# cameras. At 0.8 it is 160 and one of two groups.
_SAME_SCENE = 0.85
# Detail agrees less than the picture, for it has no large bright regions.
_DETAIL_BONUS = 0.1
_DETAIL_PIXELS = 2.0
_NUM_FRAMES = 5
# Two clusters are merged if this share of their pairs is alike by and large.
_LIKE_THE_REST = 0.7
_AGREEING_SHARE = 0.5
_REPRESENTATIVES = 8
_PAIRS_AT_ONCE = 8192
_LEAST_CONTRAST = 4.0
_LEAST_DETAIL = 1.5
# A class with fewer groups does not reach train, val and test.
_LEAST_GROUPS = 3


@dataclass(frozen=True)
class Scene:
    """Videos of one place, as one camera saw it.

    Args:
        videos: Sequence of Video. At least two.
        is_joined: bool. Whether they are one group.
    """

    videos: tuple[Video, ...]
    is_joined: bool

    @property
    def groups(self) -> int:
        """Groups that it was in, by names."""
        return len({video.group for video in self.videos})

    @property
    def splits(self) -> set[str]:
        """Splits that it is in."""
        return {video.split for video in self.videos}


def settle_groups(
    store: Store, manifest: Manifest
) -> tuple[Manifest, list[Duplicate]]:
    """Joins copies and scenes, and logs what groups and splits came of it.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos, decoded.

    Returns:
        The manifest, as of `group_by_look`, and all duplicates.
    """
    found = group_by_look(store, manifest)
    notes = found.manifest.division.notes(found.manifest.videos)
    for note in (*scene_notes(found.scenes), *notes):
        logger.info("%s", note)
    for warning in group_warnings(found.manifest):
        logger.warning("%s", warning)
    return found.manifest, found.duplicates


@dataclass(frozen=True)
class GroupedByLook:
    """What was found of videos that belong together, from their frames.

    Args:
        manifest: Manifest. With their groups joined.
        scenes: Sequence of Scene. Those that were in several groups.
        duplicates: Sequence of Duplicate. All of them, with their splits.
    """

    manifest: Manifest
    scenes: list[Scene]
    duplicates: list[Duplicate]


def group_by_look(store: Store, manifest: Manifest) -> GroupedByLook:
    """Joins the groups of copies and of scenes, and divides them again.

    Splits that were cut from the training videos follow the groups. Splits
    that are the user's stay as they are, and so do groups that the user chose.
    Neither is joined if a class would have less than three groups left: where
    everything is of one place, no split can keep places apart.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos, decoded.

    Returns:
        A `GroupedByLook`.
    """
    videos = _one_of_each(store, manifest)
    thumbnails = store.thumbnails([video.sha256 for video in videos])
    duplicates = find_duplicates(store, manifest, thumbnails)
    groups = {video.file: video.group for video in manifest.videos}
    if manifest.division.fractions and not manifest.division.chosen:
        groups = _with_copies_joined(manifest, groups, duplicates)
    settled, scenes = _with_scenes_joined(manifest, groups, videos, thumbnails)
    return GroupedByLook(settled, scenes, updated(duplicates, settled))


def group_by_scenes(store: Store, manifest: Manifest) -> Manifest:
    """Joins the groups of scenes, where copies are not asked for.

    Args:
        store: Store. Where the videos are.
        manifest: Manifest. The videos, decoded.

    Returns:
        The `Manifest` with its groups joined, as by `group_by_look`.
    """
    videos = _one_of_each(store, manifest)
    thumbnails = store.thumbnails([video.sha256 for video in videos])
    groups = {video.file: video.group for video in manifest.videos}
    return _with_scenes_joined(manifest, groups, videos, thumbnails)[0]


def _with_scenes_joined(
    manifest: Manifest,
    groups: dict[str, str],
    videos: Sequence[Video],
    thumbnails: Mapping[str, Thumbnails],
) -> tuple[Manifest, list[Scene]]:
    scenes = []
    for members in _crossing_scenes(videos, thumbnails, groups):
        joined = _joined(manifest, groups, members)
        scenes.append(Scene(tuple(members), joined is not None))
        groups = joined or groups
    found = manifest.with_groups([groups[v.file] for v in manifest.videos])
    return found, scenes


def _crossing_scenes(
    videos: Sequence[Video],
    thumbnails: Mapping[str, Thumbnails],
    groups: Mapping[str, str],
) -> list[list[Video]]:
    """Returns the scenes that are in several groups, the smallest first."""
    scenes = [
        [videos[i] for i in members]
        for members in find_scenes(thumbnails, [v.sha256 for v in videos])
    ]
    crossing = [s for s in scenes if len({groups[v.file] for v in s}) > 1]
    return sorted(crossing, key=len)


def scene_notes(scenes: Sequence[Scene]) -> list[str]:
    """Returns what was done about scenes of several groups, in sentences."""
    joined = [scene for scene in scenes if scene.is_joined]
    apart = [scene for scene in scenes if not scene.is_joined]
    notes = []
    if joined:
        number = sum(len(scene.videos) for scene in joined)
        notes.append(
            f"By look, {number} videos are of {plural(len(joined), 'scene')}, "
            f"such as {_two(joined[-1])}; each scene is one group."
        )
    if apart:
        number = sum(len(scene.videos) for scene in apart)
        across = max(apart, key=lambda scene: len(scene.splits))
        notes.append(
            f"By look, {number} videos in different groups share "
            f"{plural(len(apart), 'background')}, such as {_two(across)}, and "
            "stay apart: the test says little of other places."
        )
    return notes


def _two(scene: Scene) -> str:
    """Names two of its videos, of two splits if it is in several."""
    first = scene.videos[0]
    second = max(scene.videos[1:], key=lambda v: v.split != first.split)
    return f"'{first.file}' and '{second.file}'"


def group_warnings(manifest: Manifest) -> list[str]:
    """Returns what the test does not tell, for lack of groups or videos.

    Args:
        manifest: Manifest. With scenes joined.
    """
    warnings = manifest.division.warnings(manifest.videos)
    tested = manifest.split("test") or manifest.split("val")
    known = has_known_group(manifest.videos, tested)
    files = {video.file for video in tested}
    named = {
        v.file for v, is_known in zip(tested, known, strict=True) if is_known
    }
    unknown = len(files - named)
    split = "test" if manifest.split("test") else "validation"
    if 2 * unknown > len(files) and not manifest.division.chosen:
        warnings.append(
            f"The test may flatter: of {unknown} of {len(files)} {split} "
            "videos nothing tells, by names or by look, which others are of "
            "the same person, place or recording. Name these in a column "
            "'group' of manifest.csv or with --group-by."
        )
    return warnings


def _one_of_each(store: Store, manifest: Manifest) -> list[Video]:
    """Returns a usable video of each content."""
    by_content = {
        video.sha256: video
        for video in reversed(manifest.videos)
        if video.kept_frames and video.sha256 in store
    }
    return list(reversed(by_content.values()))


def _joined(
    manifest: Manifest, groups: dict[str, str], scene: Sequence[Video]
) -> dict[str, str] | None:
    """Returns groups with a scene in one; None where it has to stay apart."""
    division = manifest.division
    across = len({video.split for video in scene}) > 1
    if division.chosen or (across and not division.fractions):
        return None
    after = _merged(groups, scene)
    few = _are_too_few(manifest, groups, after, classes_of(manifest, scene))
    return None if few and division.fractions else after


def _with_copies_joined(
    manifest: Manifest,
    groups: dict[str, str],
    duplicates: Sequence[Duplicate],
) -> dict[str, str]:
    """Returns groups with those of copies in one, where enough are left."""
    pairs = [(pair.first.group, pair.second.group) for pair in duplicates]
    merged = merge_groups(list(groups.values()), pairs)
    after = dict(zip(groups, merged, strict=True))
    if not _are_too_few(manifest, groups, after, manifest.class_names):
        return after
    alike: dict[str, list[Video]] = defaultdict(list)
    for video in manifest.videos:
        alike[after[video.file]].append(video)
    for videos in sorted(alike.values(), key=len):
        if len({groups[video.file] for video in videos}) < 2:
            continue
        joined = _merged(groups, videos)
        classes = classes_of(manifest, videos)
        if not _are_too_few(manifest, groups, joined, classes):
            groups = joined
    return groups


def _are_too_few(
    manifest: Manifest,
    before: Mapping[str, str],
    after: Mapping[str, str],
    classes: Iterable[str],
) -> bool:
    """Returns whether a class had enough groups, and has not any more."""
    had, left = (_groups_by_class(manifest, some) for some in (before, after))
    return any(left[name] < min(_LEAST_GROUPS, had[name]) for name in classes)


def classes_of(manifest: Manifest, scene: Sequence[Video]) -> set[str]:
    """Returns the classes of the videos of a scene, of all of their parts."""
    files = {video.file for video in scene}
    return {v.class_name for v in manifest.videos if v.file in files}


def _merged(groups: dict[str, str], videos: Sequence[Video]) -> dict[str, str]:
    """Returns groups with the groups of some videos in one."""
    first, *others = (groups[video.file] for video in videos)
    merged = merge_groups(list(groups.values()), [(first, o) for o in others])
    return dict(zip(groups, merged, strict=True))


def _groups_by_class(
    manifest: Manifest, groups: Mapping[str, str]
) -> Counter[str]:
    pairs = {(v.class_name, groups[v.file]) for v in manifest.videos}
    return Counter(name for name, _ in pairs)


def find_scenes(
    thumbnails: Mapping[str, Thumbnails], hashes: Sequence[str]
) -> list[list[int]]:
    """Finds videos with the same background.

    Clusters are merged, the most similar pair first, only if half of all pairs
    between them are alike. So a chain of videos, each a little like the next,
    does not run away.

    Args:
        thumbnails: Mapping from a hash to a `uint8` array of shape
            `(N, 16, 16)`, gray.
        hashes: Sequence of str. The videos.

    Returns:
        Clusters of at least two indices into `hashes`.
    """
    if not hashes:
        return []
    looks = np.concatenate([_looks(thumbnails[name]) for name in hashes])
    owners = np.repeat(np.arange(len(hashes)), _NUM_FRAMES + 1)
    pictures = _unit(looks, _LEAST_CONTRAST)
    details = _unit(_detail(looks), _LEAST_DETAIL)
    pairs = similar_pairs(details, owners, least=_SAME_SCENE - _DETAIL_BONUS)
    likeness = _Likeness(pictures, details)
    alike = likeness.of_looks(*pairs.T)
    same = alike >= _SAME_SCENE
    order = np.argsort(-alike[same], kind="stable")
    found = _clusters(owners[pairs[same][order]], likeness, len(hashes))
    return sorted(sorted(members) for members in found if len(members) > 1)


class _Likeness:
    """How alike looks and videos are.

    Args:
        pictures: `float32` array of shape `(N, 256)`: every look of every
            video, of length 1.
        details: array of the same shape.
    """

    def __init__(self, pictures: Floats, details: Floats) -> None:
        self.pictures = pictures
        self.details = details

    def of_looks(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> Floats:
        """Returns the likeness of pairs of looks."""
        found = np.empty(len(first), np.float32)
        # In blocks, for a pair takes 4 kB while it is compared.
        for begin in range(0, len(first), _PAIRS_AT_ONCE):
            block = slice(begin, begin + _PAIRS_AT_ONCE)
            found[block] = self._of_block(first[block], second[block])
        return found

    def _of_block(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> Floats:
        picture = (self.pictures[first] * self.pictures[second]).sum(1)
        detail = (self.details[first] * self.details[second]).sum(1)
        return np.minimum(picture, detail + _DETAIL_BONUS)

    def of_videos(self, first: Sequence[int], second: Sequence[int]) -> Floats:
        """Returns the best likeness of any looks, for all pairs of videos."""
        looks = _NUM_FRAMES + 1
        spread = np.arange(looks)
        one = (np.array(first)[:, None] * looks + spread).ravel()
        other = (np.array(second)[:, None] * looks + spread).ravel()
        alike = np.minimum(
            self.pictures[one] @ self.pictures[other].T,
            self.details[one] @ self.details[other].T + _DETAIL_BONUS,
        )
        shape = (len(first), looks, len(second), looks)
        return np.asarray(alike.reshape(shape).max((1, 3)))


def _clusters(
    pairs: NDArray[np.int64], likeness: _Likeness, number: int
) -> list[list[int]]:
    """Merges videos, the most alike first, where clusters agree as a whole."""
    cluster = list(range(number))
    members = [[i] for i in range(number)]
    apart = set[tuple[int, int, int]]()
    for i, j in pairs.tolist():
        one, other = sorted((cluster[i], cluster[j]))
        size = len(members[one]) + len(members[other])
        # Two that did not agree are asked again once they have grown.
        if one == other or (one, other, size) in apart:
            continue
        alike = likeness.of_videos(_some(members[one]), _some(members[other]))
        if (alike >= _LIKE_THE_REST).mean() < _AGREEING_SHARE:
            apart.add((one, other, size))
            continue
        if len(members[one]) < len(members[other]):
            one, other = other, one
        for k in members[other]:
            cluster[k] = one
        members[one] += members[other]
        members[other] = []
    return members


def _some(members: list[int]) -> list[int]:
    """Returns a few members, spread over all."""
    return members[:: max(1, len(members) // _REPRESENTATIVES)]


def _looks(thumbnails: Thumbnails) -> Floats:
    """Returns the median of all frames, and frames spread over a video."""
    last = len(thumbnails) - 1
    places = np.linspace(0, last, _NUM_FRAMES).round().astype(int)
    # By rows, for NumPy copies what it takes the median of.
    rows = [np.median(thumbnails[:, i], 0) for i in range(thumbnails.shape[1])]
    looks = np.stack([np.stack(rows), *thumbnails[places]])
    return looks.astype(np.float32)


def _detail(looks: Floats) -> Floats:
    """Returns pictures without their large regions of light and dark."""
    blurred = [
        cv2.GaussianBlur(
            look, (0, 0), _DETAIL_PIXELS, borderType=cv2.BORDER_REPLICATE
        )
        for look in looks
    ]
    return looks - np.stack(blurred)


def _unit(images: Floats, least: float) -> Floats:
    """Returns `(N, 256)` vectors of mean 0 and length 1, or 0 if faint."""
    vectors = images.reshape(len(images), -1)
    vectors = vectors - vectors.mean(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    faint = lengths <= least * np.sqrt(vectors.shape[1])
    return np.where(faint, 0, vectors / np.maximum(lengths, 1e-6))
