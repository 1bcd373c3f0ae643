"""VideoViT: a Vision Transformer on the tubelets of a clip."""

import math
from pathlib import Path
from typing import Any, Literal, Self

import keras
from keras import layers, ops

from har_keras.model.blocks import Activation, DividedBlock, EncoderBlock
from har_keras.model.gradient_embedding import GradientEmbedding
from har_keras.model.layers import (
    ClassToken,
    PositionEmbedding,
    Shape,
    Tensor,
    TubeletEmbedding,
)
from har_keras.model.options import (
    preset_options,
    require_arguments,
    require_at_most,
)
from har_keras.model.weights import load_weights
from har_keras.ranges import MOST_LAYERS, MOST_PIXELS, MOST_WIDTH

STEMS: dict[str, type[TubeletEmbedding]] = {
    "pixels": TubeletEmbedding,
    "gradients": GradientEmbedding,
}
_SEEDS_OF_A_PART = 16  # enough for every part of a block


@keras.saving.register_keras_serializable(package="har_keras")
class VideoViT(keras.Model):
    """A Vision Transformer that classifies clips.

    Tubelets are embedded as tokens and processed by transformer blocks; a
    dense layer classifies their mean or a class token. Attention over space
    and time has one of these forms:

    - `"joint"`: over all tokens of the clip.
    - `"factorised"`: among the tokens of each frame; then, in further blocks,
      among frames. Much cheaper for many tokens.
    - `"divided"`: in each block over time, then among the tokens of a frame.

    Clips are uint8 and scaled inside the model, so that no caller can scale
    them wrongly; probabilities are float32 whatever the precision. The loss in
    training is computed from `logits`, which is numerically exact. See
    `from_preset` for the dimensions of published models.

    Args:
        num_classes: int. Classes, K, at least 2.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels.
        patch_size: int. Height and width of a tubelet in pixels.
        tubelet_frames: int. Depth of a tubelet in frames.
        hidden_dim: int. Width of a token, D.
        num_layers: int. Transformer blocks.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        mlp_dim: int. Width of the hidden layer of each MLP.
        dropout_rate: float. Dropout on embeddings, attention outputs and MLPs.
        attention_dropout_rate: float. Dropout on attention weights.
        pooling: `"mean"` of all tokens after the last norm, `"mean_norm"`, the
            mean before it, or `"class_token"`.
        attention: `"joint"`, `"factorised"` or `"divided"`.
        num_temporal_layers: int. Blocks among frames, if factorised.
        positions: `"learned"` or `"sinusoid"`.
        activation: `"gelu"` or `"gelu_tanh"`.
        key_bias: bool. Whether attention keys have a bias.
        norm_epsilon: float. Added to variances in the layer norms.
        seed: int or None. Seed of the weights and of dropout.
        drop_path_rate: float. Stochastic depth rate of the last block, rising
            linearly from 0 at the first.
        stem: Input of the token embedding: `"pixels"`, or `"gradients"`, HOG3D
            features. See `GradientEmbedding`.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, num_frames, crop_size, crop_size, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, num_classes)`, probabilities.

    Example:

    >>> model = VideoViT(num_classes=3, num_frames=4, crop_size=32, seed=0)
    >>> clips = ops.zeros((2, 4, 32, 32, 3), "uint8")
    >>> tuple(model(clips).shape)
    (2, 3)
    >>> model.num_tokens
    8

    Reference:
        - [Arnab et al., 2021](https://arxiv.org/abs/2103.15691), section 3.3,
          models 1 (joint) and 2 (factorised).
        - [Bertasius et al., 2021](https://arxiv.org/abs/2102.05095), section 3
          (divided).
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        crop_size: int = 112,
        patch_size: int = 16,
        tubelet_frames: int = 2,
        hidden_dim: int = 48,
        num_layers: int = 4,
        num_heads: int = 4,
        mlp_dim: int = 192,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        pooling: Literal["mean", "mean_norm", "class_token"] = "mean",
        attention: Literal["joint", "factorised", "divided"] = "joint",
        num_temporal_layers: int = 2,
        positions: Literal["learned", "sinusoid"] = "learned",
        activation: Activation = "gelu",
        key_bias: bool = True,
        norm_epsilon: float = 1e-6,
        seed: int | None = None,
        drop_path_rate: float = 0.0,
        stem: Literal["pixels", "gradients"] = "pixels",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_arguments(num_classes, pooling, attention)
        require_at_most(MOST_LAYERS, layers=num_layers + num_temporal_layers)
        require_at_most(MOST_PIXELS, num_frames=num_frames, crop_size=crop_size)
        require_at_most(MOST_WIDTH, hidden_dim=hidden_dim, mlp_dim=mlp_dim)
        self.num_classes = num_classes
        self.num_frames = num_frames
        self.crop_size = crop_size
        self.patch_size = patch_size
        self.tubelet_frames = tubelet_frames
        self.hidden_dim = hidden_dim
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.pooling = pooling
        self.attention = attention
        self.num_temporal_layers = num_temporal_layers
        self.position_kind = positions
        self.activation = activation
        self.key_bias = key_bias
        self.norm_epsilon = norm_epsilon
        self.seed = seed
        self.drop_path_rate = drop_path_rate
        self.stem = stem

        # === Layers ===
        policy = self.dtype_policy
        self.embedding = self._stem()
        self.class_token = self._class_token("class_token")
        # With HOG3D features `CosinePositions` lower accuracy, from 0.69 to
        # 0.63 in the cross-validation of docs/experiments.md.
        self.positions = self._positions(
            "positions",
            self._seed(1),
            self.position_grid if stem == "pixels" else None,
        )
        self.dropout = layers.Dropout(
            dropout_rate, seed=self._seed(2), name="dropout", dtype=policy
        )
        self.blocks = [self._block(i) for i in range(num_layers)]
        self.norm = self._norm("norm")
        if attention != "joint":
            self.temporal_positions = self._positions(
                "temporal_positions", self._seed(1, 1)
            )
        if attention == "factorised":
            self.temporal_class_token = self._class_token(
                "temporal_class_token"
            )
            self.temporal_blocks = [
                self._block(num_layers + i) for i in range(num_temporal_layers)
            ]
            self.temporal_norm = self._norm("temporal_norm")
        self.head = layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(
                0, 0.02, self._seed(3)
            ),
            name="head",
            dtype="float32",
        )

    @classmethod
    def from_preset(
        cls,
        name: str,
        *,
        num_classes: int,
        weights: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Returns a model with the dimensions of a published one.

        Args:
            name: str. `"tiny"` (the default dimensions), `"videomae-b"`,
                `"vivit-b-16x2"`, ...; all are in `har_keras.recipes.PRESETS`.
            num_classes: int. Classes, K, at least 2.
            weights: str, Path or None. A `.safetensors` file of pretrained
                weights from Hugging Face, see `load_weights` in
                `har_keras.model.weights`. The head is initialized randomly if
                it has other classes. Defaults to random weights.
            **options: Other arguments of `VideoViT`. They take precedence over
                those of the preset.

        Returns:
            A `VideoViT`, built.

        Raises:
            UsageError: If there is no such preset, or the file is missing,
                damaged, or of other dimensions.

        Example:

        >>> model = VideoViT.from_preset("tiny", num_classes=3, num_frames=8)
        >>> model.count_params(), model.num_tokens
        (196515, 196)
        """
        model = cls(num_classes, **preset_options(name) | options)
        model.build()
        if weights is not None:
            load_weights(model, Path(weights))
        return model

    def _stem(self) -> Any:
        return STEMS[self.stem](
            self.hidden_dim,
            self.patch_size,
            self.tubelet_frames,
            self._seed(0),
            name="embedding",
            dtype=self.dtype_policy,
        )

    def _class_token(self, name: str) -> ClassToken | None:
        if self.pooling != "class_token":
            return None
        return ClassToken(name=name, dtype=self.dtype_policy)

    def _positions(
        self,
        name: str,
        seed: int | None,
        grid: tuple[int, int, int] | None = None,
    ) -> PositionEmbedding:
        return PositionEmbedding(
            self.position_kind, seed, grid, name=name, dtype=self.dtype_policy
        )

    def _norm(self, name: str) -> layers.LayerNormalization:
        epsilon = self.norm_epsilon
        if self.pooling == "mean_norm":
            epsilon = 1e-5  # as VideoMAE, whose pooling this is
        return layers.LayerNormalization(
            epsilon=epsilon, name=name, dtype=self.dtype_policy
        )

    def _block(self, index: int) -> EncoderBlock:
        options: dict[str, Any] = {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "activation": self.activation,
            "key_bias": self.key_bias,
            "norm_epsilon": self.norm_epsilon,
            "seed": self._seed(4 + index),
            "drop_path_rate": self._drop_path_rate(index),
            "name": f"block_{index}",
            "dtype": self.dtype_policy,
        }
        if self.attention != "divided":
            return EncoderBlock(**options)
        return DividedBlock(
            self.grid[0], self.class_token is not None, **options
        )

    def _drop_path_rate(self, index: int) -> float:
        """Returns a block's stochastic depth rate, linear in its depth."""
        depth = self.num_layers
        if self.attention == "factorised":
            depth += self.num_temporal_layers
        return self.drop_path_rate * index / max(1, depth - 1)

    def _seed(self, part: int, offset: int = 0) -> int | None:
        if self.seed is None:
            return None
        parts = self.num_layers + self.num_temporal_layers + 4
        return (self.seed * parts + part) * _SEEDS_OF_A_PART + offset

    @property
    def clips_shape(self) -> Shape:
        """Shape of a batch of clips, the batch size unknown."""
        return (None, self.num_frames, self.crop_size, self.crop_size, 3)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tubelets of a clip in time, height and width."""
        return self.embedding.grid(self.clips_shape)

    @property
    def position_grid(self) -> tuple[int, int, int]:
        """Tubelets with distinct position embeddings: of a clip or a frame."""
        time, rows, columns = self.grid
        return time if self.attention == "joint" else 1, rows, columns

    @property
    def num_tokens(self) -> int:
        """Number of tokens of a clip without the class token, N."""
        return math.prod(self.grid)

    def build(self, input_shape: Shape | None = None) -> None:
        time, width = self.grid[0], self.hidden_dim
        self.embedding.build(self.clips_shape)
        tokens = math.prod(self.position_grid)
        shape = _build(self.class_token, (None, tokens, width))
        self.positions.build(shape)
        if self.attention == "divided":
            self.temporal_positions.build((None, time, width))
        for block in self.blocks:
            block.build((None, None, width))
        self.norm.build((None, width))
        if self.attention == "factorised":
            shape = _build(self.temporal_class_token, (None, time, width))
            self.temporal_positions.build(shape)
            for block in self.temporal_blocks:
                block.build(shape)
            self.temporal_norm.build((None, width))
        self.head.build((None, width))
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.softmax(self.logits(clips, training=training))

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns the logits, from which `call` computes probabilities.

        Args:
            clips: uint8 tensor of shape `(B, T, H, W, 3)`.
            training: bool or None. Whether dropout is applied.

        Returns:
            float32 tensor of shape `(B, K)`.
        """
        return self._logits_of(self.features(clips, training=training), clips)

    def answers(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities `(B, K)`, and `features` of the same pass."""
        features = self.features(clips, training=False)
        probabilities = ops.softmax(self._logits_of(features, clips))
        return probabilities, ops.cast(features, "float32")

    def _logits_of(self, features: Tensor, clips: Tensor) -> Tensor:
        return self.head(features)

    def features(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns the features of each clip before the head, `(B, D)`."""
        x = self._embed(clips, training)  # (B, N, D)
        if self.attention == "joint":
            x = self._add_positions(x, training)
        else:
            x = ops.reshape(
                x, (-1, self.num_tokens // self.grid[0], x.shape[2])
            )
            x = self._add_positions(x, training)  # (BT, S, D)
        if self.attention == "divided":
            x = self._add_times(x, training)  # (B, N, D)
        for block in self.blocks:
            x = block(x, training=training)
        x = self._pool(x, self.norm)
        if self.attention != "factorised":
            return x
        x = ops.reshape(x, (-1, self.grid[0], x.shape[1]))  # (B, T, D)
        if self.temporal_class_token is not None:
            x = self.temporal_class_token(x)
        x = self.temporal_positions(x)
        for block in self.temporal_blocks:
            x = block(x, training=training)
        return self._pool(x, self.temporal_norm)

    def _embed(self, clips: Tensor, training: bool | None) -> Tensor:
        return self.embedding(clips)

    def _add_positions(self, x: Tensor, training: bool | None) -> Tensor:
        if self.class_token is not None:
            x = self.class_token(x)
        return self.dropout(self.positions(x), training=training)

    def _add_times(self, x: Tensor, training: bool | None) -> Tensor:
        """Adds temporal positions; returns tokens `(B, [1 +] TS, D)`."""
        first = int(self.class_token is not None)
        frames, width = self.grid[0], x.shape[2]
        x = ops.reshape(x, (-1, frames, *x.shape[1:]))  # (B, T, [1 +] S, D)
        token, x = x[:, 0, :first], x[:, :, first:]
        places = x.shape[2]
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, frames, width))
        x = self.dropout(self.temporal_positions(x), training=training)
        x = ops.reshape(x, (-1, places, frames, width))
        x = ops.transpose(x, (0, 2, 1, 3))
        x = ops.reshape(x, (-1, frames * places, width))
        return ops.concatenate([token, x], axis=1)

    def _pool(self, x: Tensor, norm: layers.Layer) -> Tensor:
        if self.pooling == "class_token":
            return norm(x[:, 0])
        if self.pooling == "mean_norm":
            return norm(ops.mean(x, axis=1))
        return ops.mean(norm(x), axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_classes": self.num_classes,
            "num_frames": self.num_frames,
            "crop_size": self.crop_size,
            "patch_size": self.patch_size,
            "tubelet_frames": self.tubelet_frames,
            "hidden_dim": self.hidden_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "pooling": self.pooling,
            "attention": self.attention,
            "num_temporal_layers": self.num_temporal_layers,
            "positions": self.position_kind,
            "activation": self.activation,
            "key_bias": self.key_bias,
            "norm_epsilon": self.norm_epsilon,
            "seed": self.seed,
            "drop_path_rate": self.drop_path_rate,
            "stem": self.stem,
        }


def _build(class_token: ClassToken | None, shape: Shape) -> Shape:
    """Builds a class token, if there is one; returns the shape after it."""
    if class_token is None:
        return shape
    class_token.build(shape)
    return class_token.compute_output_shape(shape)
