"""Groups of related videos, and splits that keep each group whole.

Videos of one person, place or recording in several splits are leakage: a
model can then recognize the scenery instead of the action. So no group is
divided by a split.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from har_keras.errors import UsageError
from har_keras.manifest.names import DAY, Name, Part, copies, parsed_name
from har_keras.manifest.source_parts import SourceParts
from har_keras.processes import Overtime, run
from har_keras.progress import plural

BY_ITSELF = "each file by itself"
COLUMN = "the manifest's column"
ANNOTATIONS = "the annotations"
_MATCHING_SECONDS = 10.0

# Some expressions, such as (a+)+$, take longer than anyone waits, and only
# the end of a process stops them: in a thread they would go on.
_PROGRAM = """
import json, re, sys
pattern, names = json.load(sys.stdin.buffer)
pattern = re.compile(pattern)

def source(stem, file):
    found = pattern.search(stem) or pattern.search(file)
    return found and (found[1] if pattern.groups else found[0]) or ""

json.dump([source(*name) for name in names], sys.stdout)
"""


@dataclass(frozen=True)
class GroupRow:
    """How the videos of one class were grouped, or some of them.

    Args:
        class_name: str. The class.
        seen: str. The part of the names, in words.
        meaning: str. What it is taken for; "" if nothing was found.
        example: str. One of the groups.
        videos: int. Videos that have that part.
        groups: int. Different sources.
        largest: int. Videos of the largest.
    """

    class_name: str
    seen: str
    meaning: str
    example: str
    videos: int
    groups: int
    largest: int


@dataclass(frozen=True)
class Grouping:
    """The groups of videos, and how they were found.

    Args:
        groups: Sequence of str. The group of each video; its file name where
            nothing is known.
        rows: Sequence of GroupRow. What was seen, by class.
        is_chosen: bool. Whether the user chose them, so that they stay.
    """

    groups: tuple[str, ...]
    rows: tuple[GroupRow, ...]
    is_chosen: bool = False

    @property
    def rule(self) -> str:
        """The rules in words."""
        by_rule: dict[str, list[str]] = {}
        for row in self.rows:
            meaning = f" ({row.meaning})" if row.meaning else ""
            meaning = "" if row.seen == COLUMN else meaning
            by_rule.setdefault(row.seen + meaning, []).append(row.class_name)
        if len(by_rule) < 2:
            return next(iter(by_rule), BY_ITSELF)
        return "; ".join(
            f"{rule} in {', '.join(names)}" for rule, names in by_rule.items()
        )

    def summary(self, groups: Sequence[str], videos: str) -> str:
        """Returns a sentence on the groups, once copies are joined.

        Args:
            groups: Sequence of str. The group of each video.
            videos: str. How many videos there are, or parts of them, in words.
        """
        number = plural(len(set(groups)), "group")
        return f"{videos} in {number}, by {self.rule}."


def group_by_names(
    files: Sequence[tuple[str, str]],
    group_by: str = "auto",
    told: Mapping[str, str] | None = None,
) -> Grouping:
    """Groups videos by what their names say of person, recording or day.

    With "auto", each class takes the coarsest plausible part of its names: a
    scheme that is known (UCF101, HMDB51, NTU, Kinetics, GoPro), a person, then
    recordings, days, folders and words that recur, but no running number.

    Args:
        files: Sequence of pairs of file and class name.
        group_by: str. "auto"; "file", each by itself; "folder", the folder it
            is in; "day"; a number, the part of the name at that place, from 1
            or, from the end, -1; else a regular expression whose first group,
            or whole match, is the source. Defaults to "auto".
        told: Mapping or None. Sources that annotations tell, by file, for
            "auto" where the names say nothing.

    Returns:
        A `Grouping`.

    Raises:
        UsageError: If the expression is wrong or matches no name.

    Example:

    >>> files = [("walk/a-cam1-07.mp4", "walk"), ("gym/b-cam2-07.mp4", "gym")]
    >>> group_by_names(files, "3").groups, group_by_names(files, "^(.)").groups
    (('07', '07'), ('a', 'b'))
    """
    names, told = [parsed_name(*file) for file in files], told or {}
    if group_by == "auto":
        chosen = _told_parts(names, told) | SourceParts(names).chosen
    elif group_by == "file":
        chosen = {}
    else:
        chosen = _chosen_by(names, group_by)
    groups = [
        _group(name, chosen[i]) if i in chosen else name.file
        for i, name in enumerate(names)
    ]
    if group_by == "auto":
        original = copies(names)
        keys = [original.get(name.file, name.file) for name in names]
        groups = join_groups(groups, keys)
    rows = _rows(names, groups, chosen)
    return Grouping(tuple(groups), rows, is_chosen=group_by != "auto")


def _told_parts(
    names: Sequence[Name], told: Mapping[str, str]
) -> dict[int, Part]:
    part = Part(ANNOTATIONS, "source", lambda name: told.get(name.file, ""))
    return {i: part for i, name in enumerate(names) if part.key(name)}


def given_groups(groups: Sequence[tuple[str, str]]) -> Grouping:
    """Returns the groups that a manifest gives.

    Args:
        groups: Sequence of pairs of group and class name.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for group, class_name in groups:
        members[class_name].append(group)
    rows = [
        _row(name, COLUMN, "as given", mine)
        for name, mine in sorted(members.items())
    ]
    given = tuple(group for group, _ in groups)
    return Grouping(given, tuple(rows), is_chosen=True)


