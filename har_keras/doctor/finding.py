"""The result of a check of `doctor`."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "look", "bad"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        state: str. "ok", "look" (works, with a caveat) or "bad" (does not
            work).
        topic: str. What was checked, in a word.
        text: str. What was found.
        mend: str. The remedy; "" if none is needed.
    """

    state: State
    topic: str
    text: str
    mend: str = ""
