"""Options as a TOML file: `--config`, and the `config.toml` of a run."""

import dataclasses
import functools
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import tomli_w

from har_keras.config import Config, section_of
from har_keras.errors import UsageError, reason_of
from har_keras.files import read_regular

_MOST_DOTS = 64
_MOST_BYTES = 2**20


def read_toml(path: Path) -> dict[str, Any]:
    """Reads options from a TOML file, in sections or without.

    Args:
        path: Path. The file.

    Returns:
        Values by option name, of the types that `Config` has.

    Raises:
        UsageError: If the file is missing or is no TOML, a key is unknown, or
            a value has the wrong type.
    """
    try:
        content = _parsed(read_regular(path, max_bytes=_MOST_BYTES).decode())
    except FileNotFoundError as error:
        raise UsageError(f"There is no config file '{path}'.") from error
    except OSError as error:
        raise UsageError(
            f"'{path}' can't be read: {reason_of(error)}."
        ) from error
    except (RecursionError, ValueError) as error:
        raise UsageError(
            f"'{path}' could not be read as a TOML file: {error}."
        ) from error
    sections = {section.name for section in dataclasses.fields(Config)}
    options: dict[str, Any] = {}
    for key, value in content.items():
        options.update(
            value
            if key in sections and isinstance(value, dict)
            else {key: value}
        )
    options = renamed_options(options)
    return {name: _typed(name, value) for name, value in options.items()}


def _parsed(text: str) -> dict[str, Any]:
    # The parser's memory grows with the square of the parts of a key.
    for line in text.split("\n"):
        if line.count(".") > _MOST_DOTS and not line.lstrip().startswith("#"):
            raise ValueError(f"A line has more than {_MOST_DOTS} dots")
    return tomllib.loads(text)


def write_toml(config: Config, path: Path) -> None:
    """Writes every option that is set, by section."""
    sections = {
        section: {
            name: str(value) if isinstance(value, Path) else value
            for name, value in part.items()
            if value is not None
        }
        for section, part in dataclasses.asdict(config).items()
    }
    path.write_text(tomli_w.dumps(sections), "utf-8")


def renamed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options under today's names, as versions before 0.2 wrote them.

    Args:
        options: Mapping. Values by name, read from a file of any version;
            "None" counts as unset.

    Returns:
        The same options: `init`, `start` and `weights` in one, which is
        `weights`, and `keep_side` as `no_flip_classes`.

    Example:

    >>> renamed_options({"start": "drawn-actions", "epochs": 5})
    {'epochs': 5, 'weights': 'synthetic-actions'}
    >>> renamed_options({"weights": "vit.safetensors", "init": "runs/first"})
    {'weights': 'runs/first'}
    """
    found = dict(options)
    start = found.pop("start", None)
    init = _set(found.pop("init", None))
    weights = init or _set(found.get("weights"))
    if not weights and start is not None:
        weights = "synthetic-actions" if start == "drawn-actions" else "random"
    if weights:
        found["weights"] = weights
    if "keep_side" in found:
        found["no_flip_classes"] = found.pop("keep_side")
    return found


def _set(value: Any) -> Any:
    return None if value in (None, "None") else value


@functools.cache
def _types() -> dict[str, Any]:
    """Returns the type of every option."""
    config = Config()
    return {
        name: kind
        for section in dataclasses.fields(config)
        for name, kind in typing.get_type_hints(
            type(getattr(config, section.name))
        ).items()
    }


def _typed(name: str, value: Any) -> Any:
    """Returns a value read from TOML as the type of its field."""
    if name not in _types():
        section_of(name)  # raises
    kind = _types()[name]
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is Literal:
        if value in typing.get_args(kind):
            return value
        wanted = ", ".join(map(str, typing.get_args(kind)))
        raise UsageError(
            f"{name} must be one of {wanted}. Received: {value!r}."
        )
    if kind is Path and isinstance(value, str):
        if "\0" in value:
            raise UsageError(f"{name} must be a path. Received: {value!r}.")
        return Path(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UsageError(
            f"{name} must be a value of type {kind.__name__}. Received: "
            f"{value!r}."
        )
    return value
