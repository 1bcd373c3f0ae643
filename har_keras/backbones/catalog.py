"""Backbones by name: each family of networks is one file, listed here."""

import dataclasses
import difflib
from pathlib import Path
from typing import Protocol

from har_keras.backbones import (
    efficientnet_lite,
    keras_applications,
    keras_hub,
    video_transformer,
)
from har_keras.backbones.backbone import Backbone, BackboneInfo
from har_keras.config import BackboneConfig, ClipConfig
from har_keras.errors import UsageError


class Family(Protocol):
    """What the file of a family has."""

    def names(self) -> list[str]:
        """Returns the names that it offers, for a list."""

    def knows(self, name: str) -> bool:
        """Returns whether a name is one of this family's."""

    def info(self, name: str) -> BackboneInfo:
        """Returns what is known of a backbone without loading it."""

    def is_here(self, name: str) -> bool:
        """Returns whether its weights are on this machine."""

    def require(self, name: str, weights: Path | None) -> None:
        """Raises what `load` would, without reading the weights."""

    def load(
        self, name: str, weights: Path | None, clip: ClipConfig
    ) -> Backbone:
        """Returns the backbone with its weights."""


# The first that knows a name has it: folders are told apart by their files.
FAMILIES: tuple[Family, ...] = (
    efficientnet_lite,
    keras_applications,
    keras_hub,
    video_transformer,
)


def family_of(name: str) -> Family:
    """Returns the family that a name is of.

    Raises:
        UsageError: If there is none; the nearest name is given.

    Example:

    >>> family_of("efficientnet-lite0").info("efficientnet-lite0").license
    'Apache-2.0'
    """
    for family in FAMILIES:
        if family.knows(name):
            return family
    known = [name for family in FAMILIES for name in family.names()]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(
        f"There is no backbone '{name}'.{hint} `har-keras models` lists them."
    )


def require_backbone(
    config: BackboneConfig, clip: ClipConfig | None = None
) -> None:
    """Checks that a backbone can be loaded, before any video is read.

    Args:
        config: BackboneConfig. Names it; "none" is right.
        clip: ClipConfig or None. The clips that it will read. Defaults to
            any.

    Raises:
        UsageError: If there is no such backbone or file, or it can't read
            such clips.
        EnvironmentFault: If its package or its weights are not here.
        DataError: If its files are damaged.
    """
    if config.backbone == "none":
        return
    family = family_of(config.backbone)
    family.require(config.backbone, config.backbone_weights)
    if clip is not None:
        _require_clip(family.info(config.backbone), config, clip)


def _clip_read(config: BackboneConfig, clip: ClipConfig) -> ClipConfig:
    """Returns the clip that a backbone reads of a clip."""
    num_frames = clip.num_frames // config.backbone_stride
    return dataclasses.replace(clip, num_frames=num_frames)


def _require_clip(
    info: BackboneInfo, config: BackboneConfig, clip: ClipConfig
) -> None:
    """Raises `UsageError` if a backbone can't read such clips."""
    if not info.is_fixed:
        return
    own = {"--crop-size": info.image_size}
    given = {"--crop-size": clip.crop_size}
    if info.kind == "clips":
        own["--num-frames"] = info.num_frames * config.backbone_stride
        given["--num-frames"] = clip.num_frames
    if own != given:
        flags, received = (
            " ".join(f"{name} {value}" for name, value in options.items())
            for options in (own, given)
        )
        raise UsageError(
            f"--backbone {info.name} reads no other clips than those of its "
            f"own training. Give {flags}. Received: {received}."
        )


def load_backbone(config: BackboneConfig, clip: ClipConfig) -> Backbone:
    """Returns the backbone of a configuration, with its weights.

    Args:
        config: BackboneConfig. Names it, and the grid of its features.
        clip: ClipConfig. Frames and pixels of a clip.

    Raises:
        UsageError: If there is no such backbone or file, or it can't read
            such clips.
        EnvironmentFault: If its package or its weights are not here.
        DataError: If the weights are damaged, or others than published.
    """
    family = family_of(config.backbone)
    family.require(config.backbone, config.backbone_weights)
    _require_clip(family.info(config.backbone), config, clip)
    read = _clip_read(config, clip)
    backbone = family.load(config.backbone, config.backbone_weights, read)
    backbone.grid = config.feature_grid
    backbone.pooling = config.feature_pooling
    backbone.frame_stride = config.backbone_stride
    backbone.optical_flow = config.optical_flow
    return backbone
