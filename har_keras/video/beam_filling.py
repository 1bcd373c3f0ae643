"""Filling the store as an Apache Beam pipeline: `fill`, on many machines."""

import functools
from collections.abc import Sequence
from pathlib import Path

from har_keras.beam import each_by_beam, everywhere
from har_keras.errors import EnvironmentFault
from har_keras.store.decoding import Task, planned_shards, write_shard
from har_keras.store.store import Store, StoreSpec


def fill_by_beam(
    store: Store,
    tasks: Sequence[Task],
    *,
    workers: int = 0,
    timeout_seconds: float,
    options: str = "",
) -> dict[str, str]:
    """Decodes files into a store as `fill` does: the same shards.

    Args:
        store: Store. Its folder, and the files, are seen by all machines of
            the pipeline under the same names.
        tasks: Sequence of Task. All that the store is to have.
        workers: int. Not used: how much is done at once is the pipeline's.
        timeout_seconds: float. Limit for one file.
        options: str. Those of the pipeline, as `each_by_beam` has them.

    Returns:
        Reasons by hash, of files that can't be used; as for `fill`.

    Raises:
        UsageError: If the pipeline's options are wrong.
        EnvironmentFault: If Beam is missing, or the disk is full.
    """
    folder = everywhere(store.folder)
    shards = [
        [(task.sha256, str(everywhere(task.path))) for task in shard]
        for shard in planned_shards(store, tasks)
    ]
    write = functools.partial(_write, folder, store.spec, timeout_seconds)
    reasons = each_by_beam(shards, write, folder, options)
    store.refresh()
    known = {*store, *reasons}
    if any(task.sha256 not in known for task in tasks):
        raise EnvironmentFault(
            f"The pipeline left no frames in '{folder}'. All its machines must "
            "see that folder under this name."
        )
    return reasons


def _write(
    folder: Path,
    spec: StoreSpec,
    timeout_seconds: float,
    shard: Sequence[tuple[str, str]],
) -> dict[str, str]:
    """Writes one shard, on a machine of the pipeline."""
    tasks = [Task(sha256, Path(path)) for sha256, path in shard]
    return write_shard(folder, spec, tasks, timeout_seconds=timeout_seconds)
