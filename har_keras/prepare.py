"""`har-keras prepare`: decodes a folder of videos once."""

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
from har_keras.environment import start_backend
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.ranges import Metavar
from har_keras.terminal import printable

if TYPE_CHECKING:
    from har_keras.features.extraction import Wanted
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.decoding import Task
    from har_keras.store.store import Store, StoreSpec


_FLAGS = cli.Flags(
    (
        *cli.DECODING.names, "backbone", "backbone_weights", "feature_grid",
        "feature_pooling", "backbone_stride", "optical_flow", "num_clips",
        "num_crops", "augment", "flip",
    ),
    common=("backbone", *cli.DECODING.common),
)  # fmt: skip


@dataclass(frozen=True)
class PrepareOptions:
    """Decodes every video into the frame store, which training reads.

    With --backbone, or a recipe that has one, the features of the frames are
    computed, too.

    It can be stopped and started again. With --shard each of several machines
    decodes a part, into one shared --store-dir or into folders that are copied
    together; a last `prepare` without --shard then decodes what is missing and
    writes the list of all videos with --manifest.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos."""
    shard: Annotated[str, Metavar("I/N")] = "1/1"
    """Part to decode: 2/4 is the second of four. With parts, --cache auto is
    jpeg, so that all machines choose the same format."""
    pool: Annotated[Pool, cli.Advanced] = "local"
    """Where to decode: local, or an Apache Beam pipeline whose machines see
    the videos and the store under the same paths (extra beam)."""
    beam_options: Annotated[str, cli.Advanced] = ""
    """Options of the pipeline, as in "runner=FlinkRunner
    flink_master=host:8081". Default: Beam's runner on this machine."""
    manifest: Path | None = None
    """Write the list of videos to this file: frames kept, or the reason."""
    config: Path | None = None
    """TOML file of options; command-line flags take precedence."""
    settings: Annotated[Config, _FLAGS] = field(default_factory=Config)


def prepare(
    videos: Path | str,
    config: Config | None = None,
    *,
    shard: str = "1/1",
    manifest_file: Path | str | None = None,
    pool: Pool = "local",
    beam_options: str = "",
) -> Store:
    """Decodes a folder of videos into the frame store.

    With a backbone, the features of the frames are computed, too.

    Args:
        videos: Path or str. The folder of videos.
        config: Config or None. Gives clip, store, split and backbone.
            Defaults to `Config()`.
        shard: str. Part to decode, as "i/n". Defaults to all.
        manifest_file: Path, str or None. Where to write the list of videos.
        pool: str. "local" or "beam". Defaults to `"local"`.
        beam_options: str. Options of the pipeline.

    Returns:
        The `Store`.

    Raises:
        UsageError: If a path or an option is wrong.
        DataError: If a class has no usable training video; not with shards.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.preparation import decode_all, require_usable
    from har_keras.store.scenes import settle_groups

    config, part = config or Config(), _shard(shard)
    require_features(config)
    require_pool(pool, beam_options)
    if pool == "beam" and config.store.cache == "off":
        raise UsageError(
            "--pool beam fills a store that its machines share. Received: "
            "--cache off."
        )
    store_config = config.decoding
    if part[1] > 1 and store_config.cache == "auto":
        store_config = dataclasses.replace(store_config, cache="jpeg")
    manifest = Manifest.from_folder(
        Path(videos),
        val_fraction=config.split.val_fraction,
        test_fraction=config.split.test_fraction,
        seed=config.split.split_seed,
        group_by=config.split.group_by,
        background=config.split.background,
    )
    by_beam = functools.partial(fill_by_beam, options=beam_options)
    by_pipeline = pool == "beam"
    others = {"fill": by_beam} if by_pipeline else {}
    store, manifest = decode_all(
        manifest, config.clip, store_config, shard=part, **others
    )
    if part[1] == 1:
        manifest, _ = settle_groups(store, manifest)
    if manifest_file:
        manifest.write(Path(manifest_file))
    if part[1] == 1:
        require_usable(manifest)
    if config.reads_features:
        compute_features(
            store, manifest, config, part, beam_options if by_pipeline else None
        )
    return store


def require_features(config: Config) -> None:
    """Checks that the backbone of a config can be loaded, and starts Keras.

    Raises:
        UsageError: If there is no such backbone.
        EnvironmentFault: If its weights are not here.
    """
    if config.reads_features:
        start_backend(config.training.backend)
        from har_keras.backbones.catalog import require_backbone

        require_backbone(config.features, config.clip)


def compute_features(
    store: Store,
    manifest: Manifest,
    config: Config,
    part: tuple[int, int],
    beam_options: str | None,
) -> None:
    """Computes the features of decoded videos.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. Its usable videos.
        config: Config. Names the backbone.
        part: pair of int. Compute the i-th of n parts.
        beam_options: str or None. Those of a pipeline that computes them;
            None is this process.
    """
    from har_keras.features.preparation import (
        prepared_features,
        wanted_features,
    )

    if beam_options is None:
        prepared_features(store, manifest, config, shard=part)
        return
    videos = wanted_features(manifest, config, part)
    numbers = range(0, len(videos), _VIDEOS_OF_PIPELINE)
    work = functools.partial(
        _write_features, everywhere(store.folder), store.spec, config, videos
    )
    each_by_beam([*numbers], work, everywhere(store.folder), beam_options)


_VIDEOS_OF_PIPELINE = 16


def _write_features(
    folder: Path,
    spec: StoreSpec,
    config: Config,
    videos: Sequence[Wanted],
    first: int,
) -> dict[str, str]:
    """Computes the features of some videos, on a machine of the pipeline."""
    from har_keras.features.preparation import write_features

    some = videos[first : first + _VIDEOS_OF_PIPELINE]
    write_features(folder, spec, config, some)
    return {}


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, decodes and prints where the frames are."""

    def verb() -> None:
        options = cli.parse(PrepareOptions, argv, verb="prepare")
        store = prepare(
            options.videos,
            options.settings,
            shard=options.shard,
            manifest_file=options.manifest,
            pool=options.pool,
            beam_options=options.beam_options,
        )
        print(f"Frames are in {printable(store.folder)}")

    return cli.run_verb(verb)


_LONGEST_SHARD = 40


def _shard(text: str) -> tuple[int, int]:
    """Reads a part such as "2/4".

    Example:

    >>> _shard("2/4")
    (2, 4)
    """
    part, _, number = text.partition("/")
    # Python reads no number of thousands of digits.
    if part.isdecimal() and number.isdecimal() and len(text) < _LONGEST_SHARD:
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
    """Decodes files into a store, as an Apache Beam pipeline.

    The shards are those that `fill` writes.

    Args:
        store: Store. Its folder, and the files, are seen by all machines of
            the pipeline under the same names.
        tasks: Sequence of Task. All that the store is to have.
        workers: int. Not used: the pipeline decides its parallelism.
        timeout_seconds: float. Limit for one file.
        options: str. Those of the pipeline, as `each_by_beam` has them.

    Returns:
        Reasons by hash, of files that can't be used; as for `fill`.

    Raises:
        UsageError: If the pipeline's options are wrong.
        EnvironmentFault: If Beam is missing, or the disk is full.
    """
    from har_keras.store.decoding import planned_shards

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
    from har_keras.store.decoding import Task, write_shard

    tasks = [Task(sha256, Path(path)) for sha256, path in shard]
    return write_shard(folder, spec, tasks, timeout_seconds=timeout_seconds)


if __name__ == "__main__":
    sys.exit(main())
