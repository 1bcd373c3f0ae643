"""Multi-host training: joining, the chief host, and synchronized decisions."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config, HostsConfig
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.run import Run

logger = logging.getLogger("har_keras")

# Bytes per broadcast, so that no device holds a whole checkpoint.
_AT_ONCE = 1 << 26
# Time that a failing host waits for the others, which then end, too.
_LEAVE_SECONDS = 60
_LOOK_SECONDS = 0.5
_OWN_FAULTS = (
    UsageError.exit_code,
    DataError.exit_code,
    EnvironmentFault.exit_code,
)


@dataclass(frozen=True)
class Hosts:
    """The number of hosts and the index of this one.

    Args:
        number: int. Number of hosts.
        index: int. Index of this host, counted from 0.

    Example:

    >>> Hosts(number=4, index=1).is_chief
    False
    """

    number: int = 1
    index: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this is the chief host, which writes the run."""
        return self.index == 0

    @property
    def are_several(self) -> bool:
        """Whether there are other hosts."""
        return self.number > 1


_joined = Hosts()


def current_hosts() -> Hosts:
    """Returns the joined hosts, or this one alone."""
    return _joined


def join_hosts(options: HostsConfig) -> Hosts:
    """Joins the other hosts, before anything is computed.

    It returns when all hosts have joined. JAX gets options that are not given
    from the cluster's scheduler.

    Args:
        options: HostsConfig. Number, index and the coordinator's address.

    Returns:
        The `Hosts`.

    Raises:
        UsageError: If the backend is not JAX, or an option is missing.
        EnvironmentFault: If the others do not join in time.
    """
    global _joined
    import keras

    backend = str(keras.config.backend())
    _require_jax(options, backend, os.environ.get("TF_CONFIG", ""))
    if options.hosts == 1 or _joined.are_several:
        return _joined
    import jax

    # JAX would handle SIGTERM, on which a checkpoint is saved here.
    jax.config.update("jax_enable_preemption_service", False)
    _initialize(options)
    _joined = Hosts(jax.process_count(), jax.process_index())
    logger.info("Host %d of %d.", _joined.index + 1, _joined.number)
    if not _joined.is_chief:
        logger.setLevel(logging.WARNING)  # the chief logs for all
    return _joined


def start_together(
    run_dir: Path | str | None, config: Config
) -> tuple[Run, Config, bool]:
    """Starts a run in a folder that all hosts share.

    Each host checks the folder before it joins, and the chief writes into it
    after that, so that all see the same state.

    Args:
        run_dir: Path or None. A new folder, required for several hosts.
        config: Config. Every option.

    Returns:
        The `Run`; the config with the actual number of hosts and, on hosts
        other than the chief, the chief's form of store; and whether this is
        the chief. The other hosts wait until the chief has listed and decoded
        the videos.

    Raises:
        UsageError: If the folder or an option is wrong.
        EnvironmentFault: If the others do not join in time.
    """
    _require_run_dir(config.hosts, run_dir)
    run = Run.new(run_dir)
    hosts = join_hosts(config.hosts)
    # The index belongs to this process, not to the run.
    config = config.replace(hosts=hosts.number, host_index=-1)
    if not hosts.is_chief:
        _wait_for(run.manifest_file)
        config = config.replace(cache=run.config().store.cache)
    return run, config, hosts.is_chief


def leave_hosts() -> None:
    """Disconnects from the other hosts, once all have finished training."""
    if _joined.are_several:
        import jax

        jax.distributed.shutdown()


def end_on_error(code: int) -> int:
    """Ends a process that failed, so that other hosts don't wait for it.

    Args:
        code: int. The exit code of the verb.

    Returns:
        `code`, on success, after a stop of all hosts, or if there is one host.
        Otherwise it does not return.
    """
    if code in _OWN_FAULTS and _joined.are_several:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _wait_for(file: Path) -> None:
    """Waits until the chief has written a file.

    If the chief ends before, JAX ends this host.
    """
    while not file.is_file():
        time.sleep(_LOOK_SECONDS)


