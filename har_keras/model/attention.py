"""Multi-head self-attention.

Shape letters: B batch, N tokens, D hidden, h heads, d width of a head.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from har_keras.model.layers import Shape, Tensor, seed_after, width_of

# Largest number of tokens for which the scores of all heads fit a CPU's cache;
# one head at a time is faster for 392 (112 pixels) and 1568 (224 pixels).
SHORT_SEQUENCE = 256
# float32 values in the widest vector register of a CPU.
WHOLE_VECTORS = 16


@keras.saving.register_keras_serializable(package="har_keras")
class SelfAttention(layers.Layer):
    """Multi-head self-attention over all tokens.

    Queries, keys and values are computed by one matrix product. PyTorch has a
    fused kernel for the rest. On other backends scores have shape keys by
    queries, and the softmax is normalized after the product with the values,
    so that every product on a CPU has a long last axis; beyond
    `SHORT_SEQUENCE` tokens heads are computed one by one, since the scores of
    all do not fit the cache. Softmax is computed in float32.

    Args:
        num_heads: int. Heads, h; a divisor of the tokens' width.
        dropout_rate: float. Dropout on attention weights, in [0, 1).
        key_bias: bool. Whether keys have a bias as queries and values do. It
            has no effect on the output: softmax cancels it.
        seed: int or None. Seed of the weights and of dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.

    Reference:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section
          3.2.
    """

    def __init__(
        self,
        num_heads: int,
        dropout_rate: float = 0.0,
        key_bias: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = dropout_rate
        self.key_bias = key_bias
        self.seed = seed
        self.dropout = layers.Dropout(
            dropout_rate, seed=seed, name="dropout", dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        hidden = width_of(input_shape)
        if hidden % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of the tokens. Received: "
                f"num_heads={self.num_heads}, {input_shape=}."
            )
        # Each of the three products is initialized as a separate layer.
        limit = math.sqrt(6 / (hidden + hidden))
        self.query_key_value = layers.Dense(
            3 * hidden,
            kernel_initializer=keras.initializers.RandomUniform(
                -limit, limit, self.seed
            ),
            use_bias=self.key_bias,
            name="query_key_value",
            dtype=self.dtype_policy,
        )
        self.query_key_value.build(input_shape)
        if not self.key_bias:
            self.query_value_bias = self.add_weight(
                name="query_value_bias", shape=(2, hidden), initializer="zeros"
            )
        self.output_dense = layers.Dense(
            hidden,
            kernel_initializer=keras.initializers.GlorotUniform(
                seed_after(self.seed)
            ),
            name="output",
            dtype=self.dtype_policy,
        )
        self.output_dense.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        tokens, hidden = x.shape[1:]
        width = hidden // self.num_heads
        x = self.query_key_value(x)  # (B, N, 3D)
        if not self.key_bias:
            bias = ops.convert_to_tensor(self.query_value_bias)
            biases = [bias[0], ops.zeros_like(bias[0]), bias[1]]
            x = x + ops.cast(ops.concatenate(biases), x.dtype)
        x = ops.reshape(x, (-1, tokens, 3, self.num_heads, width))
        dropping = bool(training) and self.dropout_rate > 0
        if keras.config.backend() == "torch" and not dropping:
            x = self.fused(x)
        elif tokens <= SHORT_SEQUENCE:
            x = self.keys_by_queries(x, training)
        else:
            x = self.head_by_head(x, training)
        return self.output_dense(ops.reshape(x, (-1, tokens, hidden)))

    def fused(self, x: Tensor) -> Tensor:
        """Same as `keys_by_queries`, by the backend's fused kernel."""
        width = x.shape[4]
        # Zero-padded, so that a row of a head fills whole vector registers.
        x = ops.pad(x, [(0, 0)] * 4 + [(0, -width % WHOLE_VECTORS)])
        x = ops.dot_product_attention(
            x[:, :, 0], x[:, :, 1], x[:, :, 2], scale=width**-0.5
        )
        return x[..., :width]

    def keys_by_queries(self, x: Tensor, training: bool | None) -> Tensor:
        """Computes attention from queries, keys and values.

        Args:
            x: Tensor of shape `(B, N, 3, h, d)`.
            training: bool or None. Whether dropout is applied.

        Returns:
            Tensor of shape `(B, N, h, d)`.
        """
        x = ops.transpose(x, (2, 0, 3, 4, 1))  # (3, B, h, d, N)
        query, key, value = x[0] * x.shape[3] ** -0.5, x[1], x[2]
        scores = ops.matmul(ops.swapaxes(key, -1, -2), query)  # (B, h, N, N)
        scores = ops.cast(scores, "float32")
        largest = ops.stop_gradient(ops.max(scores, axis=-2, keepdims=True))
        weights = ops.exp(scores - largest)
        total = ops.cast(ops.sum(weights, axis=-2, keepdims=True), x.dtype)
        weights = self.dropout(ops.cast(weights, x.dtype), training=training)
        x = ops.matmul(value, weights) / total  # (B, h, d, N)
        return ops.transpose(x, (0, 3, 1, 2))

    def head_by_head(self, x: Tensor, training: bool | None) -> Tensor:
        """Same as `keys_by_queries`, for one head at a time."""
        heads = [
            self.keys_by_queries(x[:, :, :, i : i + 1], training)
            for i in range(self.num_heads)
        ]
        return ops.concatenate(heads, axis=2)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "dropout_rate": self.dropout_rate,
            "key_bias": self.key_bias,
            "seed": self.seed,
        }