def _chosen_by(names: Sequence[Name], group_by: str) -> dict[int, Part]:
    """Returns the part that the user named, for the names that have it."""
    part = _part_of(group_by, names)
    chosen = {i: part for i, name in enumerate(names) if part.key(name)}
    if not chosen:
        raise UsageError(
            f"--group-by {group_by} matches none of the {len(names)} names, "
            f"such as '{names[0].file}'. Give auto, file, folder, day, the "
            "number of a part of the names, or a regular expression."
        )
    return chosen


def _part_of(group_by: str, names: Sequence[Name]) -> Part:
    if group_by == "folder":
        return Part("the folder", "as chosen", lambda n: "/".join(n.folders))
    if group_by == "day":
        return DAY
    if re.fullmatch(r"-?[1-9]\d?", group_by):
        place = int(group_by)

        def part(name: Name) -> str:
            words = re.findall(r"[^\W_]+", name.stem)
            index = place - 1 if place > 0 else place
            return words[index] if -len(words) <= index < len(words) else ""

        return Part(f"part {place}", "as chosen", part)
    pairs = [(name.stem, name.file) for name in names]
    found = dict(zip(pairs, _sources_by_pattern(group_by, pairs), strict=True))
    return Part(f"'{group_by}'", "as chosen", lambda n: found[n.stem, n.file])


def _sources_by_pattern(
    pattern: str, names: Sequence[tuple[str, str]]
) -> list[str]:
    """Returns what a regular expression takes from names; "" is nothing.

    Args:
        pattern: str. Its first group, or else the whole match, is taken.
        names: Sequence of pairs of str. Each is searched until one matches.

    Raises:
        UsageError: If it is no regular expression, or takes too long.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"--group-by is no regular expression: {error}. Received: "
            f"{pattern!r}."
        ) from error
    try:
        done = run(
            [sys.executable, "-I", "-c", _PROGRAM],
            data=json.dumps([pattern, names]).encode(),
            timeout_seconds=_MATCHING_SECONDS,
        )
    except Overtime as error:
        raise UsageError(
            f"--group-by {pattern} was not matched with the {len(names)} names "
            f"within {_MATCHING_SECONDS:g} s. Remove repetitions in "
            "repetitions, such as (a+)+."
        ) from error
    found: list[str] = json.loads(done.stdout)
    return found


def _group(name: Name, part: Part) -> str:
    """Returns the name of a group; of its class if others have another."""
    value = part.key(name)
    return value if part.is_shared else f"{name.class_name}/{value}"


def _rows(
    names: Sequence[Name], groups: Sequence[str], chosen: Mapping[int, Part]
) -> tuple[GroupRow, ...]:
    """Returns what was seen in the names, by class."""
    members: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for i, (name, group) in enumerate(zip(names, groups, strict=True)):
        part = chosen.get(i)
        what, meaning = (part.what, part.meaning) if part else (BY_ITSELF, "")
        members[name.class_name, what, meaning].append(group)
    return tuple(_row(*seen, mine) for seen, mine in sorted(members.items()))


def _row(
    class_name: str, seen: str, meaning: str, groups: Sequence[str]
) -> GroupRow:
    sizes = Counter(groups)
    example, largest = sizes.most_common(1)[0]
    return GroupRow(
        class_name, seen, meaning, example if meaning else "", len(groups),
        len(sizes), largest,
    )  # fmt: skip


def join_groups(groups: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Merges the groups of items with the same key, such as a content hash.

    Args:
        groups: Sequence of str. A group for each item.
        keys: Sequence of str. A key for each item; "" is no key.

    Returns:
        Groups, merged where a key occurs in several.

    Example:

    >>> join_groups(["a", "b", "c", "b"], ["1", "2", "1", ""])
    ['a', 'b', 'a', 'b']
    """
    first: dict[str, str] = {}
    pairs = [
        (first.setdefault(key, group), group)
        for group, key in zip(groups, keys, strict=True)
        if key
    ]
    return merge_groups(groups, pairs)


