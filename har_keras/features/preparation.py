"""Features of a run's videos, computed before they are needed."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

from har_keras.backbones.backbone import Backbone
from har_keras.backbones.catalog import load_backbone
from har_keras.backbones.extractor import FeatureExtractor
from har_keras.clips.sampling import crop_positions
from har_keras.config import Config
from har_keras.features.dataset import training_views
from har_keras.features.extraction import Wanted, extract
from har_keras.features.feature_store import FeatureStore, View
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.limit import keep_within_limit
from har_keras.store.store import Store, StoreSpec


def prepared_features(
    store: Store,
    manifest: Manifest,
    config: Config,
    *,
    shard: tuple[int, int] = (1, 1),
) -> Store:
    """Returns a store with the features that a training and its test need.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. Its usable videos.
        config: Config. Names the backbone.
        shard: pair of int. Compute only the i-th of n parts. Defaults to all.

    Returns:
        A `FeatureStore`; without a frozen backbone, the same store.

    Raises:
        UsageError: If there is no such backbone.
        EnvironmentFault: If its weights are not here, or the disk is full.
    """
    if not config.reads_features:
        return store
    wanted = wanted_features(manifest, config, shard)
    backbone = load_backbone(config.features, config.clip)
    return _extracted(store, backbone, config, wanted)


def wanted_features(
    manifest: Manifest, config: Config, shard: tuple[int, int] = (1, 1)
) -> list[Wanted]:
    """Returns the features that a training and its test need.

    Args:
        manifest: Manifest. Its usable videos.
        config: Config. The sections `training` and `evaluation`.
        shard: pair of int. The i-th of n parts, as frames are decoded.

    Returns:
        list of Wanted: every view of training videos, those of an evaluation
        of the others.
    """
    training = tuple(training_views(config))
    evaluated = evaluation_views(config)
    found = {
        video.key: Wanted(
            video.key,
            video.kept_frames,
            training if split == "train" else evaluated,
        )
        for split in ("test", "val", "train")
        for video in manifest.usable(split)
    }
    part, number = shard
    # By hash, as the videos are decoded.
    known = sorted({v.sha256 for v in manifest.videos if v.sha256})
    mine = set(known[part - 1 :: number])
    keys = {(v.sha256, v.key) for v in manifest.videos if v.key in found}
    return [found[key] for sha256, key in sorted(keys) if sha256 in mine]


def evaluation_views(config: Config) -> tuple[View, ...]:
    """Returns the views of an evaluation, and the center for validation."""
    positions = {0.5, *crop_positions(config.evaluation.num_crops)}
    return tuple(View(position) for position in sorted(positions))


def with_features(
    store: Store, backbone: Backbone, config: Config, videos: Sequence[Video]
) -> FeatureStore:
    """Returns a store with the features that an evaluation needs.

    Args:
        store: Store. The decoded frames.
        backbone: Backbone. With its weights.
        config: Config. The sections `clip` and `evaluation`.
        videos: Sequence of Video. Usable ones.

    Returns:
        A `FeatureStore`.
    """
    views = evaluation_views(config)
    wanted = [Wanted(v.key, v.kept_frames, views) for v in videos]
    return _extracted(store, backbone, config, wanted)


def _extracted(
    store: Store, backbone: Backbone, config: Config, wanted: Sequence[Wanted]
) -> FeatureStore:
    num_clips = config.evaluation.num_clips
    found = FeatureStore(store, backbone, config.clip, num_clips)
    written = itertools.count()
    extract(
        found,
        wanted,
        FeatureExtractor(backbone, config.clip.crop_size),
        advance=lambda: next(written),
    )
    if next(written) and config.store.cache != "off":
        keep_within_limit(store.folder.parent)
    return found


def write_features(
    folder: Path, spec: StoreSpec, config: Config, wanted: Sequence[Wanted]
) -> None:
    """Computes features of a store's videos, on any machine that sees it.

    Args:
        folder: Path. The folder of the store.
        spec: StoreSpec. Size, rate and form of its frames.
        config: Config. Names the backbone.
        wanted: Sequence of Wanted. The videos, and the views of them.
    """
    backbone = _backbone(config.features, config.clip)
    _extracted(Store(folder, spec), backbone, config, wanted)


# A machine of a pipeline is given many parts, one after the other.
_backbone = functools.lru_cache(1)(load_backbone)
