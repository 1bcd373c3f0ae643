"""How a folder of videos was grouped and split, and what that leaves out."""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from har_keras.manifest.entries import FoundVideo
from har_keras.manifest.groups import (
    Grouping,
    GroupRow,
    given_groups,
    group_by_names,
    join_groups,
    split_groups,
)
from har_keras.manifest.parts import Timed, counted
from har_keras.progress import plural

# Of a file that can't be read, and of an empty one.
_HASHES_OF_NOTHING = ("", hashlib.sha256().hexdigest())


class Divided(Timed, Protocol):
    """A video, or a part of one, with its class, split, group and content."""

    @property
    def split(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def _is_usable(video: Divided) -> bool:
    """Returns whether a video may have frames, as far as is known.

    A missing or an empty file has none, and would take the place of one that
    does in the splits.
    """
    return video.sha256 not in _HASHES_OF_NOTHING


@dataclass(frozen=True)
class Division:
    """How the videos of a folder were grouped and split.

    Args:
        rows: Sequence of GroupRow. What was seen in the names, by class.
        chosen: bool. Whether the user chose the groups.
        fractions: Mapping. The share of each split that was cut from the
            training videos; empty if the splits are the user's.
        seed: int. Seed of the random split.
    """

    rows: tuple[GroupRow, ...] = ()
    chosen: bool = False
    fractions: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def of(
        cls,
        grouping: Grouping,
        splits: Sequence[str],
        fractions: Mapping[str, float],
        seed: int,
    ) -> "Division":
        """Returns the division of videos whose splits may be missing.

        Args:
            grouping: Grouping. Their groups.
            splits: Sequence of str. The splits that are given.
            fractions: Mapping. Share of each split, if it is missing.
            seed: int. Seed of the random split.
        """
        cut = {
            name: fraction
            for name, fraction in fractions.items()
            if name not in splits and fraction > 0
        }
        return cls(grouping.rows, grouping.is_chosen, cut, seed)

    def splits(
        self, videos: Sequence[Divided], groups: Sequence[str]
    ) -> list[str]:
        """Returns the split of each video; cuts those that are missing.

        Args:
            videos: Sequence of Video.
            groups: Sequence of str. The group of each.
        """
        splits = [video.split for video in videos]
        usable = [i for i, video in enumerate(videos) if _is_usable(video)]
        pool = [
            i
            for i in usable or range(len(videos))
            if self.fractions and splits[i] in ("train", *self.fractions)
        ]
        divided = split_groups(
            [groups[i] for i in pool],
            [videos[i].class_name for i in pool],
            self.fractions,
            seed=self.seed,
        )
        for i, split in zip(pool, divided, strict=True):
            splits[i] = split
        return splits

    def notes(self, videos: Sequence[Divided]) -> list[str]:
        """Returns how the splits were cut.

        Args:
            videos: Sequence of Video.
        """
        if not self.fractions:
            return []
        counts = Counter(video.split for video in videos)
        names = " and ".join(self.fractions)
        sizes = ", ".join(
            f"{counts[name]} {name}" for name in ("train", "val", "test")
        )
        return [f"Cut {names} from the training videos: {sizes}."]

    def warnings(self, videos: Sequence[Divided]) -> list[str]:
        """Returns which classes are in no validation or test video, and why.

        Args:
            videos: Sequence of Video.

        Example:

        >>> from har_keras.manifest.manifest import Video
        >>> videos = [
        ...     Video("walk/1.mp4", "walk", "train", "a"),
        ...     Video("gym/1.mp4", "gym", "train", "b"),
        ...     Video("gym/2.mp4", "gym", "test", "c"),
        ... ]
        >>> Division(fractions={"test": 0.15}).warnings(videos)
        ["Class 'walk' has no test video and is not tested: it has 1 video in
        1 group, and a group is never divided."]
        """
        pairs = {(video.class_name, video.split) for video in videos}
        splits = [s for s in ("val", "test") if s in {s for _, s in pairs}]
        found = []
        for name in sorted({video.class_name for video in videos}):
            absent = [s for s in splits if (name, s) not in pairs]
            if absent:
                found.append(self._warning(name, absent, videos))
        return found

    def _warning(
        self, name: str, absent: Sequence[str], videos: Sequence[Divided]
    ) -> str:
        effect = " and is not tested" if "test" in absent else ""
        mine = [video for video in videos if video.class_name == name]
        groups = {video.group for video in mine}
        reason = (
            f": it has {counted(mine)} in {plural(len(groups), 'group')}, and "
            "a group is never divided"
            if self.fractions
            else ""
        )
        where = " or ".join(absent)
        return f"Class '{name}' has no {where} video{effect}{reason}."


def has_known_group(
    videos: Sequence[Divided], chosen: Sequence[Divided]
) -> list[bool]:
    """Returns of which videos it is known what they belong to.

    Of a file by itself, named as its own group, nothing is known, however many
    parts of it are labelled.

    Args:
        videos: Sequence of Video. Every video of a folder.
        chosen: Sequence of Video. Some of them.

    Example:

    >>> from har_keras.manifest.manifest import Video
    >>> one = Video("a.mp4", "walk", "test", "a.mp4")
    >>> two = Video("b.mp4", "walk", "test", "ann")
    >>> has_known_group([one, two], [one, two])
    [False, True]
    """
    files: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        files[video.group].add(video.file)
    return [v.group != v.file or len(files[v.group]) > 1 for v in chosen]


def grouping_of(videos: Sequence[FoundVideo], group_by: str) -> Grouping:
    """Returns the groups that the user gives, or those from the names.

    All parts of a file are of one group, whatever a manifest says.

    Args:
        videos: Sequence of FoundVideo.
        group_by: str. As `group_by_names` takes it; "auto" prefers what a
            manifest gives, and joins what annotations tell with the names.
    """
    is_auto = group_by == "auto"
    if is_auto and any(v.group and v.is_group_chosen for v in videos):
        given = [(v.group or v.file, v.class_name) for v in videos]
        grouping = given_groups(given)
        groups = list(grouping.groups)
    else:
        classes = _class_of_each_file(videos)
        told = {v.file: v.group for v in videos if v.group and is_auto}
        grouping = group_by_names(list(classes.items()), group_by, told)
        by_file = dict(zip(classes, grouping.groups, strict=True))
        groups = [by_file[video.file] for video in videos]
    joined = join_groups(groups, [video.file for video in videos])
    if is_auto:
        joined = join_groups(joined, [video.group for video in videos])
    return dataclasses.replace(grouping, groups=tuple(joined))


def _class_of_each_file(videos: Sequence[FoundVideo]) -> dict[str, str]:
    """Returns the class in which a file is judged, however many it has.

    A file is one name, however many parts of it are labelled. Of its classes,
    that of most files tells most of how names vary.
    """
    files = Counter(
        name for _, name in {(v.file, v.class_name) for v in videos}
    )
    classes: dict[str, str] = {}
    for video in videos:
        known = classes.get(video.file, video.class_name)
        classes[video.file] = max(
            known, video.class_name, key=files.__getitem__
        )
    return classes
