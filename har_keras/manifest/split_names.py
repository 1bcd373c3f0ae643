"""Names that people give to the training, validation and test split."""

import re
from collections.abc import Iterable

from har_keras.errors import DataError

SPLITS = ("train", "val", "test")

_WORDS = {
    "train": r"train(?:ing)?|trn",
    "val": r"val(?:id(?:at(?:e|ion))?)?|dev(?:el(?:opment)?)?",
    "test": r"test(?:ing)?|tst|hold[-_ ]?out",
    "eval": r"eval(?:uat(?:e|ion))?",
}
_FILLERS = r"videos?|clips?|data(?:set)?|frames?|images?|samples?|files?"
_NAMES = {
    split: re.compile(
        rf"(?:(?:{_FILLERS})[-_. ]*)?(?:{words})"
        rf"(?:[-_. ]*(?:set|split|part|folder|list|{_FILLERS}))*"
        r"(?:[-_. ]*\d{1,4}p?)?",
        re.IGNORECASE,
    )
    for split, words in _WORDS.items()
}


def split_of(name: str) -> str:
    """Returns the split that a name stands for, or "".

    Args:
        name: str. Of a folder, or a cell of a table.

    Returns:
        "train", "val", "test" or "".

    Example:

    >>> split_of("Training_Set"), split_of("validate"), split_of("walk")
    ('train', 'val', '')
    """
    return splits_of([name])[name]


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the split of each of some names that stand side by side.

    "eval" is the test split; beside a test split, and without another for
    validation, it is that one.

    Args:
        names: Iterable of str.

    Returns:
        A dict from name to split, "" for a name that is no split's.

    Example:

    >>> splits_of(["train", "eval", "test"])
    {'train': 'train', 'eval': 'val', 'test': 'test'}
    """
    found = {
        name: next(
            (s for s, known in _NAMES.items() if known.fullmatch(name.strip())),
            "",
        )
        for name in names
    }
    others = set(found.values())
    meant = "val" if "test" in others and "val" not in others else "test"
    return {k: meant if v == "eval" else v for k, v in found.items()}


def split_name(text: str) -> str:
    """Returns a text if it is the name of a split, else "".

    What it stands for depends on the names beside it: see `splits_of`.

    Example:

    >>> split_name("eval"), split_name("walk")
    ('eval', '')
    """
    return text if split_of(text) else ""


def require_one_each(splits: dict[str, str]) -> None:
    """Raises if two names stand for one split.

    Args:
        splits: dict from name to split, as of `splits_of`.

    Raises:
        DataError: Names both.
    """
    seen: dict[str, str] = {}
    for name, split in splits.items():
        if split and split in seen:
            raise DataError(
                f"Both '{seen[split]}' and '{name}' are names of the split "
                f"{split}. Put their videos into one folder, or move one away."
            )
        seen[split] = name
