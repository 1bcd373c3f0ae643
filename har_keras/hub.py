"""Models on a hub by name, `owner/name[@revision]`, through huggingface_hub.

Only JSON and `.safetensors` files are downloaded, into that package's cache.
It reads `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN` itself.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors

from har_keras.errors import DataError, EnvironmentFault, HarError, UsageError
from har_keras.hub_config import family_of, options_of

logger = logging.getLogger("har_keras")

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_SCALING = "preprocessor_config.json"

_PART = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_NAME = re.compile(
    rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>\w[\w./-]*))?", re.ASCII
)
_COMMIT = re.compile("[0-9a-f]{40}")
_FILES = (".safetensors", ".keras", ".bin", ".pt", ".pth", ".h5", ".onnx")
_SECONDS = 20.0  # that the hub has to name a commit

SCHEME = "hf://"
"""Begins the address of a model on a hub, where it stands for a run."""


@dataclass(frozen=True)
class HubName:
    """The name of a model on a hub.

    Args:
        repo: str. `owner/name`.
        revision: str or None. A branch, a tag or a commit. Defaults to the
            main branch.
        scheme: str. "hf://" where it was written as an address, which can't be
            meant for a file here.

    Example:

    >>> str(HubName("owner/name", "v1"))
    'owner/name@v1'
    """

    repo: str
    revision: str | None = None
    scheme: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.scheme}{self.repo}{revision}"

    @property
    def is_exact(self) -> bool:
        """Whether the revision is a commit, whose files never change."""
        return bool(self.revision and _COMMIT.fullmatch(self.revision))

    @property
    def is_no_file(self) -> str:
        """For messages, what else than a model on a hub was looked for."""
        return "" if self.scheme else "is no file or folder here and "


def hub_name(weights: str) -> HubName | None:
    """Returns the name of a model on a hub; None if it is of another form.

    A file or folder of that name takes precedence. If there is a folder of
    the owner's name, `runs/first` is a path, so that a slip in the name of a
    run is not sent to a hub; `runs/first@main` is not.

    Args:
        weights: str. The value of `--weights`.

    Example:

    >>> hub_name("owner/name@v1").revision
    'v1'
    >>> hub_name("a/b/c") is None
    True
    """
    match = _NAME.fullmatch(weights)
    if match is None or ".." in weights or Path(weights).exists():
        return None
    name = HubName(**match.groupdict())
    is_path = Path(name.repo).parent.is_dir() or name.repo.endswith(_FILES)
    return None if is_path and not name.revision else name


def hub_address(text: str) -> HubName | None:
    """Returns the name in `hf://owner/name[@revision]`; None without `hf://`.

    Raises:
        UsageError: If what follows is no name.

    Example:

    >>> hub_address("hf://owner/name@v1")
    HubName(repo='owner/name', revision='v1', scheme='hf://')
    >>> hub_address("owner/name") is None
    True
    """
    if not text.startswith(SCHEME):
        return None
    rest = text.removeprefix(SCHEME)
    match = _NAME.fullmatch(rest)
    if match is None or ".." in rest:
        raise UsageError(
            f"'{text}' is no address of a model. Expected "
            f"{SCHEME}owner/name or {SCHEME}owner/name@revision."
        )
    return HubName(**match.groupdict(), scheme=SCHEME)


def hub_options(name: HubName) -> dict[str, Any]:
    """Returns the options of a model, read from its `config.json`.

    Args:
        name: HubName. A ViViT, VideoMAE, TimeSformer or image ViT.

    Returns:
        Values by option name: dimensions, clip, and the nearest preset.

    Raises:
        UsageError: If there is no such model, or it is of another kind.
        DataError: If its `config.json` is damaged.
        EnvironmentFault: As for `download`.
    """
    exact = _exact(name)
    return options_of(_settings(exact), str(name))


def download(name: HubName) -> tuple[HubName, Path]:
    """Downloads a model's weights and settings, unless they are cached.

    Args:
        name: HubName. A ViViT, VideoMAE, TimeSformer or image ViT.

    Returns:
        The name with its commit, and the `.safetensors` file, which has its
        `config.json` beside it.

    Raises:
        UsageError: If there is no such model, or it is of another kind.
        DataError: If a file is damaged.
        EnvironmentFault: If the hub can't be reached, access is refused, or
            huggingface_hub is missing.
    """
    exact = _exact(name)
    family = family_of(_settings(exact), str(name))
    hub_file(exact, _SCALING)
    file = hub_file(exact, _WEIGHTS)
    if file is None:
        raise _without_weights(exact)
    _require_weights_of(family, file, exact)
    return exact, file


def _exact(name: HubName) -> HubName:
    return exact_name(name, _CONFIG, _WEIGHTS, _without_config)


def exact_name(
    name: HubName,
    first: str,
    last: str,
    without: Callable[[HubName], HarError],
) -> HubName:
    """Returns a name with its commit; without a network, the cached one.

    Args:
        name: HubName. The model.
        first: str. The small file that tells that it is of the right kind.
        last: str. The file that is downloaded last.
        without: Callable. Returns the error for a model without `first`.

    Raises:
        HarError: Of `without`; or as for `download`.
    """
    if name.is_exact and _cached(name, last):
        return name
    hub = hub_package(name)
    try:
        files_on_hub(name)  # fails at once, where a download would try on
        # By the name that was given: the cache then knows its commit.
        found = hub.hf_hub_download(name.repo, first, revision=name.revision)
    except Exception as error:
        if _is_missing(name, error):
            raise without(name) from error
        return _exact_of_cache(name, first, error)
    exact = replace(name, revision=Path(found).parent.name)
    if not exact.is_exact:
        raise EnvironmentFault(
            f"The hub {endpoint_of(hub)} names no commit of '{name}'. "
            "Check HF_ENDPOINT."
        )
    return exact


def _exact_of_cache(name: HubName, file: str, error: Exception) -> HubName:
    """Returns the name with the cached commit, where the hub gave none."""
    fault = _fault(name, error)
    if not isinstance(fault, EnvironmentFault):
        raise fault from error
    cached = _cached(name, file)
    if cached is None:
        raise fault from error
    if not is_offline(hub_package(name)):
        logger.warning(
            "'%s' is taken from the cache, as the hub gave no answer (%s).",
            name,
            reason_of(error),
        )
    return replace(name, revision=cached.parent.name)


def files_on_hub(name: HubName) -> list[str]:
    """Returns the names of a model's files, as the hub lists them."""
    return [file.rfilename for file in model_on_hub(name).siblings or ()]


