"""`python -m har_keras.prepare`: decode a folder of videos, once."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from har_keras import cli
from har_keras.beam import Pool, each_by_beam, everywhere, require_pool
from har_keras.config import Config
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.store.decoding import Task, planned_shards, write_shard
from har_keras.store.store import Store, StoreSpec

if TYPE_CHECKING:
    from har_keras.store.store import Store


@dataclass(frozen=True)
class PrepareOptions:
    """Decodes every video into the frame store, which training reads.

    Can be stopped and started again. With --shard each of several machines
    does a part. They share one --store-dir, or their folders are copied into
    one; a last `prepare` without --shard then finds all videos there, does
    what is missing, and writes the list of all with --manifest.
    """

    videos: Annotated[Path, tyro.conf.Positional] = Path("data")
    """Folder of videos."""
    shard: str = "1/1"
    """Which part to do, as i/n: 2/4 is the second of four. With parts,
    --cache auto means jpeg, so that all machines choose the same form."""
    pool: Pool = "local"
    """What decodes: the cores of this machine, or an Apache Beam pipeline,
    whose machines see the videos and the store under the same names."""
    beam_options: str = ""
    """Options of the pipeline, as in "runner=FlinkRunner
    flink_master=host:8081". Default: Beam's runner on this machine."""
    manifest: Path | None = None
    """Write the list of videos, with frames kept and reasons, to this file."""
    config: Path | None = None
    """TOML file of options; flags have the last word."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, decodes and says what came of it."""

    def verb() -> None:
        options = cli.parse(PrepareOptions, argv, verb="prepare")
        print(f"Frames are in {_prepare_folder(options).folder}")

    return cli.run_verb(verb)


def _prepare_folder(options: PrepareOptions) -> Store:
    """Does what the flags ask for; returns the store."""
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.decoding import fill
    from har_keras.store.preparation import decode_all, require_usable

    shard = _shard(options.shard)
    require_pool(options.pool, options.beam_options)
    config = options.settings
    store_config = config.store
    if options.pool == "beam" and store_config.cache == "off":
        raise UsageError(
            "--pool beam fills a store that its machines share. Received: "
            "--cache off."
        )
    if shard[1] > 1 and store_config.cache == "auto":
        store_config = dataclasses.replace(store_config, cache="jpeg")
    manifest = Manifest.from_folder(
        options.videos,
        val_fraction=config.split.val_fraction,
        test_fraction=config.split.test_fraction,
        seed=config.split.split_seed,
    )
    by_beam = functools.partial(fill_by_beam, options=options.beam_options)
    store, manifest = decode_all(
        manifest,
        config.clip,
        store_config,
        shard=shard,
        fill=by_beam if options.pool == "beam" else fill,
    )
    if options.manifest:
        manifest.write(options.manifest)
    if shard[1] == 1:
        require_usable(manifest)
    return store


def _shard(text: str) -> tuple[int, int]:
    """Reads a part such as "2/4".

    Example:

    >>> _shard("2/4")
    (2, 4)
    """
    part, _, number = text.partition("/")
    if part.isdecimal() and number.isdecimal():
        if 1 <= int(part) <= int(number):
            return int(part), int(number)
    raise UsageError(
        f"--shard must be i/n with i from 1 to n, as in 2/4. Received: {text}."
    )


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


if __name__ == "__main__":
    sys.exit(main())
