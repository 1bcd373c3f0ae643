"""A place on Hugging Face's hub, for the model that is pushed to it."""

import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from har_keras._version import __version__
from har_keras.errors import EnvironmentFault, HarError, UsageError
from har_keras.hub import (
    HubName,
    endpoint_of,
    hub_package,
    is_offline,
    model_on_hub,
    reason_of,
)
from har_keras.hub_run import NEEDED
from har_keras.progress import plural
from har_keras.run import Run

logger = logging.getLogger("har_keras")


@dataclass(frozen=True)
class PushedModel:
    """A model on a hub.

    Args:
        name: str. Its address with the commit, for `har_keras.load`.
        url: str. The page of the commit.
        is_private: bool. Whether only its owner sees it.
        files: Mapping from name to size in bytes.
        earlier: str. Its address before that, "" if it is new.
    """

    name: str
    url: str
    is_private: bool
    files: Mapping[str, int]
    earlier: str = ""


@dataclass(frozen=True)
class Place:
    """The place of a model on the hub, which may be pushed to.

    Args:
        name: HubName. Its name.
        is_private: bool. Whether it is, or will be, private.
        commit: str or None. The commit there; None if there is no model yet.
        files: tuple of str. The files of that commit.
    """

    name: HubName
    is_private: bool
    commit: str | None = None
    files: tuple[str, ...] = ()

    @classmethod
    def found(cls, name: HubName, *, public: bool) -> "Place":
        """Asks the hub, and refuses what can't or mustn't be pushed to."""
        hub = hub_package(name)
        if is_offline(hub):
            raise EnvironmentFault(
                f"Nothing can be pushed to '{name}' while huggingface_hub is "
                "offline. Unset HF_HUB_OFFLINE."
            )
        try:
            if hub.get_token() is None:
                raise EnvironmentFault(
                    f"Pushing to '{name}' needs a token with the right to "
                    "write, and there is none. Set HF_TOKEN, or run: hf auth "
                    "login"
                )
            _require_right(name, hub.HfApi().whoami())
            known = model_on_hub(name)
        except HarError:
            raise
        except hub.errors.RepositoryNotFoundError:
            return cls(name, not public)
        except Exception as error:  # of its HTTP library, of any type
            raise _fault(name, error) from error
        files = tuple(file.rfilename for file in known.siblings or ())
        place = cls(name, bool(known.private), known.sha, files)
        place._require_ours()
        place._require_seen(public)
        return place

    def _require_ours(self) -> None:
        """Raises `UsageError` if there is something else than of `push`."""
        others = [x for x in self.files if not _is_ours(x)]
        if others and not set(NEEDED) <= set(self.files):
            raise UsageError(
                f"'{self.name}' is there and is no model of har_keras: it has "
                f"{', '.join(map(repr, others[:3]))}. It was left as it is; "
                "choose another name."
            )

    def _require_seen(self, public: bool) -> None:
        """Raises `UsageError` if it is seen by others than was said."""
        if self.is_private == (not public):
            return
        ways = ("public", "add --public", "private", "leave out --public")
        is_now, way = ways[2:] if self.is_private else ways[:2]
        raise UsageError(
            f"'{self.name}' is there and {is_now}, which a push does not "
            f"change. To push to it, {way}; its settings on the hub change it."
        )

    def filled(self, folder: Path) -> PushedModel:
        """Puts the files of a folder there, in one commit."""
        hub = hub_package(self.name)
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }
        gone = [x for x in self.files if _is_ours(x) and x not in files]
        operations = [
            *(
                hub.CommitOperationAdd(x, str(path))
                for x, path in files.items()
            ),
            *(hub.CommitOperationDelete(x) for x in gone if x[0] != "."),
        ]
        sizes = {x: path.stat().st_size for x, path in files.items()}
        logger.info("Pushing %s.", _amount(sizes))
        try:
            with _bars_on_terminals(hub):
                made = self._committed(hub.HfApi(), operations)
        except Exception as error:  # of its HTTP library, of any type
            raise _fault(self.name, error) from error
        before = "" if self.commit in (None, made.oid) else str(self.commit)
        return PushedModel(
            str(dataclasses.replace(self.name, revision=made.oid)),
            str(made.commit_url),
            self.is_private,
            sizes,
            before and str(dataclasses.replace(self.name, revision=before)),
        )

    def _committed(self, api: Any, operations: Sequence[Any]) -> Any:
        if self.commit is None:
            api.create_repo(self.name.repo, private=self.is_private)
        return api.create_commit(
            self.name.repo,
            operations,
            commit_message=f"Push of har_keras {__version__}",
            parent_commit=self.commit,
        )


@contextlib.contextmanager
def _bars_on_terminals(hub: Any) -> Iterator[None]:
    """Leaves huggingface_hub's bars out of files and notebooks' outputs."""
    is_said = hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    if is_said or sys.stderr.isatty():
        yield
        return
    hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        hub.utils.enable_progress_bars()


def _is_ours(file: str) -> bool:
    """Whether a file on the hub is one that `push` or the hub writes."""
    run = Run("")
    own = (
        run.calibration_file, run.card_file, run.confusion_file,
        run.curves_file,
    )  # fmt: skip
    known = {*NEEDED, *(x.name for x in own), ".gitattributes"}
    return file in known or file.startswith(f"{run.saved_model_dir.name}/")


def _require_right(name: HubName, me: Mapping[str, Any]) -> None:
    """Raises `EnvironmentFault` if a token can't write under a name."""
    owner = name.repo.partition("/")[0]
    roles = {x["name"]: x.get("roleInOrg") for x in me.get("orgs", ())}
    token = me.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        raise EnvironmentFault(
            f"The token of '{me['name']}' may only read. Set HF_TOKEN to one "
            f"with the right to write to '{name}'."
        )
    if owner != me["name"] and roles.get(owner, "read") == "read":
        own = ", ".join([me["name"], *(x for x in roles if roles[x] != "read")])
        raise EnvironmentFault(
            f"The token of '{me['name']}' has no right to write to '{owner}'. "
            f"It has that for {own}."
        )


def _fault(name: HubName, error: Exception) -> HarError:
    """Returns an error of huggingface_hub as one of this package."""
    hub = hub_package(name)
    place = endpoint_of(hub)
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, ValueError) and not status:
        return UsageError(
            f"The hub {place} refused the model card of '{name}': "
            f"{' '.join(str(error).split())}"
        )
    ways = {
        401: "Check HF_TOKEN.",
        403: "Its token needs the right to write there: check HF_TOKEN.",
        409: "It was changed meanwhile: push again.",
        412: "It was changed meanwhile: push again.",
    }
    return EnvironmentFault(
        f"'{name}' could not be pushed to the hub {place} "
        f"({reason_of(error)}). "
        + ways.get(status, "Check the network and HF_ENDPOINT, and try again.")
    )


def _amount(sizes: Mapping[str, int]) -> str:
    megabytes = sum(sizes.values()) / 1e6
    return f"{plural(len(sizes), 'file')}, {megabytes:.1f} MB"
