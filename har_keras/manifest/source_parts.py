"""Decides which part of a name is the source of a video, class by class.

First schemes that are known by their form, then persons; of all other parts
the coarsest that leaves a class enough groups to reach every split.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from har_keras.manifest.names import (
    DAY,
    HOUR,
    NAMED_PARTS,
    PIECE,
    SEGMENT,
    START,
    YOUTUBE,
    Name,
    Part,
    counted_parts,
    folder_parts,
    has_digit,
    looks_random,
    word_parts,
)

# A part of names is a source if enough of a class's names have it, ...
_LEAST_COVERAGE = 0.6
# ... and it has this many values, so that a class reaches every split. Words
# that don't say what they are need more, for they may be kinds of content,
# unless they occur in other classes too, as names of people do.
_LEAST_GROUPS = 3
_FEWEST_GROUPS = 5
_LARGEST_SHARE = 0.34
_LARGEST_SHARED = 0.6
_MUCH_COARSER = 1.5


_Members = dict[str, list[int]]
_Candidate = tuple[float, Part, _Members, _Members]


class SourceParts:
    """The part of names that tells sources apart, chosen class by class.

    Args:
        names: Sequence of Name. Every name of a folder.

    Attributes:
        chosen: Mapping from the index of a name to its part; names in which
            nothing is seen are left out.
    """

    def __init__(self, names: Sequence[Name]) -> None:
        self.names = names
        self.chosen: dict[int, Part] = {}
        # A part's value in every name, and the classes that have each.
        self._keys: dict[Part, list[str]] = {}
        self._classes: dict[Part, dict[str, set[str]]] = {}
        for part in NAMED_PARTS:
            self._take(part, self._fitting(part))
        self._take_identifiers()
        self._take_persons()
        self._take_coarsest()
        self._take(SEGMENT, self._fitting(SEGMENT))
        self._take_single_recordings()
        self._leave_what_leaves_no_test()

    def _rest(self) -> dict[str, list[int]]:
        """Returns the names without a part yet, by class."""
        rest: dict[str, list[int]] = defaultdict(list)
        for i, name in enumerate(self.names):
            if i not in self.chosen:
                rest[name.class_name].append(i)
        return rest

    def _fitting(self, part: Part, least: float = 0.0) -> dict[str, list[int]]:
        """Returns the names that have a part, in classes with enough."""
        fitting = {}
        for class_name, rest in self._rest().items():
            keys = self._keys_of(part)
            mine = [i for i in rest if keys[i]]
            if mine and len(mine) >= least * len(rest):
                fitting[class_name] = mine
        return fitting

    def _values(self, part: Part, members: Sequence[int]) -> Counter[str]:
        keys = self._keys_of(part)
        return Counter(keys[i] for i in members)

    def _keys_of(self, part: Part) -> list[str]:
        if part not in self._keys:
            self._keys[part] = [part.key(name) for name in self.names]
        return self._keys[part]

    def _in_others(self, part: Part, value: str) -> bool:
        """Returns whether several classes have a value."""
        if part not in self._classes:
            found = self._classes.setdefault(part, defaultdict(set))
            for key, name in zip(self._keys_of(part), self.names, strict=True):
                found[key].add(name.class_name)
        return len(self._classes[part][value]) > 1

    def _take(self, part: Part, fitting: Mapping[str, list[int]]) -> None:
        for members in fitting.values():
            self.chosen |= dict.fromkeys(members, part)

    def _take_identifiers(self) -> None:
        for class_name, members in self._fitting(
            YOUTUBE, _LEAST_COVERAGE
        ).items():
            values = self._values(YOUTUBE, members)
            random = sum(map(looks_random, values)) / len(values)
            if len(values) < len(members) and random > 0.7:
                self._take(YOUTUBE, {class_name: members})

    def _take_persons(self) -> None:
        rest = [self.names[i] for mine in self._rest().values() for i in mine]
        for part in counted_parts(rest, person=True):
            fitting = self._fitting(part, _LEAST_COVERAGE)
            every = [i for members in fitting.values() for i in members]
            values = self._values(part, every)
            # One letter and a number may be anything; a source recurs.
            is_word = len(part.what.split()[0]) > len("'id'")
            recurs = len(values) < len(every)
            if len(values) >= _LEAST_GROUPS - is_word and (is_word or recurs):
                self._take(part, fitting)

    def _take_single_recordings(self) -> None:
        """Takes recordings that are too few for a class to reach all splits."""
        rest = [self.names[i] for mine in self._rest().values() for i in mine]
        for part in (*counted_parts(rest, person=False), PIECE):
            fitting = self._fitting(part, _LEAST_COVERAGE)
            self._take(
                part,
                {
                    c: m
                    for c, m in fitting.items()
                    if 2 * len(self._values(part, m)) <= len(m)
                    and all(map(has_digit, self._values(part, m)))
                },
            )

    def _take_coarsest(self) -> None:
        """Takes the part with the fewest groups that are still enough."""
        rest = [self.names[i] for mine in self._rest().values() for i in mine]
        parts = _unsure_parts(rest)
        while True:
            found: list[_Candidate] = []
            for part in parts:
                fitting = self._fitting(part, _LEAST_COVERAGE)
                good = {
                    c: m for c, m in fitting.items() if self._believes(part, m)
                }
                if good:
                    sizes = [len(self._values(part, m)) for m in good.values()]
                    found.append((median(sizes), part, fitting, good))
            if not found:
                return
            found = _without_deep_cuts(found)
            words = [row for row in found if not self._counts(row[1], row[3])]
            found = words or found
            enough = [row for row in found if row[0] >= _FEWEST_GROUPS]
            best = (
                min(enough, key=lambda row: (row[0], not row[1].is_named))
                if enough
                else max(found, key=lambda row: row[0])
            )
            _, part, fitting, good = best
            if 2 * len(good) >= len(fitting):
                # What holds in most classes holds in a class of few sources.
                good = {
                    c: m
                    for c, m in fitting.items()
                    if part.is_named or len(self._values(part, m)) > 1
                }
            self._take(part, good)

    def _believes(self, part: Part, members: Sequence[int]) -> bool:
        """Returns whether values look like sources, not kinds of content."""
        values = self._values(part, members)
        largest = max(values.values()) / len(members)
        if len(values) < _LEAST_GROUPS:
            return False
        if part.meaning in ("day", "hour"):
            return True
        repeats = len(values) < len(members) / 1.25
        if part.is_named:
            return repeats
        if part.what == "the folder":
            return repeats
        if not self._aligned(part, members):
            return False
        shared = sum(self._in_others(part, v) for v in values) / len(values)
        numbers = sum(map(has_digit, values)) / len(values)
        if numbers > 0.5 and part.place is not None:
            return repeats and self._leads(part, members, values, largest)
        if shared >= 0.5 and (repeats or len(values) >= _FEWEST_GROUPS):
            return largest <= _LARGEST_SHARED and (repeats or numbers < 0.5)
        return (
            repeats
            and len(values) >= _FEWEST_GROUPS
            and largest <= _LARGEST_SHARE
        )

    def _leads(
        self,
        part: Part,
        members: Sequence[int],
        values: Mapping[str, int],
        largest: float,
    ) -> bool:
        """Returns whether a number names a source and counts nothing.

        It is followed by another and no word before it is a source or differs
        from file to file.
        """
        place = part.place or 0
        words = [self.names[i].words for i in members]
        before = {tuple(name[:place]) for name in words}
        last = sum(len(name) == place + 1 for name in words)
        return (
            len(values) >= _FEWEST_GROUPS
            and largest <= _LARGEST_SHARE
            and len(before) < min(_LEAST_GROUPS, len(members))
            and last < len(words) / 2
        )

    def _counts(self, part: Part, good: _Members) -> bool:
        """Returns whether a part is a word of its own and mostly numbers."""
        if part.is_named or part.place is None:
            return False
        values = {part.key(self.names[i]) for m in good.values() for i in m}
        return 2 * sum(map(has_digit, values)) > len(values)

    def _aligned(self, part: Part, members: Sequence[int]) -> bool:
        """Returns whether names have one form, so that places mean the same."""
        if part.what == START:
            return True
        lengths = Counter(len(self.names[i].words) for i in members)
        return max(lengths.values()) >= 0.8 * len(members)

    def _leave_what_leaves_no_test(self) -> None:
        """Drops parts that would leave at most one class with two groups."""
        groups = defaultdict(set)
        for i, name in enumerate(self.names):
            part = self.chosen.get(i)
            groups[name.class_name].add(part.key(name) if part else name.file)
        single = [c for c, found in groups.items() if len(found) < 2]
        if len(groups) - len(single) < min(2, len(groups)):
            self.chosen = {
                i: part
                for i, part in self.chosen.items()
                if self.names[i].class_name not in single
            }


def _without_deep_cuts(found: list[_Candidate]) -> list[_Candidate]:
    """Leaves out starts of names that are shorter without joining much."""
    kept: list[_Candidate] = []
    fewest = float("inf")
    for row in found:
        is_start = row[1].what == START
        if not is_start or row[0] * _MUCH_COARSER <= fewest:
            kept.append(row)
            fewest = min(fewest, row[0]) if is_start else fewest
    return kept


def _unsure_parts(names: Sequence[Name]) -> list[Part]:
    return [
        *counted_parts(names, person=False),
        DAY,
        HOUR,
        PIECE,
        *folder_parts(names),
        *word_parts(names),
    ]
