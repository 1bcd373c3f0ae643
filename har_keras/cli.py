"""The command line: flags, help, exit codes, and messages on stderr.

`run_verb` and `parse` are all a verb needs. Neither imports keras, so that
`--help` and a wrong flag take no time.
"""

import argparse
import ast
import contextlib
import dataclasses
import functools
import inspect
import itertools
import logging
import os
import signal
import sys
import textwrap
import threading
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from har_keras.config import Config, section_of
from har_keras.environment import PROGRAM_BYTES, require_address_space
from har_keras.errors import EnvironmentFault, HarError, Interrupted, Stopped
from har_keras.files import final_name, own_temporary_folder
from har_keras.interrupts import end_now, insist
from har_keras.processes import kill_all, start_again
from har_keras.ranges import Advanced as Advanced
from har_keras.ranges import Metavar, Range
from har_keras.recipes import PRESETS, RECIPES
from har_keras.run import Run, with_model_of_weights
from har_keras.terminal import (
    flush,
    last_words,
    messages_on_stderr,
    open_streams,
    sentence,
    widen,
)
from har_keras.toml import read_toml

Options = TypeVar("Options")

logger = logging.getLogger("har_keras")


def run_verb(verb: Callable[[], object]) -> int:
    """Runs a verb and returns the exit code of what became of it.

    Errors that people make or meet are printed as one sentence; any other
    exception is a bug and keeps its traceback.

    Args:
        verb: Callable without arguments.

    Returns:
        int. The exit code: 0, or that of the error.

    Example:

    >>> run_verb(lambda: None)
    0
    """
    open_streams()
    with messages_on_stderr(), _terminable() as came:
        try:
            require_address_space(PROGRAM_BYTES, "har-keras")
            with _before_errors(came), own_temporary_folder():
                _run(verb)
        except HarError as error:
            return _failed(error, error.exit_code)
        except KeyboardInterrupt:
            last_words("Stopped by Ctrl-C.")
            return end_now(130)
        except Interrupted as interrupted:
            return end_now(interrupted.exit_code)
        except BrokenPipeError:
            # The reader of our output went away, as `| head` does.
            with contextlib.suppress(OSError):
                flush()
        except OSError as error:
            logger.debug("Refused by the system", exc_info=True)
            return _failed(_refused(error), EnvironmentFault.exit_code)
        except MemoryError:
            return _failed(_NO_MEMORY, EnvironmentFault.exit_code)
    return end_now(0)


_NO_MEMORY = (
    "The memory is used up. Close other programs, or choose a smaller "
    "--batch-size or --crop-size."
)


def _failed(error: object, exit_code: int) -> int:
    """Prints what ended a verb as one line; returns the exit code."""
    last_words(f"Error: {sentence(error)}")
    return exit_code


def _run(verb: Callable[[], object]) -> None:
    """Runs a verb; a failed write of its output is raised here, too."""
    try:
        verb()
    except SystemExit:  # of `--help`, or of the parser
        flush()
        raise
    flush()


