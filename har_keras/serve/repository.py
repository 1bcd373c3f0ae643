"""The models that are served: loaded, swapped for new versions, let go."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from har_keras.errors import DataError, EnvironmentFault, HarError
from har_keras.serve.batcher import Batcher
from har_keras.serve.exports import RUNTIMES, Export, Source
from har_keras.serve.trial import Plan, opened
from har_keras.serving.checksums import require_checksums
from har_keras.serving.runtimes import Runtime
from har_keras.web.refusal import Refusal

logger = logging.getLogger("har_keras")

# A new version whose other formats are still being written waits for them.
_WAIT_FOR_FORMATS_SECONDS = 60.0


class Servable:
    """A version of a model, loaded, with its batcher.

    Args:
        source: Source. The model.
        export: Export. What was loaded.
        runtime: Runtime. The loaded model.
        batcher: Batcher. Runs it.
    """

    def __init__(
        self, source: Source, export: Export, runtime: Runtime, batcher: Batcher
    ) -> None:
        self.name = source.name
        self.export = export
        self.version = export.version
        self.class_names = runtime.class_names
        self.info = runtime.info
        self.batcher = batcher
        self._users = 0
        self._lock = threading.Lock()
        self._unused = threading.Event()
        self._unused.set()

    @contextlib.contextmanager
    def used(self) -> Iterator[Servable]:
        """Keeps it loaded while a request needs it."""
        with self._lock:
            self._users += 1
            self._unused.clear()
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._unused.set()

    def retire(self) -> None:
        """Lets it go once no request needs it."""
        self._unused.wait()
        self.batcher.close()


BatcherOf = Callable[[Source, Export, Runtime, Plan], Batcher]


@dataclass
class _State:
    """What is known of a model.

    Args:
        source: Source. The model.
        labels: dict from label to version.
        loaded: dict from version to Servable; replaced whole.
        refused: dict from export to the reason why it is not served.
        runtime: str. The runtime in use; "" before the first version.
        plan: Plan or None. How it is run; of the first version, kept for
            later ones.
        first_seen: dict from version to the time when it was seen.
    """

    source: Source
    labels: dict[str, int]
    loaded: dict[int, Servable] = field(default_factory=dict)
    refused: dict[Export, str] = field(default_factory=dict)
    runtime: str = ""
    plan: Plan | None = None
    first_seen: dict[int, float] = field(default_factory=dict)


class Repository:
    """Every model that is served.

    Args:
        sources: Sequence of Source. The models.
        make_batcher: Callable. Returns the `Batcher` of a loaded model.
        runtime: str. "auto", or the only runtime to use.
        num_versions: int. Latest versions to keep loaded.
        labels: dict from name of a model to versions by label.
        max_batch: int. Clips in a batch, for the trial.
        on_change: Callable or None. Called after versions changed.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        make_batcher: BatcherOf,
        *,
        runtime: str = "auto",
        num_versions: int = 1,
        labels: dict[str, dict[str, int]] | None = None,
        max_batch: int = 16,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        labels = labels or {}
        self._states = {
            x.name: _State(x, labels.get(x.name, {})) for x in sources
        }
        self._make_batcher = make_batcher
        self._runtime = runtime
        self._num_versions = num_versions
        self._max_batch = max_batch
        self._on_change = on_change or (lambda: None)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.num_refused = 0

    @property
    def names(self) -> list[str]:
        return list(self._states)

    @property
    def servables(self) -> list[Servable]:
        """Every loaded version."""
        states = self._states.values()
        return [x for state in states for x in state.loaded.values()]

    def missing(self) -> list[str]:
        """Returns the models of which no version is loaded."""
        return [name for name, x in self._states.items() if not x.loaded]

    def get(
        self, name: str, version: int | None = None, label: str = ""
    ) -> Servable:
        """Returns a version; the latest by default.

        Raises:
            Refusal: If it is not served.
        """
        state = self._states.get(name)
        if label and state and label not in state.labels:
            raise Refusal(
                404, f"Unrecognized servable version label: {label[:60]}",
                reason="not_found",
            )  # fmt: skip
        if label and state:
            version = state.labels[label]
        loaded = state.loaded if state else {}
        found = loaded.get(
            max(loaded, default=0) if version is None else version
        )
        if found is None:
            which = (
                f"Latest({name[:60]})"
                if version is None
                else f"Specific({name[:60]}, {version})"
            )
            raise Refusal(
                404, f"Servable not found for request: {which}",
                reason="not_found",
            )  # fmt: skip
        return found

    def status(self, name: str) -> list[tuple[int, str, str]]:
        """Returns number, state and error of each version, latest first.

        Raises:
            Refusal: If there is no such model.
        """
        state = self._states.get(name)
        if state is None:
            raise Refusal(
                404, f"Could not find any versions of model {name[:60]}",
                reason="not_found",
            )  # fmt: skip
        found = {x: (x, "AVAILABLE", "") for x in state.loaded}
        for export, reason in list(state.refused.items()):
            found.setdefault(export.version, (export.version, "END", reason))
        return [found[version] for version in sorted(found, reverse=True)]

    def load(self) -> None:
        """Loads the latest version of every model.

        Raises:
            HarError: If a model has none that can be loaded.
        """
        for state in self._states.values():
            self._refresh(state)
            if not state.loaded:
                raise self._fault(state)
            for export in state.refused:
                _warn_of(state, export)

    def watch(self, seconds: float) -> None:
        """Looks for new versions from now on, in a thread."""

        def look() -> None:
            while not self._stop.wait(seconds):
                for state in self._states.values():
                    try:
                        self._refresh(state)
                    except Exception:  # or no version is swapped any more
                        logger.exception(
                            "Looking for versions of '%s' failed.",
                            state.source.name,
                        )

        thread = threading.Thread(target=look, name="versions", daemon=True)
        thread.start()
        self._threads.append(thread)

    def close(self) -> None:
        """Ends the threads, once what is queued was run."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for state in self._states.values():
            loaded, state.loaded = state.loaded, {}
            for servable in loaded.values():
                servable.batcher.close()

    def _refresh(self, state: _State) -> None:
        """Loads and lets go versions, as the files are now."""
        exports = state.source.exports()
        wanted = self._wanted(state, exports)
        loaded = dict(state.loaded)
        for version in wanted:
            choices = self._choices(state, version, exports)
            if not _is_better(state, choices, loaded.get(version)):
                continue
            if fresh := self._first_good(state, choices):
                loaded[version] = fresh
        self._replace(state, self._kept(state, loaded, wanted))

    def _wanted(self, state: _State, exports: Sequence[Export]) -> list[int]:
        """Returns the versions to serve, latest first."""
        numbers = sorted({x.version for x in exports}, reverse=True)
        good = [x for x in numbers if not self._is_refused(state, x, exports)]
        labelled = set(state.labels.values()) & set(good)
        return sorted({*good[: self._num_versions], *labelled}, reverse=True)

    def _is_refused(
        self, state: _State, version: int, exports: Sequence[Export]
    ) -> bool:
        usable = self._usable(state, version, exports)
        return not [x for x in usable if x not in state.refused]

    def _usable(
        self, state: _State, version: int, exports: Sequence[Export]
    ) -> list[Export]:
        """Returns the exports of a version that can be loaded here."""
        return [
            x
            for x in exports
            if x.version == version
            and self._runtime in ("auto", x.runtime)
            and x.is_installed
        ]

    def _choices(
        self, state: _State, version: int, exports: Sequence[Export]
    ) -> list[Export]:
        """Returns the exports of a version to try, the best first.

        Later versions take the runtime of the first. If theirs is still being
        written, there is none to try yet.
        """
        usable = self._usable(state, version, exports)
        usable = [x for x in usable if x not in state.refused]
        order = [state.runtime, *RUNTIMES]
        usable.sort(key=lambda x: order.index(x.runtime))
        new = version not in state.first_seen
        seen = state.first_seen.setdefault(version, time.monotonic())
        late = time.monotonic() - seen > _WAIT_FOR_FORMATS_SECONDS
        newer = bool(state.loaded) and version > max(state.loaded)
        only_graph = all(x.runtime == "saved_model" for x in usable)
        light = state.runtime not in ("", "saved_model")
        if newer and light and usable and only_graph and not late:
            if new:
                logger.info(
                    "Version %d of '%s' has no %s export yet: waiting for it.",
                    version, state.source.name, state.runtime,
                )  # fmt: skip
            return []
        return usable

    def _first_good(
        self, state: _State, choices: Sequence[Export]
    ) -> Servable | None:
        """Loads the best export, or the next one if it is damaged."""
        tried = [x for x in choices if x.runtime != "saved_model"]
        if not state.runtime and len(tried) > 1:
            if fastest := self._fastest(state, tried):
                return fastest
        for export in choices:
            if export in state.refused:
                continue
            if opened := self._opened(state, export):
                return self._served(state, export, *opened)
        return None

    def _fastest(
        self, state: _State, choices: Sequence[Export]
    ) -> Servable | None:
        """Loads several exports, and keeps the one that is fastest here."""
        found: list[tuple[Plan, Export, Runtime]] = []
        for export in choices:
            if opened := self._opened(state, export):
                runtime, plan = opened
                found.append((plan, export, runtime))
        if not found:
            return None
        found.sort(key=lambda x: -x[0].clips_per_second)
        measured = ", ".join(
            f"{export.runtime} {_shown(plan.clips_per_second)}"
            for plan, export, _ in found
        )
        logger.info("Clips per second here: %s.", measured)
        plan, export, runtime = found[0]
        return self._served(state, export, runtime, plan)

    def _opened(
        self, state: _State, export: Export
    ) -> tuple[Runtime, Plan] | None:
        """Loads an export and tries it; returns None if it is refused."""
        plan = state.plan if export.runtime == state.runtime else None
        try:
            if export.checksums:
                require_checksums(export.checksums)
            return opened(export, self._max_batch, plan)
        except Exception as error:  # of a runtime, of any type
            self._refuse(state, export, error)
            return None

    def _refuse(self, state: _State, export: Export, error: Exception) -> None:
        text = str(error).strip().splitlines() or [type(error).__name__]
        reason = text[0] if isinstance(error, HarError) else (
            f"'{export.path}' can't be loaded: {text[0].rstrip('.')[:300]}."
        )  # fmt: skip
        state.refused[export] = reason
        self.num_refused += 1
        if state.loaded:
            _warn_of(state, export)
        self._on_change()

    def _served(
        self, state: _State, export: Export, runtime: Runtime, plan: Plan
    ) -> Servable:
        if not state.runtime:
            state.runtime, state.plan = export.runtime, plan
        batcher = self._make_batcher(state.source, export, runtime, plan)
        return Servable(state.source, export, runtime, batcher)

    def _kept(
        self,
        state: _State,
        loaded: dict[int, Servable],
        wanted: Sequence[int],
    ) -> dict[int, Servable]:
        """Returns the versions to go on with.

        Older ones go on in the place of those that are not loaded yet, or
        whose files are gone.
        """
        kept = {x: loaded[x] for x in wanted if x in loaded}
        missing = max(1, len(wanted)) - len(kept)
        older = sorted(loaded.keys() - kept.keys(), reverse=True)
        return kept | {x: loaded[x] for x in older[:missing]}

    def _replace(self, state: _State, loaded: dict[int, Servable]) -> None:
        """Serves other versions from now on; a request keeps the one it has."""
        before = state.loaded
        if loaded == before:
            return
        state.loaded = loaded
        for version, servable in sorted(loaded.items()):
            if before.get(version) is not servable and before:
                logger.info(
                    "Version %d of '%s' is served now (%s).",
                    version, state.source.name, servable.export.runtime,
                )  # fmt: skip
        for version, servable in before.items():
            if loaded.get(version) is not servable:
                thread = threading.Thread(target=servable.retire, daemon=True)
                thread.start()
        self._on_change()

    def _fault(self, state: _State) -> HarError:
        """Returns why no version of a model can be served."""
        name, exports = state.source.path, state.source.exports()
        if state.refused:
            return DataError(
                f"No version of '{name}' can be served: "
                f"{next(iter(state.refused.values()))}"
            )
        runtimes = sorted({x.runtime for x in exports})
        if self._runtime not in ("auto", *runtimes):
            return DataError(
                f"'{name}' has no export for --runtime {self._runtime}, only "
                f"for {', '.join(runtimes)}. Export it with: har-keras "
                f"export {name} --formats {self._runtime}"
            )
        return EnvironmentFault(
            f"The runtime of '{name}' ({', '.join(runtimes)}) is not "
            'installed. Install it with: pip install "har_keras[export]".'
        )


def _is_better(
    state: _State, choices: Sequence[Export], current: Servable | None
) -> bool:
    """Whether the best export should replace what is loaded of a version.

    Another runtime than that of the model is only there to fall back on.
    """
    if not choices or current is None:
        return bool(choices)
    best = choices[0]
    return best != current.export and best.runtime == state.runtime


def _warn_of(state: _State, export: Export) -> None:
    """Says that an export is refused, and what is served all the same."""
    latest = max(state.loaded)
    served = state.loaded.get(export.version, state.loaded[latest]).export
    logger.warning(
        "Version %d of '%s' (%s) is not served, version %d (%s) is: %s",
        export.version, state.source.name, export.runtime,
        served.version, served.runtime, state.refused[export],
    )  # fmt: skip


def _shown(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1g}"
