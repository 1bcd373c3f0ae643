"""Features of samples: those that a training on a frozen backbone reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from har_keras.config import Config
from har_keras.environment import start_backend
from har_keras.run import Run
from har_keras.suggestions.samples import (
    DecodedSamples,
    Progress,
    Sample,
    decode_samples,
    require_some,
    run_config,
    transfer_config,
)

if TYPE_CHECKING:
    from har_keras.backbones.backbone import Backbone
    from har_keras.features.feature_store import FeatureStore

# Clips of a video whose features are in memory at once, some 80 kB each.
_CLIPS_AT_ONCE = 64
# Rows that are kept between calls, some 16 kB each.
_ROWS = 4096
_EPSILON = 1e-6
_MOST_DEVIATIONS = 4.0


@dataclass(frozen=True)
class SampleFeatures:
    """The features of samples, and why some have none.

    Args:
        rows: `float32` array of shape `(N, D)`, in the order of the samples;
            NaN where a sample can't be read.
        reasons: list of str. Why a sample can't be read; "" if it can.
    """

    rows: np.ndarray
    reasons: list[str]


def sample_features(
    samples: Sequence[Sample],
    store_dir: Path | None,
    *,
    run: str | Path | None = None,
    backbone: str = "efficientnet-lite0",
    progress: Progress | None = None,
) -> np.ndarray:
    """Returns one row of features for each sample.

    Videos are decoded and the backbone reads them as in recipe `transfer`, and
    both are kept in the store, where a training finds them. What is there is
    not computed again, so an interrupted call is resumed by the next; a few
    videos are in memory at a time.

    A row has what the recipe's linear layer reads, averaged over the clips of
    the sample: means, deviations and changes of the features, and the optical
    flow. Each is standardized over the samples and weighed as in the training.

    Args:
        samples: Sequence of Sample. Videos, and parts of them.
        store_dir: Path or None. The store. Defaults to that of the user.
        run: str, Path or None. A run whose backbone is used, as it was
            trained. One without a backbone is not used.
        backbone: str. The network, without such a run. Defaults to
            `"efficientnet-lite0"`.
        progress: Callable or None. Called with what is being done, how much of
            it is done, and of how much.

    Returns:
        `float32` array of shape `(N, D)`. The row of a sample that can't be
        read is NaN; `read_features` says why.

    Raises:
        UsageError: If there is no such backbone.
        DataError: If there is no such run, or no sample can be read.
        EnvironmentFault: If the backbone's weights are not here, or the disk
            is full.
    """
    return read_features(
        samples, store_dir, run=run, backbone=backbone, progress=progress
    ).rows


def read_features(
    samples: Sequence[Sample],
    store_dir: Path | None,
    *,
    run: str | Path | None = None,
    backbone: str = "efficientnet-lite0",
    progress: Progress | None = None,
) -> SampleFeatures:
    """Returns the features of samples, and why some have none.

    Args:
        samples: Sequence of Sample. As for `sample_features`.
        store_dir: Path or None. As for `sample_features`.
        run: str, Path or None. As for `sample_features`.
        backbone: str. As for `sample_features`.
        progress: Callable or None. As for `sample_features`.

    Returns:
        `SampleFeatures`.
    """
    config = features_config(store_dir, run=run, backbone=backbone)
    network = _network_of(config, run)
    decoded = decode_samples(samples, config, progress)
    require_some(samples, decoded)
    store = _with_features(decoded, network, config, progress)
    rows = [
        _row(store, network, video.key) if video.kept_frames else None
        for video in decoded.videos
    ]
    weights = _weights(network, config)
    return SampleFeatures(_standardized(rows, weights), decoded.reasons)


def features_config(
    store_dir: Path | None,
    *,
    run: str | Path | None = None,
    backbone: str = "efficientnet-lite0",
) -> Config:
    """Returns the options with which the features of samples are read.

    Args:
        store_dir: Path or None. As for `sample_features`.
        run: str, Path or None. As for `sample_features`.
        backbone: str. As for `sample_features`.
    """
    if run is not None:
        config = run_config(run, store_dir)
        if config.features.backbone != "none":
            return config
    return transfer_config(store_dir, backbone)


def _network_of(config: Config, run: str | Path | None) -> Backbone:
    """Returns the backbone, before any video is read."""
    start_backend(config.training.backend)
    if run is not None:
        found = Run.open(Path(run))
        if found.config().features.backbone != "none":
            return _backbone_of_run(found.path, _version(found))
    return _backbone(config)


def _version(run: Run) -> int:
    """Returns a number that changes when the model does; 0 without one."""
    file = run.model_file
    return file.stat().st_mtime_ns if file.is_file() else 0


# Labels change more often than the network, which takes seconds to load.
@functools.lru_cache(1)
def _backbone_of_run(path: Path, version: int) -> Backbone:
    from har_keras.inference.load import load_model

    found: Backbone = load_model(Run.open(path)).backbone
    return found


@functools.lru_cache(1)
def _backbone(config: Config) -> Backbone:
    from har_keras.backbones.catalog import load_backbone

    return load_backbone(config.features, config.clip)


def _with_features(
    decoded: DecodedSamples,
    network: Backbone,
    config: Config,
    progress: Progress | None,
) -> FeatureStore:
    """Returns a store that has the features of the samples."""
    from har_keras.backbones.extractor import FeatureExtractor
    from har_keras.features.extraction import Wanted, extract
    from har_keras.features.feature_store import FeatureStore, View

    number = config.evaluation.num_clips
    store = FeatureStore(decoded.store, network, config.clip, number)
    videos = {decoded.videos[i].key: decoded.videos[i] for i in decoded.usable}
    wanted = [
        Wanted(video.key, video.kept_frames, (View(),))
        for video in videos.values()
        if not store.has_features(video.key, View())
    ]
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress("Reading features", done, len(wanted))

    extractor = FeatureExtractor(network, config.clip.crop_size)
    extract(store, wanted, extractor, advance=advance)
    return store


_rows: dict[Path, np.ndarray] = {}


def _row(store: FeatureStore, network: Backbone, key: str) -> np.ndarray:
    """Returns the statistics of a sample, averaged over its clips."""
    from har_keras.features.feature_store import View

    file = store.feature_file(key, View())
    if file not in _rows:
        while len(_rows) >= _ROWS:
            del _rows[next(iter(_rows))]
        clips = store.all_features(key, View())
        _rows[file] = _mean_statistics(clips, network)
    return _rows[file]


def _mean_statistics(clips: np.ndarray, network: Backbone) -> np.ndarray:
    import keras

    from har_keras.backbones.feature_vit import statistics

    kinds = {"num_moving": network.num_moving, "num_flow": network.num_flow}
    total = np.zeros(())
    for begin in range(0, len(clips), _CLIPS_AT_ONCE):
        some = np.asarray(clips[begin : begin + _CLIPS_AT_ONCE])
        rows = keras.ops.convert_to_numpy(statistics(some, **kinds))
        total = total + rows.astype(np.float64).sum(0)
    return np.asarray(total / len(clips), np.float32)


def _weights(network: Backbone, config: Config) -> np.ndarray:
    from har_keras.backbones.feature_vit import statistics_weights

    shape = network.feature_shape(config.clip.num_frames, config.clip.crop_size)
    return statistics_weights(
        shape[-1], num_moving=network.num_moving, num_flow=network.num_flow
    )


def _standardized(
    rows: Sequence[np.ndarray | None], weights: np.ndarray
) -> np.ndarray:
    """Returns rows as the linear layer reads them; those that miss are NaN."""
    found = np.full((len(rows), len(weights)), np.nan, np.float32)
    here = [i for i, row in enumerate(rows) if row is not None]
    if here:
        x = np.stack([row for row in rows if row is not None])
        x = (x - x.mean(0)) / (x.std(0) + _EPSILON)
        bounded = np.clip(x, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        found[here] = bounded * weights
    return found
