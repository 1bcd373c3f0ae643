"""The transformer on the features of a backbone instead of pixels.

Shape letters: B batch, t places in time, g side of the grid, C channels, N
tokens, D hidden, K classes.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from har_keras.model.layers import Shape, Tensor
from har_keras.model.vit import VideoViT

_EPSILON = 1e-6
_MOST_DEVIATIONS = 4.0


@keras.saving.register_keras_serializable(package="har_keras")
class FeatureEmbedding(layers.Layer):
    """Embeds every cell of a grid of features as one token.

    Features are standardized by their mean and deviation in training, so that
    no scale has to be learned from few videos. Beside those of a grid stands
    their change since the moment before, which is what a network for single
    images can't see.

    Args:
        hidden_dim: int. Width of a token, D.
        tubelet_frames: int. Places in time that a token averages.
        feature_dropout_rate: float. Share of the channels that are dropped
            from all tokens of a clip, before the projection.
        token_dropout_rate: float. Share of the tokens that are dropped whole.
        with_changes: bool. Whether to add the changes of the features.
        seed: int or None. Seed of the weights and of dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, t, g, g, C)`, float.

    Output shape:
        `(batch_size, num_tokens, hidden_dim)`, time slowest, then rows.

    Example:

    >>> features = ops.ones((2, 4, 2, 2, 16))
    >>> tuple(FeatureEmbedding(hidden_dim=8, tubelet_frames=2)(features).shape)
    (2, 8, 8)
    """

    def __init__(
        self,
        hidden_dim: int,
        tubelet_frames: int = 1,
        feature_dropout_rate: float = 0.0,
        token_dropout_rate: float = 0.0,
        with_changes: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.with_changes = with_changes
        self.hidden_dim = hidden_dim
        self.tubelet_frames = tubelet_frames
        self.feature_dropout_rate = feature_dropout_rate
        self.token_dropout_rate = token_dropout_rate
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        policy = self.dtype_policy
        channels = int(input_shape[-1] or 0)
        if self.with_changes:
            channels *= 2
        # The same channels of all tokens: XLA takes two seconds on a CPU to
        # draw a random number for each feature of a batch.
        self.feature_dropout = layers.Dropout(
            self.feature_dropout_rate, (None, 1, None), seed=self.seed,
            dtype=policy,
        )  # fmt: skip
        self.token_dropout = layers.Dropout(
            self.token_dropout_rate, (None, None, 1), seed=self.seed,
            dtype=policy,
        )  # fmt: skip
        self.dense = layers.Dense(
            self.hidden_dim,
            kernel_initializer=keras.initializers.LecunNormal(self.seed),
            name="dense",
            dtype=policy,
        )
        self.dense.build((None, None, channels))

    def grid(self, input_shape: Shape) -> tuple[int, int, int]:
        """Returns the number of tokens in time, height and width.

        Raises:
            ValueError: If the places in time don't divide into tokens.
        """
        time, rows, columns = (int(n or 0) for n in input_shape[1:4])
        if time % self.tubelet_frames:
            raise ValueError(
                f"{time} places in time must be a multiple of the "
                f"{self.tubelet_frames} that a token averages."
            )
        return time // self.tubelet_frames, rows, columns

    def call(self, features: Tensor, training: bool | None = None) -> Tensor:
        time, rows, columns = self.grid(features.shape)
        x = features
        if self.with_changes:
            x = ops.concatenate([x, changes(x)], axis=-1)
        x = ops.reshape(
            x, (-1, self.tubelet_frames, rows * columns * x.shape[-1])
        )
        x = ops.reshape(
            ops.mean(x, axis=1),
            (-1, time * rows * columns, self.dense.kernel.shape[0]),
        )
        x = self.feature_dropout(x, training=training)
        return self.token_dropout(self.dense(x), training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (
            input_shape[0],
            math.prod(self.grid(input_shape)),
            self.hidden_dim,
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "tubelet_frames": self.tubelet_frames,
            "feature_dropout_rate": self.feature_dropout_rate,
            "token_dropout_rate": self.token_dropout_rate,
            "with_changes": self.with_changes,
            "seed": self.seed,
        }


def changes(x: Tensor) -> Tensor:
    """Returns the change of features since the place before, 0 at the first.

    Args:
        x: float tensor of shape `(B, t, g, g, C)`.

    Returns:
        float tensor of the same shape.

    Example:

    >>> x = ops.reshape(ops.array([1.0, 4.0, 9.0]), (1, 3, 1, 1, 1))
    >>> [float(y) for y in ops.reshape(changes(x), (-1,))]
    [0.0, 3.0, 5.0]
    """
    return ops.concatenate([x[:, :1] * 0, x[:, 1:] - x[:, :-1]], axis=1)


@keras.saving.register_keras_serializable(package="har_keras")
class Standardization(layers.Layer):
    """Subtracts the mean of training features and divides by their deviation.

    Outliers are clipped at four deviations: a linear layer can't be led astray
    by one feature of one strange video.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(..., C)`

    Output shape:
        As the input.
    """

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        options = {"shape": shape, "trainable": False, "dtype": "float32"}
        self.mean = self.add_weight(name="mean", initializer="zeros", **options)
        self.deviation = self.add_weight(
            name="deviation", initializer="ones", **options
        )

    def adapt(self, rows: np.ndarray) -> None:
        """Sets mean and deviation to those of rows, `(N, C)`."""
        self.mean.assign(rows.mean(0))
        self.deviation.assign(rows.std(0) + _EPSILON)

    def call(self, x: Tensor) -> Tensor:
        x = (ops.cast(x, "float32") - self.mean) / self.deviation
        x = ops.clip(x, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def statistics(
    features: Tensor, num_moving: int = 0, num_flow: int = 0
) -> Tensor:
    """Returns what a linear layer reads of a clip's features.

    Args:
        features: float tensor of shape `(B, t, g, g, C + F)`.
        num_moving: int. Channels, M, that were pooled by motion, of which the
            mean is enough. Defaults to `0`.
        num_flow: int. Channels at the end, F, that are the same at all
            places. Defaults to `0`.

    Returns:
        float32 tensor of shape `(B, M + 2 (C - M) + F)`, or `(B, 3C + F)`
        without motion: the mean; of the channels that weren't pooled by motion
        deviation and mean absolute change; and the optical flow.
    """
    x = ops.cast(features, "float32")
    flow = x[:, 0, 0, 0, x.shape[-1] - num_flow :]
    x = x[..., : x.shape[-1] - num_flow]
    mean, still = ops.mean(x, axis=(1, 2, 3)), x[..., num_moving:]
    center = ops.mean(still, axis=(1, 2, 3), keepdims=True)
    spread = ops.mean(ops.square(still - center), axis=(1, 2, 3))
    moved = ops.mean(ops.absolute(changes(still)), axis=(1, 2, 3))
    if num_moving:
        mean = mean[:, :num_moving]
    return ops.concatenate(
        [mean, ops.sqrt(spread + _EPSILON), moved, flow], axis=-1
    )


# So that each kind weighs in the penalty: deviation and change are twice as
# many as the means, and the flow is few.
_MEAN, _CHANGE, _FLOW = 1.0, 0.5, 3.0


def statistics_weights(
    num_channels: int, num_moving: int = 0, num_flow: int = 0
) -> np.ndarray:
    """Returns by what `statistics` are multiplied once they are standardized.

    Args:
        num_channels: int. All channels of the features.
        num_moving: int. As for `statistics`.
        num_flow: int. As for `statistics`.

    Returns:
        `float32` array, one value for each of the statistics.

    Example:

    >>> statistics_weights(5, num_moving=2, num_flow=1).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 3.0]
    """
    channels = num_channels - num_flow
    means = num_moving or channels
    numbers = (means, 2 * (channels - num_moving), num_flow)
    return np.repeat((_MEAN, _CHANGE, _FLOW), numbers).astype("float32")


@keras.saving.register_keras_serializable(package="har_keras")
class FeatureViT(VideoViT):
    """A Vision Transformer on the features of a backbone.

    A linear layer on the statistics of all features stands beside the
    transformer, and their logits are added: where videos are too few to learn
    more from, it alone is as good as logistic regression.

    Args:
        num_classes: int. Classes, K, at least 2.
        feature_shape: tuple of int. Shape of a clip's features, `(t, g, g,
            C)`.
        linear_path: bool. Whether there is a linear layer beside it.
        linear_penalty: float. Weight of its squared weights in the loss.
        num_moving: int. Channels that were pooled by motion. Defaults to `0`.
        num_flow: int. Channels at the end that are statistics of optical
            flow. Defaults to `0`.
        feature_dropout_rate: float. Dropout on features.
        token_dropout_rate: float. Share of the tokens that are dropped whole.
        **options: Arguments of `VideoViT`.

    Input shape:
        `(batch_size, t, g, g, C)`, float.

    Output shape:
        `(batch_size, num_classes)`, probabilities.

    Example:

    >>> model = FeatureViT(num_classes=3, feature_shape=(4, 2, 2, 16), seed=0)
    >>> tuple(model(ops.ones((2, 4, 2, 2, 16))).shape), model.num_tokens
    ((2, 3), 16)
    """

    def __init__(
        self,
        num_classes: int,
        feature_shape: tuple[int, int, int, int],
        linear_path: bool = True,
        linear_penalty: float = 0.0,
        num_moving: int = 0,
        num_flow: int = 0,
        feature_dropout_rate: float = 0.0,
        token_dropout_rate: float = 0.0,
        **options: Any,
    ) -> None:
        self.feature_shape = tuple(feature_shape)
        self.feature_dropout_rate = feature_dropout_rate
        self.token_dropout_rate = token_dropout_rate
        self.linear_path, self.linear_penalty = linear_path, linear_penalty
        self.num_moving, self.num_flow = num_moving, num_flow
        super().__init__(
            num_classes,
            **{"tubelet_frames": 1}
            | options
            | {"num_frames": feature_shape[0], "stem": "features"},
        )
        if linear_path:
            # So that training begins with what the linear layer learns.
            self.head.kernel_initializer = keras.initializers.Zeros()
        self.scale = Standardization(name="scale", dtype=self.dtype_policy)
        self.linear_scale = Standardization(
            name="linear_scale", dtype="float32"
        )
        self.linear = layers.Dense(
            num_classes,
            use_bias=False,
            kernel_initializer="zeros",
            kernel_regularizer=keras.regularizers.L2(linear_penalty),
            name="linear",
            dtype="float32",
        )

    def _stem(self) -> FeatureEmbedding:
        return FeatureEmbedding(
            self.hidden_dim,
            self.tubelet_frames,
            self.feature_dropout_rate,
            self.token_dropout_rate,
            not self.num_moving,
            self._seed(0),
            name="embedding",
            dtype=self.dtype_policy,
        )

    def _embed(self, clips: Tensor, training: bool | None) -> Tensor:
        return self.embedding(self.scale(clips), training=training)

    @property
    def clips_shape(self) -> Shape:
        """Shape of a batch of features, the batch size unknown."""
        return (None, *self.feature_shape)

    def build(self, input_shape: Shape | None = None) -> None:
        self.scale.build((None, self.feature_shape[-1]))
        if self.linear_path:
            self.linear_scale.build((None, len(self._weights_of_statistics)))
            self.linear.build((None, len(self._weights_of_statistics)))
        super().build(input_shape)

    def adapt(self, features: np.ndarray) -> None:
        """Sets the standardization by the features of training clips.

        Args:
            features: float array of shape `(N, t, g, g, C)`.
        """
        found = features.astype("float32")
        self.scale.adapt(found.reshape(-1, found.shape[-1]))
        if self.linear_path:
            rows = statistics(found, self.num_moving, self.num_flow)
            self.linear_scale.adapt(ops.convert_to_numpy(rows))

    def _logits_of(self, features: Tensor, clips: Tensor) -> Tensor:
        logits = super()._logits_of(features, clips)
        if not self.linear_path:
            return logits
        x = statistics(clips, self.num_moving, self.num_flow)
        weights = ops.convert_to_tensor(self._weights_of_statistics)
        return logits + self.linear(self.linear_scale(x) * weights)

    @property
    def _weights_of_statistics(self) -> np.ndarray:
        return statistics_weights(
            self.feature_shape[-1], self.num_moving, self.num_flow
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in ("num_frames", "stem", "crop_size", "patch_size"):
            del config[name]
        return config | {
            "feature_shape": self.feature_shape,
            "linear_path": self.linear_path,
            "linear_penalty": self.linear_penalty,
            "num_moving": self.num_moving,
            "num_flow": self.num_flow,
            "feature_dropout_rate": self.feature_dropout_rate,
            "token_dropout_rate": self.token_dropout_rate,
        }
