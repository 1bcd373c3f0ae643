"""`python -m har_keras`: lists the verbs, runs one, completes their flags."""

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from har_keras.errors import UsageError

VERBS = {
    "train": "train, evaluate and export a classifier from a folder of videos",
    "label": "name, cut and mend the videos of a folder on a page",
    "check": "report bad files, duplicates and leakage before training",
    "prepare": "decode the videos once, ahead of training",
    "pretrain": "pretrain on unlabeled videos, to fine-tune from",
    "evaluate": "evaluate a run on its test split or on another folder",
    "compare": "hold runs against each other on the same test videos",
    "predict": "classify videos, cameras and streams, and localize actions",
    "export": "export for TensorFlow Serving, ONNX, OpenVINO, LiteRT",
    "push": "put a trained model on Hugging Face's hub, private by default",
    "serve": "serve models over HTTP, as TensorFlow Serving does, and videos",
    "app": "classify videos on a page in the browser",
    "cache": "show what decoded frames take on disk, and remove them",
    "models": "list pretrained networks: size, cost, licence",
    "sample": "generate the sample videos",
    "benchmark": "measure this machine, a server, or recipes",
    "doctor": "check this machine, and how to fix what fails",
    "completion": "print the script that completes flags in the shell",
}
Shell = Literal["bash", "zsh"]

_PROGRAM = "har-keras"


def verb_module(verb: str) -> Any:
    """Returns the module of a verb: a file, or a folder with a `__main__`."""
    if verb == "completion":
        return importlib.import_module("har_keras.__main__")
    found = importlib.import_module(f"har_keras.{verb}")
    if hasattr(found, "__path__"):
        return importlib.import_module(f"har_keras.{verb}.__main__")
    return found


def options_of(verb: str) -> dict[str, Any]:
    """Returns the dataclasses of a verb's flags, by part; most have one, ""."""
    module = verb_module(verb)
    if verb == "benchmark":
        return dict(module.OPTIONS)
    return {"": getattr(module, f"{verb.capitalize()}Options")}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb, or lists them all."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["--tyro-print-completion"]:
        # The flag of every program made with tyro.
        arguments[0] = "completion"
    if arguments[:1] == ["completion"]:
        return _print_completion(arguments[1:])
    if arguments and arguments[0] in VERBS:
        return int(verb_module(arguments[0]).main(arguments[1:]))
    from har_keras import cli

    return cli.run_verb(lambda: _list_verbs(arguments))


def _list_verbs(arguments: Sequence[str]) -> None:
    print("usage: har-keras VERB [--help] ...\n")
    for verb, text in VERBS.items():
        print(f"  {verb:11} {text}")
    print(
        "\nExit codes: 0 done, 2 usage, 3 data, 4 environment, 130 Ctrl-C,\n"
        "143 SIGTERM."
    )
    if arguments and arguments[0] not in ("-h", "--help"):
        raise UsageError(f"There is no verb '{arguments[0]}'.")


@dataclass(frozen=True)
class CompletionOptions:
    """Prints the script that lets a shell complete `har-keras` and its flags.

    For bash, once: har-keras completion > ~/.har-keras-completion, and the
    line: source ~/.har-keras-completion in ~/.bashrc.
    """

    shell: Annotated[Shell, tyro.conf.Positional] = "bash"
    """The shell that reads the script."""


def _print_completion(arguments: Sequence[str]) -> int:
    from har_keras import cli

    def verb() -> None:
        options = cli.parse(CompletionOptions, arguments, verb="completion")
        print(completion(options.shell), end="")

    return cli.run_verb(verb)


def completion(shell: Shell = "bash") -> str:
    """Returns a script that completes the verbs and flags of `har-keras`.

    Args:
        shell: str. "bash" or "zsh". Defaults to `"bash"`.

    Returns:
        The script, to be sourced by the shell.
    """
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.cli(
            _subcommands({verb: _flags(verb) for verb in VERBS}),
            args=["--tyro-print-completion", shell],
            prog=_PROGRAM,
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.HelptextFromCommentsOff,
            ),
        )
    return script.getvalue() + (_files_too(script) if shell == "bash" else "")


def _flags(verb: str) -> Any:
    """Returns a verb's flags, or those of its parts, as tyro takes them."""
    from har_keras import cli

    parts = {
        part: cli.command(options, cli.default_settings(options))
        for part, options in options_of(verb).items()
    }
    return parts[""] if "" in parts else _subcommands(parts)


def _subcommands(kinds: dict[str, Any]) -> Any:
    named = tuple(
        Annotated[kind, tyro.conf.subcommand(name)]
        for name, kind in kinds.items()
    )
    return Union[named]  # noqa: UP007 - made from a tuple


def _files_too(script: io.StringIO) -> str:
    """Returns lines for bash: where no flag fits, complete names of files."""
    found = re.findall(rf"complete -F (\w+) {_PROGRAM}", script.getvalue())
    return (
        f"_har_keras() {{ {found[-1]}; "
        '[ -n "${COMPREPLY[*]}" ] || COMPREPLY=(); }\n'
        f"complete -o default -F _har_keras {_PROGRAM}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
