"""`python -m har_keras`: lists the verbs, and runs one."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

VERBS = {
    "train": "a folder of videos into a trained, evaluated, exported run",
    "check": "look at every video before training: bad files, leaks, counts",
    "prepare": "decode the videos once into the store of frames",
    "pretrain": "learn from videos without labels, to train from",
    "evaluate": "measure a run on its test split or on another folder",
    "predict": "what videos, cameras and streams show, and when",
    "export": "a SavedModel for TensorFlow Serving",
    "app": "ask a model about videos in the browser",
    "sample": "draw the sample videos",
    "benchmark": "what limits training on this machine",
    "doctor": "what works on this machine, and how to mend what doesn't",
    "completion": "lets the shell complete verbs and flags of har-keras",
}


def verb_module(verb: str) -> Any:
    """Returns the module of a verb: a file, or a folder with a `__main__`."""
    found = importlib.import_module(f"har_keras.{verb}")
    if hasattr(found, "__path__"):
        return importlib.import_module(f"har_keras.{verb}.__main__")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb, or lists them all."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["--tyro-print-completion"]:
        # As every other program made with tyro is asked.
        arguments[0] = "completion"
    if arguments and arguments[0] in VERBS:
        return int(verb_module(arguments[0]).main(arguments[1:]))
    print("usage: python -m har_keras VERB [--help] ...\n")
    for verb, text in VERBS.items():
        print(f"  {verb:11} {text}")
    if arguments and arguments[0] not in ("-h", "--help"):
        print(f"\nError: there is no verb '{arguments[0]}'.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