def from_first(data: bytes) -> bytes:
    """Broadcasts bytes from the chief to all hosts.

    Args:
        data: bytes. Ignored on hosts other than the chief.

    Returns:
        bytes, the same everywhere.
    """
    if not _joined.are_several:
        return data
    from jax.experimental.multihost_utils import broadcast_one_to_all

    # Two digits, since JAX has no 64-bit integers by default.
    digits = np.array(divmod(len(data), _AT_ONCE), np.int32)
    blocks, rest = np.asarray(broadcast_one_to_all(digits)).tolist()
    size = blocks * _AT_ONCE + rest
    own = np.frombuffer(data if _joined.is_chief else bytes(size), np.uint8)
    parts = []
    for start in range(0, size, _AT_ONCE):
        part = own[start : start + _AT_ONCE]
        parts.append(np.asarray(broadcast_one_to_all(part), np.uint8))
    return b"".join(part.tobytes() for part in parts)


class Agreement:
    """Synchronizes requests to save or stop across hosts.

    Requests are exchanged while the next batch is computed, so that no host
    waits: with several hosts the result is that of the previous call.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._largest: Any = None

    def largest(self, request: int) -> int:
        """Returns the largest request of all hosts.

        Args:
            request: int. This host's request, 0 for none. All hosts must call
                it equally often, or they deadlock.
        """
        if not _joined.are_several:
            return request
        before, self._before = self._before, self._sent(request)
        return 0 if before is None else int(before)

    def _sent(self, request: int) -> Any:
        import jax
        from jax.sharding import Mesh, NamedSharding, PartitionSpec

        mesh = Mesh(np.array(jax.devices()), ("device",))
        if self._largest is None:
            everywhere = NamedSharding(mesh, PartitionSpec())
            self._largest = jax.jit(jax.numpy.max, out_shardings=everywhere)
        requests = np.full(jax.local_device_count(), request, np.int32)
        shared = NamedSharding(mesh, PartitionSpec("device"))
        return self._largest(
            jax.make_array_from_process_local_data(shared, requests)
        )


def _require_jax(options: HostsConfig, backend: str, tf_config: str) -> None:
    """Raises `UsageError` for several hosts on another backend than JAX."""
    way = (
        "Several hosts train under JAX: unset TF_CONFIG and give --backend jax "
        "--hosts N --host-index I --coordinator HOST:PORT on each."
    )
    if options.hosts != 1 and backend != "jax":
        raise UsageError(
            f"--hosts is for JAX. Received: {options.hosts} hosts on "
            f"{backend}. {way}"
        )
    workers = _num_workers(tf_config)
    if backend == "tensorflow" and workers > 1:
        raise UsageError(
            f"TF_CONFIG names {workers} workers, which Keras's fit can't train "
            f"on (keras issue 20585). {way}"
        )


def _num_workers(tf_config: str) -> int:
    """Returns the number of workers in TensorFlow's `TF_CONFIG`.

    Example:

    >>> _num_workers('{"cluster": {"worker": ["a:1", "b:1"]}}')
    2
    """
    try:
        cluster = json.loads(tf_config or "{}").get("cluster", {})
        return sum(len(cluster.get(x, [])) for x in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError):
        return 0


def _initialize(options: HostsConfig) -> None:
    import jax

    given: dict[str, Any] = {
        "coordinator_address": options.coordinator or None,
        "num_processes": options.hosts or None,
        "process_id": None if options.host_index < 0 else options.host_index,
    }
    # All options are given: no scheduler needs to be detected.
    method = None if None in given.values() else "deactivate"
    try:
        jax.distributed.initialize(
            **given,
            cluster_detection_method=method,
            shutdown_timeout_seconds=_LEAVE_SECONDS,
            initialization_timeout=options.join_seconds,
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"The hosts are not known ({error}). Give --hosts N --host-index I "
            "--coordinator HOST:PORT on each, or start them with a scheduler "
            "that JAX supports, such as srun."
        ) from error
    except RuntimeError as error:
        text = str(error).partition("\n")[0]
        raise EnvironmentFault(
            f"The hosts could not join within {options.join_seconds} s: {text} "
            "Start the same command on each, with a --coordinator address of "
            "the first host that the others can reach."
        ) from error


def _require_run_dir(options: HostsConfig, run_dir: Path | str | None) -> None:
    if options.hosts != 1 and run_dir is None:
        raise UsageError(
            "Several hosts need a --run-dir, the same new folder on a shared "
            "disk."
        )


def is_chief() -> bool:
    """Returns whether this process is the chief host."""
    return current_hosts().is_chief
