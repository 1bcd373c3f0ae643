"""A classifier of clips: a backbone, and the transformer on its features."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from har_keras.backbones.backbone import Backbone
from har_keras.backbones.catalog import load_backbone
from har_keras.backbones.extractor import FeatureExtractor
from har_keras.backbones.feature_vit import FeatureViT
from har_keras.backbones.nested import Nested
from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.model.build import POLICIES, build_model
from har_keras.model.layers import Shape, Tensor
from har_keras.model.options import transformer_options


@keras.saving.register_keras_serializable(package="har_keras")
class BackboneClassifier(Nested):
    """Classifies clips by the features of a pretrained backbone.

    Args:
        backbone: Backbone. From pixels to features.
        reader: FeatureViT. From features to probabilities.
        crop_size: int. Height and width of a clip in pixels.
        num_frames: int. Frames in a clip.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, num_frames, crop_size, crop_size, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, num_classes)`, probabilities.
    """

    parts = ("backbone", "reader")

    def __init__(
        self,
        backbone: Backbone,
        reader: FeatureViT,
        crop_size: int,
        num_frames: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.reader = reader
        self.crop_size = crop_size
        self.num_frames = num_frames
        self.extractor = FeatureExtractor(backbone, crop_size)

    @property
    def num_classes(self) -> int:
        """Number of classes, K."""
        return self.reader.num_classes

    @property
    def num_tokens(self) -> int:
        """Patches of 16 pixels in a clip, as its cost is of its pixels."""
        return self.num_frames * (self.crop_size // 16) ** 2

    @property
    def clips_shape(self) -> Shape:
        """Shape of a batch of clips, the batch size unknown."""
        return (None, self.num_frames, self.crop_size, self.crop_size, 3)

    def build(self, input_shape: Shape | None = None) -> None:
        if not self.reader.built:
            # By a call, so that its variables are named as those of a model.
            self.reader(keras.KerasTensor(self.reader.clips_shape))
        self.built = True

    def unfreeze(self, num_blocks: int) -> None:
        """Makes the last blocks of the backbone trainable, and no others.

        Args:
            num_blocks: int. Blocks, as the layers' names tell them; 0 freezes
                the whole backbone.
        """
        network = self.backbone.network
        blocks = last_blocks(network.layers, num_blocks)
        network.trainable = bool(num_blocks)
        for layer in network.layers if num_blocks else ():
            layer.trainable = any(layer is other for other in blocks)

    def rate_factor(self, variable: Any) -> float:
        """Returns the factor of the learning rate of a variable.

        The linear layer is a convex problem and takes large steps; what is
        pretrained, and the transformer beside it, take small ones.
        """
        reader = self.reader
        if reader.linear_path:
            return 1.0 if variable is reader.linear.kernel else 0.01
        own = any(variable is weight for weight in reader.weights)
        return 1.0 if own else 0.01

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return self.reader(self.backbone.of_clips(clips), training=training)

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns the logits of clips, float32 of shape `(B, K)`."""
        features = self.backbone.of_clips(clips)
        return self.reader.logits(features, training=training)

    def answers(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities, and the reader's features before its head."""
        features = self.backbone.of_clips(clips)
        # As Keras does for `call`.
        return self.reader.answers(
            ops.cast(features, self.reader.compute_dtype)
        )

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """Returns the probabilities of clips, or of their features.

        Equal frames are read by the backbone once.

        Args:
            x: `uint8` array of shape `(B, T, H, W, 3)`; or features, `float16`
                of shape `(B, t, g, g, C)`.

        Returns:
            `float32` array of shape `(B, K)`.
        """
        if x.dtype == np.uint8:
            x = self.extractor.of_clips(x)
        return self.reader.predict_on_batch(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "crop_size": self.crop_size,
            "num_frames": self.num_frames,
        }


def last_blocks(
    all_layers: Sequence[keras.Layer], num_blocks: int
) -> list[keras.Layer]:
    """Returns the layers of the last blocks of a network.

    Args:
        all_layers: Sequence of keras.Layer. The layers of the network, in
            order.
        num_blocks: int. Blocks: layers with weights whose names begin alike,
            up to "block" and its number; any other is a block of its own.

    Returns:
        list of keras.Layer.

    Raises:
        UsageError: If the network has fewer blocks.

    Example:

    >>> names = ("stem", "block1_conv", "block2_conv", "block2_out", "top")
    >>> network = [keras.layers.Dense(2, name=name) for name in names]
    >>> for layer in network:
    ...     layer.build((None, 2))
    >>> [layer.name for layer in last_blocks(network, 2)]
    ['block2_conv', 'block2_out', 'top']
    """
    found: dict[str, list[keras.Layer]] = {}
    for layer in all_layers:
        if layer.weights:
            found.setdefault(_block_of(layer.name), []).append(layer)
    if num_blocks > len(found):
        raise UsageError(
            f"--unfreeze must be at most {len(found)}, the blocks of this "
            f"backbone. Received: {num_blocks}."
        )
    last = list(found.values())[len(found) - num_blocks :]
    return [layer for block in last for layer in block]


def _block_of(name: str) -> str:
    begin = re.match(r".*?block_?\d+[a-z]?(?=_|$)", name)
    return begin[0] if begin else name


def build_classifier(config: Config, num_classes: int) -> keras.Model:
    """Returns the network of a config, with its backbone if it names one.

    Args:
        config: Config. The sections `model`, `backbone` and `clip`.
        num_classes: int. Classes, at least 2.

    Returns:
        As `build_model`. With a backbone, a `BackboneClassifier`.

    Raises:
        UsageError: If there is no such backbone.
        EnvironmentFault: If its package or its weights are not here.
        DataError: If its weights are damaged.
    """
    seed = config.training.seed
    if config.features.backbone == "none":
        return build_model(config.model, config.clip, num_classes, seed)
    backbone = load_backbone(config.features, config.clip)
    return classifier_on(backbone, config, num_classes)


def classifier_on(
    backbone: Backbone, config: Config, num_classes: int
) -> BackboneClassifier:
    """Returns a classifier on the features of a backbone.

    Args:
        backbone: Backbone. With its weights.
        config: Config. The dimensions of the transformer, and the clip.
        num_classes: int. Classes, at least 2.

    Returns:
        A built `BackboneClassifier`.
    """
    clip, features = config.clip, config.features
    options = transformer_options(config.model)
    reader = FeatureViT(
        num_classes,
        backbone.feature_shape(clip.num_frames, clip.crop_size),
        linear_path=features.linear_path,
        linear_penalty=features.linear_penalty,
        num_moving=backbone.num_moving,
        num_flow=backbone.num_flow,
        feature_dropout_rate=features.feature_dropout_rate,
        token_dropout_rate=features.token_dropout_rate,
        seed=config.training.seed,
        dtype=POLICIES[config.model.precision],
        **{name: options[name] for name in options if name not in _OF_PIXELS},
    )
    network = BackboneClassifier(
        backbone, reader, clip.crop_size, clip.num_frames
    )
    network.unfreeze(features.unfreeze)
    network(keras.KerasTensor(network.clips_shape, dtype="uint8"))
    return network


_OF_PIXELS = ("patch_size", "stem")