def model_on_hub(name: HubName) -> Any:
    """Returns what the hub tells of a model, as huggingface_hub has it."""
    return (
        hub_package(name)
        .HfApi()
        .model_info(name.repo, revision=name.revision, timeout=_SECONDS)
    )


def _is_missing(name: HubName, error: Exception) -> bool:
    """Returns whether the hub was asked for a file that it does not have."""
    errors = hub_package(name).errors
    return isinstance(error, errors.EntryNotFoundError) and not isinstance(
        error, errors.LocalEntryNotFoundError
    )


def _cached(name: HubName, filename: str) -> Path | None:
    """Returns a file of the cache, without asking the hub."""
    found = hub_package(name).try_to_load_from_cache(
        name.repo, filename, revision=name.revision
    )
    return Path(found) if isinstance(found, str) else None


def hub_file(
    exact: HubName, filename: str, large: str = _WEIGHTS
) -> Path | None:
    """Returns a file, downloaded if need be; None if the model has none.

    Args:
        exact: HubName. The model, with its commit.
        filename: str. The file.
        large: str. The file whose download is told.

    Raises:
        HarError: As for `download`.
    """
    hub = hub_package(exact)
    place = {"filename": filename, "revision": exact.revision}
    found = hub.try_to_load_from_cache(exact.repo, **place)
    if found is not None:  # else a path, or the mark of one that is missing
        return Path(found) if isinstance(found, str) else None
    if filename == large:
        logger.info("Downloading the weights of '%s'.", exact)
    try:
        return Path(hub.hf_hub_download(exact.repo, **place))
    except Exception as error:
        if _is_missing(exact, error):
            return None
        raise _fault(exact, error) from error


def _settings(exact: HubName) -> dict[str, Any]:
    """Returns the content of a model's `config.json`."""
    file = hub_file(exact, _CONFIG)
    if file is None:
        raise _without_config(exact)
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except OSError as error:
        raise _unreadable(file, error) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged_file(exact, file, error) from error


def _require_weights_of(family: str, file: Path, exact: HubName) -> None:
    """Checks a file of weights by its header, which has the place of each."""
    try:
        with safetensors.safe_open(file, "numpy") as weights:
            names = set(weights.keys())
    except OSError as error:
        raise _unreadable(file, error) from error
    except safetensors.SafetensorError as error:
        raise damaged_file(exact, file, error) from error
    if f"{family}.embeddings.patch_embeddings.projection.weight" not in names:
        raise UsageError(
            f"'{exact}' is a {family} by its {_CONFIG}, but not by "
            f"its weights, such as '{min(names, default='')}'. Choose a model "
            "that was saved with its head."
        )