def _refused(error: OSError) -> str:
    """Returns what the system refused, as a sentence."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"The system refused to go on: {reason}."
    name = final_name(os.fsdecode(error.filename))
    return f"The system refused '{name}': {reason}."


@dataclass(frozen=True)
class Flags:
    """Which options of `Config` a verb has as flags.

    Metadata of the field `settings` of a verb's options.

    Args:
        names: tuple of str. Sections, or options by themselves.
        without: tuple of str. Options of these sections that are left out.
        common: tuple of str. Options that `--help` shows besides the verb's
            own; `--help-all` shows every one.
    """

    names: tuple[str, ...]
    without: tuple[str, ...] = ()
    common: tuple[str, ...] = ()

    def __contains__(self, option: str) -> bool:
        named = {option, section_of(option)} & set(self.names)
        return bool(named) and option not in self.without


DECODING = Flags(
    ("clip", "store", "split", "recipe", "preset"),
    common=("recipe", "crop_size", "cache", "store_dir", "workers"),
)
"""The options of verbs that decode videos and train nothing."""


def parse(
    options: type[Options], argv: Sequence[str] | None, *, verb: str
) -> Options:
    """Reads the flags of a verb into its dataclass.

    The field `settings`, a `Config` with `Flags`, gives the flags of its
    options. A run (`--resume`), a file (`--config`), a recipe and a preset
    give their defaults; command-line flags take precedence.

    Args:
        options: dataclass type. Its docstring is the description in `--help`.
        argv: Sequence of str or None. The arguments; None is the shell's.
        verb: str. The name of the verb.

    Returns:
        An instance of `options`.

    Raises:
        UsageError: If a value is out of its range. A flag that does not
            exist ends the program with exit code 2, naming the nearest.
    """
    import tyro

    arguments = sys.argv[1:] if argv is None else list(argv)
    settings = _settings(options, arguments)
    common_only = bool({"-h", "--help"} & set(arguments))
    arguments = ["--help" if x == "--help-all" else x for x in arguments]
    widen()
    parsed = tyro.cli(
        command(options, settings, common_only=common_only),
        args=arguments,
        prog=f"har-keras {verb}",
        description=_description(options, common_only=common_only),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
        compact_help=False,
    )
    own: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for name, value in vars(parsed).items():
        if dataclasses.is_dataclass(value):  # a section of `Config`
            chosen |= vars(value)
        else:
            own[name] = value
    if settings is not None:
        own["settings"] = settings.changed(chosen).validated()
    return options(**own)


def command(
    options: Any, settings: Config | None, *, common_only: bool = False
) -> Any:
    """Returns a verb's flags as a dataclass for tyro.

    Args:
        options: dataclass type. The verb's.
        settings: Config or None. Gives the defaults of its `settings`.
        common_only: bool. Whether less common options of `Config` are left
            out, for `--help`. Defaults to `False`.
    """
    hints = typing.get_type_hints(options, include_extras=True)
    # What is inherited is by keyword, and comes last.
    fields = sorted(dataclasses.fields(options), key=lambda x: bool(x.kw_only))
    items = [
        _item(options, item, hints[item.name])
        for item in fields
        if item.name != "settings"
        and not (common_only and Advanced in _metadata(hints[item.name]))
    ]
    if settings is None:
        return _dataclass(options.__name__, items)
    flags = flags_of(options)
    for section in dataclasses.fields(Config):
        part = getattr(settings, section.name)
        hints = typing.get_type_hints(type(part), include_extras=True)
        shown = [
            _item(type(part), item, hints[item.name], getattr(part, item.name))
            for item in dataclasses.fields(part)
            if item.name in flags
            and (not common_only or item.name in flags.common)
        ]
        if not shown:
            continue
        kind = _dataclass(section.name, shown, type(part).__doc__)
        items.append((section.name, kind, dataclasses.field(default=kind())))
    return _dataclass(options.__name__, items)


def default_settings(options: Any) -> Config | None:
    """Returns the defaults of a verb's `settings`; None if it has none."""
    if not flags_of(options).names:
        return None
    found: Config = options.__dataclass_fields__["settings"].default_factory()
    return found


def flags_of(options: Any) -> Flags:
    """Returns which options of `Config` a verb has as flags."""
    hint = typing.get_type_hints(options, include_extras=True).get("settings")
    found = [x for x in _metadata(hint) if isinstance(x, Flags)]
    return found[0] if found else Flags(())


def _dataclass(name: str, items: Any, doc: str | None = None) -> Any:
    # An argument without a default comes first, as Python wants it.
    required = [item for item in items if not _has_default(item[2])]
    rest = [item for item in items if _has_default(item[2])]
    made = dataclasses.make_dataclass(name, required + rest, frozen=True)
    made.__doc__ = doc or ""
    return made


def _has_default(item: Any) -> bool:
    return (
        item.default is not dataclasses.MISSING
        or item.default_factory is not dataclasses.MISSING
    )


def _item(
    owner: Any, item: Any, hint: Any, default: Any = dataclasses.MISSING
) -> tuple[str, Any, Any]:
    """Returns an option as a field that tyro shows well."""
    import tyro

    metadata = _metadata(hint)
    kind = typing.get_args(hint)[0] if metadata else hint
    if default is dataclasses.MISSING:
        default = item.default
    unset = default is None or default == "" or default is dataclasses.MISSING
    extra = [x for x in metadata if not isinstance(x, Range | Metavar)]
    extra = [x for x in extra if x is not Advanced]
    if item.default is False and default is False:
        extra.append(tyro.conf.FlagCreatePairsOff)  # --sample, not --no-sample
    names = [x for x in metadata if isinstance(x, Metavar)]
    shown = tyro.conf.arg(
        help=field_docs(owner)[item.name],
        metavar=str(names[0]) if names else _metavar(kind),
        help_behavior_hint="" if unset else None,
    )
    return item.name, Annotated[(kind, shown, *extra)], _field(item, default)


