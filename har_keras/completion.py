"""`python -m har_keras.completion`: what the shell needs to complete flags."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from har_keras import cli

Shell = Literal["bash", "zsh"]

_PROGRAM = "har-keras"


@dataclass(frozen=True)
class CompletionOptions:
    """Prints the script that lets a shell complete `har-keras` and its flags.

    For bash, once: har-keras completion > ~/.har-keras-completion, and the
    line: source ~/.har-keras-completion in ~/.bashrc.
    """

    shell: Annotated[Shell, tyro.conf.Positional] = "bash"
    """The shell that is to read it."""


def completion(shell: Shell = "bash") -> str:
    """Returns a script that completes the verbs and flags of `har-keras`.

    Args:
        shell: str. "bash" or "zsh". Defaults to `"bash"`.

    Returns:
        The script, to be sourced by the shell.
    """
    from har_keras.__main__ import VERBS

    verbs: Any = tuple(Annotated[_options(v), _named(v)] for v in VERBS)
    choice: Any = Union[verbs]  # noqa: UP007 - made from a tuple
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.cli(
            choice,
            args=["--tyro-print-completion", shell],
            prog=_PROGRAM,
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.HelptextFromCommentsOff,
            ),
        )
    return script.getvalue() + (_files_too(script) if shell == "bash" else "")


def _files_too(script: io.StringIO) -> str:
    """Returns lines for bash: where no flag fits, complete names of files."""
    found = re.findall(rf"complete -F (\w+) {_PROGRAM}", script.getvalue())
    return (
        f"_har_keras() {{ {found[-1]}; "
        '[ -n "${COMPREPLY[*]}" ] || COMPREPLY=(); }\n'
        f"complete -o default -F _har_keras {_PROGRAM}\n"
    )


def _named(verb: str) -> Any:
    return tyro.conf.subcommand(verb)


def _options(verb: str) -> Any:
    """Returns the dataclass of a verb's flags, or of those of its parts."""
    from har_keras.__main__ import verb_module

    module = verb_module(verb)
    if verb != "benchmark":
        return getattr(module, f"{verb.capitalize()}Options")
    parts = (
        Annotated[module.StepOptions, _named("step")],
        Annotated[module.InputOptions, _named("input")],
    )
    return Union[parts]  # noqa: UP007 - made from a tuple


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the script."""

    def verb() -> None:
        options = cli.parse(CompletionOptions, argv, verb="completion")
        print(completion(options.shell), end="")

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