def damaged_file(exact: HubName, file: Path, error: Exception) -> DataError:
    """Removes a file from the cache; returns the error to raise."""
    for path in (file.resolve(), file):  # the content, and the link to it
        path.unlink(missing_ok=True)
    return DataError(
        f"The {file.name} of '{exact}' is damaged ({error}). It was "
        "removed from the cache; the same command downloads it again."
    )


def _unreadable(file: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(
        f"'{file}', a file of the cache, can't be read: "
        f"{error.strerror or error}. Check who may read it."
    )


def _without_config(name: HubName) -> UsageError:
    return UsageError(
        f"'{name}' has no {_CONFIG}, so it is no model of "
        "transformers. Choose a ViViT, VideoMAE, TimeSformer or image ViT."
    )


def _without_weights(exact: HubName) -> HarError:
    """Returns the error for a model without `model.safetensors`."""
    try:
        files = files_on_hub(exact)
    except Exception as error:
        return _fault(exact, error)
    if _INDEX in files:
        return UsageError(
            f"'{exact}' has its weights in several files, listed in "
            f"{_INDEX}. Save them as one {_WEIGHTS} and give that file."
        )
    others = [x for x in files if x.endswith((".bin", ".h5", ".msgpack"))]
    return UsageError(
        f"'{exact}' has no {_WEIGHTS}, the only format that is read. "
        f"It has {', '.join(others) or 'no weights'}. Choose a revision with "
        f"one, such as {exact.repo}@refs/pr/1, or another model."
    )


def hub_package(name: HubName) -> Any:
    """Returns the module huggingface_hub."""
    # It reads this when it is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise EnvironmentFault(
            f"'{name}' {name.is_no_file}needs the package huggingface_hub "
            f"({error}), as a model of a hub. Install it with: pip install "
            '"har_keras[hub]".'
        ) from error
    except ValueError as error:
        # What it says may quote an address with a password in it.
        raise UsageError(
            "huggingface_hub refuses a variable of the environment that begins "
            "with HF_, such as HF_ENDPOINT, an address, or "
            "HF_HUB_DOWNLOAD_TIMEOUT, whole seconds. Correct or unset it."
        ) from error
    return huggingface_hub


# The errors of its HTTP library are others in each version, so all are caught
# where it is called.
def _fault(name: HubName, error: Exception) -> HarError:
    """Returns an error of huggingface_hub as one of this package."""
    hub = hub_package(name)
    found, place = hub.errors, endpoint_of(hub)
    if isinstance(error, found.GatedRepoError):
        return EnvironmentFault(
            f"'{name}' is gated. Accept its terms on "
            f"{place}/{name.repo} and set HF_TOKEN."
        )
    if isinstance(
        error, found.RepositoryNotFoundError | found.HFValidationError
    ):
        kind = "no" if name.scheme else "neither a file or folder here nor a"
        return UsageError(
            f"'{name}' is {kind} model of the hub {place}. Check the name; a "
            "private model needs HF_TOKEN."
        )
    if isinstance(error, found.RevisionNotFoundError):
        return UsageError(
            f"The hub {place} has {name.repo}, but no revision "
            f"'{name.revision}' of it. Give a branch, a tag or a commit."
        )
    if is_offline(hub):
        return EnvironmentFault(
            f"'{name}' {name.is_no_file}is not in the cache of "
            "huggingface_hub, which is offline. Unset HF_HUB_OFFLINE to "
            "download it."
        )
    return _not_downloaded(name, error, place)


def _not_downloaded(
    name: HubName, error: Exception, place: str
) -> EnvironmentFault:
    way = "Check the network and HF_ENDPOINT, and try again."
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        way = "Check HF_TOKEN, or remove it for what is public."
    if getattr(error, "errno", None) == errno.ENOSPC:
        way = "Free some space, or set HF_HUB_CACHE to a folder elsewhere."
    return EnvironmentFault(
        f"'{name}' {name.is_no_file}could not be downloaded from the hub "
        f"{place} ({reason_of(error)}). {way}"
    )


def reason_of(error: Exception) -> str:
    """Returns what went wrong, in one line."""
    first = str(error.__cause__ or error).strip().partition("\n")[0]
    return first.rstrip(".") or type(error).__name__


def endpoint_of(hub: Any) -> str:
    """Returns the address of the hub, without a password that is in it."""
    return re.sub(r"//[^/]*@", "//", str(hub.constants.ENDPOINT))


def is_offline(hub: Any) -> bool:
    """Returns whether huggingface_hub was told to ask no hub."""
    return bool(hub.constants.HF_HUB_OFFLINE)