def _field(item: Any, default: Any) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=item.default_factory)
    if default is dataclasses.MISSING:
        return dataclasses.field()
    return dataclasses.field(default=default)


def _metadata(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__metadata__", ())


def _metavar(kind: Any) -> str | None:
    """Returns what stands for a value in `--help`; None leaves it to tyro."""
    kinds = set(typing.get_args(kind)) or {kind}
    for known, text in _METAVARS.items():
        if known in kinds:
            return text
    return None


_WIDTH = 79
_METAVARS = {Path: "PATH", int: "N", float: "X", str: "TEXT"}


@functools.cache
def field_docs(owner: Any) -> dict[str, str]:
    """Returns the text below each field of a dataclass, in one line each."""
    bases: list[Any] = [x for x in owner.__bases__ if x is not object]
    inherited = {k: v for base in bases for k, v in field_docs(base).items()}
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    return inherited | {
        above.target.id: " ".join(str(below.value.value).split())
        for above, below in itertools.pairwise(body.body)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def _description(options: Any, *, common_only: bool) -> str:
    paragraphs = (inspect.getdoc(options) or "").split("\n\n")
    # tyro joins lines, but for those that begin with a space.
    lines = [
        textwrap.fill(" ".join(x.split()), _WIDTH, subsequent_indent="  ")
        for x in paragraphs
    ]
    hints = typing.get_type_hints(options, include_extras=True).values()
    hidden = any(Advanced in _metadata(hint) for hint in hints)
    if common_only and (hidden or flags_of(options).names):
        lines.append("These are the common options; --help-all shows all.")
    return "\n\n".join(lines)


def _settings(options: Any, arguments: list[str]) -> Config | None:
    """Returns the defaults of a verb's flags: of a run, a file, a recipe."""
    flags, own = flags_of(options), options.__dataclass_fields__
    settings = default_settings(options)
    if settings is None:
        return None
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files = [name for name in ("config", "resume") if name in own]
    names = [x for x in ("preset", "recipe", "weights") if x in flags]
    for name in (*files, *names):
        reader.add_argument(f"--{name}")
    known = vars(reader.parse_known_args(arguments)[0])
    # A run that is resumed keeps its options; flags are changes to them.
    resumed, file = known.pop("resume", None), known.pop("config", None)
    given = Run.open(resumed).config().flat() if resumed else {}
    given |= read_toml(Path(file)) if file else {}
    given |= {
        name: value
        for name, value in known.items()
        if value is not None and value in _KNOWN.get(name, [value])
    }
    if not resumed:
        given = with_model_of_weights(given)
    return settings.replace(**given) if given else settings


# A name that does not exist is left to the parser, which lists those that do.
_KNOWN: dict[str, Collection[str]] = {"preset": PRESETS, "recipe": RECIPES}


@contextlib.contextmanager
def _lost_unseen() -> Iterator[None]:
    """Prints no traceback of a signal that Python drops; it comes again."""
    before = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if not isinstance(dropped.exc_value, Stopped | Interrupted):
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _before_errors(came: Sequence[int]) -> Iterator[None]:
    """Lets a signal come before what libraries and threads made of it."""
    try:
        yield
    except (Exception, Interrupted) as error:
        if came:
            raise _raised(came[0]) from error
        raise


def _raised(number: int) -> BaseException:
    """Returns what a signal raises."""
    return Stopped() if number == signal.SIGINT else Interrupted(number)


@contextlib.contextmanager
def _terminable() -> Iterator[list[int]]:
    """Lets SIGTERM and Ctrl-C unwind the stack, also while ffmpeg is silent.

    Half-written files are then removed. Threads that wait for a frame would
    hold that up, so their processes are ended first.

    Yields:
        list of int. The signals that came, as they come.
    """
    ended, came = threading.Event(), list[int]()

    def interrupt(number: int, _: Any) -> None:
        kill_all(number)
        came.append(number)
        raise insist(_raised(number), signal.Signals(number), ended)

    # What a shell had ignored for a job in the background stays ignored.
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGINT)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    try:
        before = [signal.signal(number, interrupt) for number in numbers]
    except ValueError:  # Not the main thread: its owner handles signals.
        yield came
        return
    try:
        with _lost_unseen():
            yield came
    finally:
        ended.set()
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        start_again()