def merge_groups(
    groups: Sequence[str], pairs: Iterable[tuple[str, str]]
) -> list[str]:
    """Merges pairs of groups; the first of each gives the name.

    Args:
        groups: Sequence of str. A group for each item.
        pairs: Iterable of pairs of groups.

    Returns:
        The groups, merged.

    Example:

    >>> merge_groups(["a", "b", "c"], [("a", "c")])
    ['a', 'b', 'a']
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    for first, second in pairs:
        parent[root(second)] = root(first)
    return [root(group) for group in groups]


def split_groups(
    groups: Sequence[str],
    class_names: Sequence[str],
    fractions: Mapping[str, float],
    *,
    seed: int,
) -> list[str]:
    """Splits items by group, stratified by class.

    The largest groups are assigned first, each to the split that lacks most
    of its classes; a class with at least three groups then gets at least one
    video in every split.

    Args:
        groups: Sequence of str. The group of each item.
        class_names: Sequence of str. The class of each item.
        fractions: Share of the items by name of split, such as
            `{"val": 0.15}`. The rest is "train".
        seed: int. The same seed gives the same splits.

    Returns:
        The split of each item.

    Example:

    >>> split_groups("aabbccdd", "x" * 8, {"test": 0.25}, seed=0)
    ['test', 'test', 'train', 'train', 'train', 'train', 'train', 'train']
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for group, name in zip(groups, class_names, strict=True):
        counts[group][name] += 1
    rng = np.random.default_rng(seed)
    names = sorted(counts)
    names = [names[i] for i in rng.permutation(len(names))]
    names.sort(key=lambda group: -counts[group].total())
    shares = {"train": 1 - sum(fractions.values()), **fractions}
    chosen = _place(names, counts, Counter(class_names), shares)
    of_class: dict[str, list[str]] = defaultdict(list)
    for group in chosen:
        for name in counts[group]:
            of_class[name].append(group)
    for name in sorted(of_class):
        _give_each_split_one(of_class[name], chosen, counts, list(fractions))
    return [chosen[group] for group in groups]


def _place(
    names: Sequence[str],
    counts: Mapping[str, Counter[str]],
    totals: Counter[str],
    shares: Mapping[str, float],
) -> dict[str, str]:
    """Returns a split for each group, taken in the order of `names`."""
    chosen: dict[str, str] = {}
    have: Counter[tuple[str, str]] = Counter()

    def lack(split: str, group: str) -> float:
        """Returns how far a split is from its target for these classes."""
        open_shares = []
        for name, count in counts[group].items():
            target = shares[split] * totals[name]
            rest = target - have[split, name]
            open_shares.append(count * rest / max(target, 1e-9))
        return sum(open_shares)

    splits = [split for split in shares if shares[split] > 0]
    for group in names:
        best = max(splits, key=lambda split: lack(split, group))
        chosen[group] = best
        for name, count in counts[group].items():
            have[best, name] += count
    return chosen


def _give_each_split_one(
    mine: Sequence[str],
    chosen: dict[str, str],
    counts: Mapping[str, Counter[str]],
    splits: Sequence[str],
) -> None:
    """Moves the smallest of a class's groups to each split without one."""
    if len(mine) < 3:
        return
    for split in ["train", *splits]:
        if any(chosen[group] == split for group in mine):
            continue
        sizes = Counter(chosen[group] for group in mine)
        fullest = max(sizes, key=lambda taken: sizes[taken])
        spare = [group for group in mine if chosen[group] == fullest]
        chosen[min(spare, key=lambda group: counts[group].total())] = split
