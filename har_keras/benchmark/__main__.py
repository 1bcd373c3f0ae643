"""`python -m har_keras.benchmark`: how fast this machine is, and at what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from har_keras import cli
from har_keras.benchmark.cross_validation import _recipes
from har_keras.benchmark.input import _input
from har_keras.benchmark.step import _step
from har_keras.errors import UsageError

if TYPE_CHECKING:
    pass

USAGE = """usage: python -m har_keras.benchmark PART [options]

Parts:
  step    training steps: clips/s, processor time, memory, share of the
          machine's arithmetic
  input   decoding, the frame store and augmentation: clips per cpu-second,
          and what they take beside a training step
  recipes recipes on a folder of videos, cross-validated by group over seeds

-h after a part shows its options.
"""


PARTS: dict[str, Callable[[Sequence[str]], None]] = {
    "step": _step,
    "input": _input,
    "recipes": _recipes,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the part that the first argument names."""

    def verb() -> None:
        arguments = sys.argv[1:] if argv is None else list(argv)
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return
        part, *rest = arguments
        if part not in PARTS:
            raise UsageError(
                f"There is no benchmark '{part}'. Choose {', '.join(PARTS)}."
            )
        PARTS[part](rest)

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
