"""A Vision Transformer on tubelets of a clip."""

import math
from typing import Any, Literal

import keras
from keras import layers, ops

from har_keras.config import ClipConfig, ModelConfig
from har_keras.model.layers import (
    EPSILON,
    ClassToken,
    EncoderBlock,
    PositionEmbedding,
    Shape,
    Tensor,
    TubeletEmbedding,
)

_SEEDS_OF_A_LAYER = 8  # enough for every part of an `EncoderBlock`


@keras.saving.register_keras_serializable(package="har_keras")
class VideoViT(keras.Model):
    """Tells the class of a clip from its tubelets.

    Tubelets become tokens, a transformer encoder lets all of them read each
    other in space and time at once, and a dense layer reads their mean, or a
    class token. Clips come in as bytes and are scaled inside, so that no
    caller can scale them wrongly; probabilities are float32 whatever the
    precision. Training works on `logits`, where the loss is exact.

    Args:
        num_classes: int. Classes, K, at least 2.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels.
        patch_size: int. Height and width of a tubelet in pixels.
        tubelet_frames: int. Depth of a tubelet in frames.
        hidden_dim: int. Width of a token, D.
        num_layers: int. Encoder layers.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        mlp_dim: int. Width of the hidden layer of each MLP.
        dropout_rate: float. Dropout on embeddings, attention outputs and MLPs.
        attention_dropout_rate: float. Dropout on attention weights.
        pooling: `"mean"` of all tokens or `"class_token"`.
        seed: int or None. Seed of the weights and of dropout.
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
          model 1.
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
        pooling: Literal["mean", "class_token"] = "mean",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes < 2:
            raise ValueError(
                f"`num_classes` must be at least 2. Received: {num_classes=}."
            )
        if pooling not in ("mean", "class_token"):
            raise ValueError(
                "`pooling` must be 'mean' or 'class_token'. Received: "
                f"{pooling=}."
            )
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
        self.seed = seed

        # === Layers ===
        policy = self.dtype_policy
        self.embedding = TubeletEmbedding(
            hidden_dim,
            patch_size,
            tubelet_frames,
            self._seed(0),
            name="embedding",
            dtype=policy,
        )
        self.class_token = (
            ClassToken(name="class_token", dtype=policy)
            if pooling == "class_token"
            else None
        )
        self.positions = PositionEmbedding(
            self._seed(1), name="positions", dtype=policy
        )
        self.dropout = layers.Dropout(
            dropout_rate, seed=self._seed(2), name="dropout", dtype=policy
        )
        self.blocks = [
            EncoderBlock(
                num_heads,
                mlp_dim,
                dropout_rate,
                attention_dropout_rate,
                self._seed(4 + i),
                name=f"block_{i}",
                dtype=policy,
            )
            for i in range(num_layers)
        ]
        self.norm = layers.LayerNormalization(
            epsilon=EPSILON, name="norm", dtype=policy
        )
        self.head = layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(
                0, 0.02, self._seed(3)
            ),
            name="head",
            dtype="float32",
        )

    def _seed(self, part: int) -> int | None:
        if self.seed is None:
            return None
        parts = (self.num_layers + 4) * _SEEDS_OF_A_LAYER
        return self.seed * parts + part * _SEEDS_OF_A_LAYER

    @property
    def input_clips_shape(self) -> Shape:
        """Shape of a batch of clips, the batch size unknown."""
        return (None, self.num_frames, self.crop_size, self.crop_size, 3)

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip, the class token not counted, N."""
        return math.prod(self.embedding.grid(self.input_clips_shape))

    def build(self, input_shape: Shape | None = None) -> None:
        self.embedding.build(self.input_clips_shape)
        shape = self.embedding.compute_output_shape(self.input_clips_shape)
        if self.class_token is not None:
            self.class_token.build(shape)
            shape = self.class_token.compute_output_shape(shape)
        self.positions.build(shape)
        for block in self.blocks:
            block.build(shape)
        self.norm.build(shape)
        self.head.build((None, self.hidden_dim))
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.softmax(self.logits(clips, training=training))

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns what the softmax is taken of.

        Args:
            clips: uint8 tensor of shape `(B, T, H, W, 3)`.
            training: bool or None. Whether dropout is on.

        Returns:
            float32 tensor of shape `(B, K)`.
        """
        x = self.embedding(clips)  # (B, N, D)
        if self.class_token is not None:
            x = self.class_token(x)  # (B, 1 + N, D)
        x = self.dropout(self.positions(x), training=training)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.norm(x)
        x = x[:, 0] if self.class_token is not None else ops.mean(x, axis=1)
        return self.head(x)  # (B, K)

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
            "seed": self.seed,
        }


def build_model(
    model: ModelConfig, clip: ClipConfig, num_classes: int, seed: int = 0
) -> VideoViT:
    """Returns a model with its weights, ready to call, save and export.

    Args:
        model: ModelConfig. Dimensions of the transformer.
        clip: ClipConfig. Frames and pixels of a clip.
        num_classes: int. Classes, at least 2.
        seed: int. Seed of the weights. Defaults to `0`.

    Returns:
        A `VideoViT`.

    Example:

    >>> build_model(ModelConfig(), ClipConfig(), num_classes=3).count_params()
    205923
    """
    vit = VideoViT(
        num_classes,
        num_frames=clip.num_frames,
        crop_size=clip.crop_size,
        patch_size=model.patch_size,
        tubelet_frames=model.tubelet_frames,
        hidden_dim=model.hidden_dim,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        mlp_dim=model.mlp_dim,
        dropout_rate=model.dropout_rate,
        attention_dropout_rate=model.attention_dropout_rate,
        pooling=model.pooling,
        seed=seed,
    )
    # A model that was never called can't be exported; a symbolic call counts.
    vit(keras.KerasTensor(vit.input_clips_shape, dtype="uint8"))
    return vit
