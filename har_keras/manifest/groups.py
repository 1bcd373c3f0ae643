"""Groups of related videos, and splits that keep each group whole.

Videos of one person, place or recording in several splits are leakage: a
model can then recognize the scenery instead of the action. So no group is
divided by a split.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

# Groups guessed from file names are accepted if no class has fewer groups than
# this, and no group is a larger share of a class: "squat_01, squat_02, ..."
# names the action and not the recording.
_FEWEST_GROUPS = 5
_LARGEST_SHARE = 0.25

Rule = Callable[[str], str]


def _by_pattern(pattern: str) -> Rule:
    compiled = re.compile(pattern, re.IGNORECASE)

    def rule(stem: str) -> str:
        match = compiled.match(stem)
        return match[1] if match else ""

    return rule


# A name that matches one of these identifies the recording.
NAMED_RULES: tuple[tuple[str, Rule], ...] = (
    ("'_g01_' as in UCF101", _by_pattern(r"(.*_g\d+)_")),
    ("'person01_' as in KTH", _by_pattern(r"(person\d+)[_-]")),
    ("'-seg01' for parts of a recording", _by_pattern(r"(.+?)[-_]seg\d+")),
)
# A name that matches one of these may; used if the groups are plausible.
PREFIX_RULES = (
    _by_pattern(r"(.*\d.*?)[-_].*?\d+$"),
    _by_pattern(r"(.+?)[-_. ]?\d+$"),
)


def guess_groups(files: Sequence[tuple[str, str]]) -> tuple[list[str], str]:
    """Infers the groups of videos from their file names.

    Args:
        files: Sequence of pairs of file and class name.

    Returns:
        A group for each file, and the rules in words. A file that no rule
        matches is a group of its own.

    Example:

    >>> names = [f"v_Walk_g{g:02}_c{c}.avi" for g in range(9) for c in (1, 2)]
    >>> groups, rule = guess_groups([(name, "walk") for name in names])
    >>> groups[:3], rule
    (['v_Walk_g00', 'v_Walk_g00', 'v_Walk_g01'], "'_g01_' as in UCF101")
    """
    groups = [file for file, _ in files]
    words = []
    rest = list(range(len(files)))
    for name, rule in NAMED_RULES:
        fitting = [i for i in rest if rule(_stem(files[i][0]))]
        words += [name] if fitting else []
        for i in fitting:
            groups[i] = rule(_stem(files[i][0]))
        rest = [i for i in rest if groups[i] == files[i][0]]
    for rule in PREFIX_RULES:
        guess = [rule(_stem(files[i][0])) or files[i][0] for i in rest]
        if _believable(guess, [files[i][1] for i in rest]):
            for i, group in zip(rest, guess, strict=True):
                groups[i] = group
            return groups, ", ".join([*words, "the start of the name"])
    return groups, ", ".join(words) or "each file by itself"


def _stem(file: str) -> str:
    return PurePosixPath(file).stem


def _believable(groups: Sequence[str], class_names: Sequence[str]) -> bool:
    """Returns whether groups look like recordings, not kinds of content."""
    if len(set(groups)) == len(groups):
        return False
    by_class: dict[str, list[str]] = defaultdict(list)
    for group, name in zip(groups, class_names, strict=True):
        by_class[name].append(group)
    for members in by_class.values():
        sizes = Counter(members)
        largest = max(sizes.values())
        # A group of one file is fine, whatever its share.
        too_large = largest > max(1, _LARGEST_SHARE * len(members))
        if len(sizes) < min(_FEWEST_GROUPS, len(members)) or too_large:
            return False
    return True


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
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for group, key in zip(groups, keys, strict=True):
        if key:
            parent[root(group)] = root(first.setdefault(key, group))
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
    for name in sorted(set(class_names)):
        _give_each_split_one(name, chosen, counts, list(fractions))
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
    name: str,
    chosen: dict[str, str],
    counts: Mapping[str, Counter[str]],
    splits: Sequence[str],
) -> None:
    """Moves a class's smallest group to each split that has none of it."""
    mine = [group for group in chosen if counts[group][name]]
    if len(mine) < 3:
        return
    for split in ["train", *splits]:
        if any(chosen[group] == split for group in mine):
            continue
        sizes = Counter(chosen[group] for group in mine)
        fullest = max(sizes, key=lambda taken: sizes[taken])
        spare = [group for group in mine if chosen[group] == fullest]
        chosen[min(spare, key=lambda group: counts[group].total())] = split
