"""Transformer encoder blocks: attention and an MLP with residuals.

Shape letters: B batch, T tubelets in time, S tubelets in space, N tokens,
D hidden. N is S T, or 1 + S T with a class token; time is slowest.
"""

from typing import Any, Literal

import keras
from keras import layers, ops

from har_keras.model.attention import SelfAttention
from har_keras.model.layers import Shape, Tensor, seed_after, width_of

Activation = Literal["gelu", "gelu_tanh"]


@keras.saving.register_keras_serializable(package="har_keras")
class MLP(layers.Layer):
    """The MLP of a transformer block: dense, GELU, dense, on each token.

    Args:
        mlp_dim: int. Width of the hidden layer.
        dropout_rate: float. Dropout after both dense layers, in [0, 1).
        activation: `"gelu"`, or `"gelu_tanh"`, the tanh approximation.
        seed: int or None. Seed of the weights and of dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.
    """

    def __init__(
        self,
        mlp_dim: int,
        dropout_rate: float = 0.0,
        activation: Activation = "gelu",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mlp_dim = mlp_dim
        self.dropout_rate = dropout_rate
        self.activation = activation
        self.seed = seed
        self.dropout = layers.Dropout(
            dropout_rate, seed=seed_after(seed, 2), dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        self.hidden = self._dense(self.mlp_dim, "hidden", self.seed)
        self.hidden.build(input_shape)
        width = width_of(input_shape)
        self.output_dense = self._dense(width, "output", seed_after(self.seed))
        self.output_dense.build((*input_shape[:-1], self.mlp_dim))

    def _dense(self, units: int, name: str, seed: int | None) -> layers.Dense:
        kernel = keras.initializers.GlorotUniform(seed)
        policy = self.dtype_policy
        return layers.Dense(
            units, kernel_initializer=kernel, name=name, dtype=policy
        )

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = gelu(self.hidden(x), approximate=self.activation == "gelu_tanh")
        x = self.output_dense(self.dropout(x, training=training))
        return self.dropout(x, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
            "activation": self.activation,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class EncoderBlock(layers.Layer):
    """A pre-norm transformer block: self-attention, then an MLP.

    Each has a layer norm before it, a residual connection around it, and
    stochastic depth.

    Args:
        num_heads: int. Attention heads.
        mlp_dim: int. Width of the hidden layer of the MLP.
        dropout_rate: float. Dropout after attention and in the MLP, in [0, 1).
        attention_dropout_rate: float. Dropout on attention weights.
        activation: `"gelu"` or `"gelu_tanh"`.
        key_bias: bool. Whether keys have a bias.
        norm_epsilon: float. Added to variances in the layer norms.
        seed: int or None. Seed of the weights and of dropout.
        drop_path_rate: float. Stochastic depth rate of both residual
            branches, per sample, in [0, 1).
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.

    Reference:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929),
          section 3.1, equations 2 and 3.
        - [Huang et al., 2016](https://arxiv.org/abs/1603.09382), section 3
          (stochastic depth).
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        activation: Activation = "gelu",
        key_bias: bool = True,
        norm_epsilon: float = 1e-6,
        seed: int | None = None,
        drop_path_rate: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.activation = activation
        self.key_bias = key_bias
        self.norm_epsilon = norm_epsilon
        self.seed = seed
        self.drop_path_rate = drop_path_rate
        self.attention_norm = self._norm("attention_norm")
        self.attention = self._attention("attention", seed)
        self.mlp_norm = self._norm("mlp_norm")
        self.mlp = MLP(
            mlp_dim, dropout_rate, activation, seed_after(seed, 2),
            name="mlp", dtype=self.dtype_policy,
        )  # fmt: skip
        self.dropout = layers.Dropout(
            dropout_rate, seed=seed_after(seed, 5), dtype=self.dtype_policy
        )
        self.drop_path = layers.Dropout(
            drop_path_rate, (None, 1, 1), seed_after(seed, 8),
            name="drop_path", dtype=self.dtype_policy,
        )  # fmt: skip

    def _norm(self, name: str) -> layers.LayerNormalization:
        return layers.LayerNormalization(
            epsilon=self.norm_epsilon, name=name, dtype=self.dtype_policy
        )

    def _attention(self, name: str, seed: int | None) -> SelfAttention:
        return SelfAttention(
            self.num_heads,
            self.attention_dropout_rate,
            self.key_bias,
            seed,
            name=name,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Shape) -> None:
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        y = self.attention(self.attention_norm(x), training=training)
        y = self.dropout(y, training=training)
        x = x + self.drop_path(y, training=training)
        return x + self._mlp_path(x, training)

    def _mlp_path(self, x: Tensor, training: bool | None) -> Tensor:
        y = self.mlp(self.mlp_norm(x), training=training)
        return self.drop_path(y, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "activation": self.activation,
            "key_bias": self.key_bias,
            "norm_epsilon": self.norm_epsilon,
            "seed": self.seed,
            "drop_path_rate": self.drop_path_rate,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class DividedBlock(EncoderBlock):
    """A block with divided attention: over time, then over space.

    A class token has no position in time: it attends to each frame separately,
    and the results are averaged.

    Args:
        num_frames: int. Tubelets in time, T.
        class_token: bool. Whether the first token is a class token.
        **kwargs: Arguments of `EncoderBlock`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.

    Reference:
        - [Bertasius et al., 2021](https://arxiv.org/abs/2102.05095), section
          3, "divided space-time attention".
    """

    def __init__(
        self, num_frames: int, class_token: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_frames = num_frames
        self.class_token = class_token
        self.temporal_norm = self._norm("temporal_norm")
        self.temporal_attention = self._attention(
            "temporal_attention", seed_after(self.seed, 6)
        )

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.temporal_norm.build(input_shape)
        self.temporal_attention.build(input_shape)
        width = width_of(input_shape)
        # Zeros: initially the block equals that of an image transformer.
        self.temporal_dense = layers.Dense(
            width,
            kernel_initializer="zeros",
            name="temporal_dense",
            dtype=self.dtype_policy,
        )
        self.temporal_dense.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        first = int(self.class_token)
        token, x = x[:, :first], x[:, first:]
        x = x + self.drop_path(self._along_time(x, training), training=training)
        token_change, change = self._within_frames(token, x, training)
        if self.class_token:
            x = ops.concatenate([token, x], axis=1)
            change = ops.concatenate([token_change, change], axis=1)
        x = x + self.drop_path(change, training=training)
        return x + self._mlp_path(x, training)

    def _along_time(self, x: Tensor, training: bool | None) -> Tensor:
        tokens, hidden = x.shape[1:]
        frames = self.num_frames
        x = ops.reshape(x, (-1, frames, tokens // frames, hidden))
        x = ops.transpose(x, (0, 2, 1, 3))  # (B, S, T, D)
        x = ops.reshape(x, (-1, frames, hidden))  # (BS, T, D)
        x = self.temporal_attention(self.temporal_norm(x), training=training)
        x = self.temporal_dense(self.dropout(x, training=training))
        x = ops.reshape(x, (-1, tokens // frames, frames, hidden))
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, tokens, hidden))

    def _within_frames(
        self, token: Tensor, x: Tensor, training: bool | None
    ) -> tuple[Tensor, Tensor]:
        tokens, hidden = x.shape[1:]
        frames = self.num_frames
        x = ops.reshape(x, (-1, tokens // frames, hidden))  # (BT, S, D)
        if self.class_token:
            token = ops.repeat(token, frames, axis=1)  # (B, T, D)
            token = ops.reshape(token, (-1, 1, hidden))
            x = ops.concatenate([token, x], axis=1)  # (BT, 1 + S, D)
        x = self.attention(self.attention_norm(x), training=training)
        x = self.dropout(x, training=training)
        if self.class_token:
            token = ops.reshape(x[:, 0], (-1, frames, hidden))
            token = ops.mean(token, axis=1, keepdims=True)  # (B, 1, D)
            x = x[:, 1:]
        return token, ops.reshape(x, (-1, tokens, hidden))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_frames": self.num_frames,
            "class_token": self.class_token,
        }


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """Returns the GELU of a tensor.

    The exact form is spelled out because `keras.ops.gelu` is converted from
    TensorFlow to the ONNX operator `Erfc`, which ONNX Runtime does not
    support. PyTorch has a fused kernel.

    Args:
        x: Tensor.
        approximate: bool. Whether to use the tanh approximation.

    Returns:
        Tensor of the same shape.

    Reference:
        - [Hendrycks & Gimpel, 2016](https://arxiv.org/abs/1606.08415),
          section 2.
    """
    if approximate or keras.config.backend() == "torch":
        return ops.gelu(x, approximate=approximate)
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))
