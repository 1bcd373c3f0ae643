"""Gradient accumulation over micro-batches, on each backend.

Each of the three `*_step` functions is a `train_step` of the `Trainer` for one
backend; they compute the same sum: with n clips in the batch and m in
micro-batch i, whose loss is a mean,

    gradient = sum over i of m / n * gradient(loss of micro-batch i)

The inputs of a batch may be a tensor of clips, or a structure of tensors.
"""

import contextlib
import functools
import operator
from collections.abc import Callable
from typing import Any

import keras

from har_keras.model.layers import Tensor

Scope = Callable[[Tensor], contextlib.AbstractContextManager[Any]]


def tensorflow_step(trainer: Any, data: Any) -> dict[str, Any]:
    """Updates the weights for one batch under TensorFlow.

    Args:
        trainer: Trainer.
        data: Clips and labels, and optionally a weight for each clip.

    Returns:
        The metrics so far, by name.
    """
    import tensorflow as tf

    clips, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    size = tf.shape(first_of(clips))[0]
    batch = (clips, labels, tf.ones([size]) if weights is None else weights)
    if trainer.runs_in_halves and tf.inside_function():
        return _tensorflow_halves(trainer, data, batch)
    share = _share_of_replica(size)
    if trainer.micro_batch_size is None:
        logits, loss, gradients = _tensorflow_part(trainer, batch, share)
    else:
        parts = _in_micro_batches(batch, trainer.micro_batch_size)
        logits, loss, gradients = _tensorflow_sum(trainer, parts, size, share)
    return _tensorflow_update(trainer, data, logits, loss, gradients)


def _tensorflow_update(
    trainer: Any, data: Any, logits: Tensor, loss: Tensor, gradients: Any
) -> dict[str, Any]:
    """Updates weights and metrics; logits may have those of the padding."""
    import tensorflow as tf

    clips, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    logits = logits[: tf.shape(first_of(clips))[0]]
    trainer.optimizer.apply(gradients, trainer.trainable_variables)
    return trainer.update_metrics(loss, clips, labels, logits, weights)


def _tensorflow_halves(
    trainer: Any, data: Any, batch: tuple[Tensor, ...]
) -> dict[str, Any]:
    """Updates the weights, with both halves of a batch at the same time.

    XLA divides each operation among the cores, which then wait for each other.
    Of two programs at once, one computes where the other waits. They are two on
    any machine, so that the weights don't depend on the number of its cores.
    """
    import tensorflow as tf

    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)

    @compiled
    def half(parts: Any, size: Tensor, first: Tensor) -> Any:
        scope = functools.partial(_at_micro_batch, trainer, first)
        return _tensorflow_sum(trainer, parts, size, tf.constant(1.0), scope)

    @compiled
    def update(data: Any, some: Any, others: Any, count: Tensor) -> Any:
        for state in _seed_states(trainer):
            state.assign(_drawn(state, count))
        logits = tf.concat([some[0], others[0]], 0)
        gradients = [a + b for a, b in zip(some[2], others[2], strict=True)]
        return _tensorflow_update(
            trainer, data, logits, some[1] + others[1], gradients
        )

    size = tf.shape(batch[1])[0]
    parts = _in_micro_batches(batch, trainer.micro_batch_size, multiple=2)
    count = tf.shape(parts[1])[0]
    some = keras.tree.map_structure(lambda item: item[: count // 2], parts)
    others = keras.tree.map_structure(lambda item: item[count // 2 :], parts)
    first = half(some, size, tf.constant(0))
    return update(data, first, half(others, size, count // 2), count)


# Random numbers that a layer draws for a micro-batch, at most.
_DRAWS = 64


def _seed_states(trainer: Any) -> list[Any]:
    """Returns the variables that count what the layers drew, as dropout."""
    return [
        variable
        for variable in trainer.non_trainable_variables
        if variable.name == "seed_generator_state"
    ]


def _drawn(state: Any, count: Tensor) -> Tensor:
    """Returns a state after some micro-batches."""
    import tensorflow as tf

    draws = tf.stack([0, _DRAWS * tf.cast(count, "int32")])
    return state.value + tf.cast(draws, state.dtype)


def _at_micro_batch(
    trainer: Any, first: Tensor, i: Tensor
) -> contextlib.AbstractContextManager[Any]:
    """Returns a scope in which layers draw what they do in a micro-batch.

    No variable changes there, so that no half waits for the other.
    """
    states = _seed_states(trainer)
    mapping = [(state, _drawn(state, first + i)) for state in states]
    return keras.StatelessScope(mapping) if states else contextlib.nullcontext()


def _share_of_replica(size: Tensor) -> Tensor:
    """Returns the weight of a replica's mean loss, 1 if shares are equal.

    Keras divides every replica's loss by the number of replicas, which is
    correct only for equal numbers of clips; the last batch is unequal.
    """
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas == 1:
        return tf.constant(1.0)
    local = tf.cast(size, "float32")
    context = tf.distribute.get_replica_context()
    return replicas * local / context.all_reduce("SUM", local)


def _tensorflow_part(
    trainer: Any, batch: tuple[Tensor, ...], share: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Returns the logits, the mean loss and `share` of its gradients."""
    import tensorflow as tf

    clips, labels, weights = batch
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    with tf.GradientTape() as tape:
        logits = trainer(clips, training=True)
        loss = trainer.compute_loss(
            clips, labels, logits, weights, training=True
        )
        scaled = trainer.optimizer.scale_loss(loss * share)
    variables = [item.value for item in trainer.trainable_variables]
    return logits, loss * replicas, tape.gradient(scaled, variables)


def _tensorflow_sum(
    trainer: Any,
    parts: tuple[Tensor, ...],
    size: Tensor,
    share: Tensor,
    scope: Scope = lambda _: contextlib.nullcontext(),
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Same as `_tensorflow_part`, accumulated over micro-batches.

    They are `(count, micro, ...)` and of a batch of `size` clips. The returned
    logits include the padding. The i-th of them is computed in `scope(i)`.
    """
    import tensorflow as tf

    count, micro = tf.shape(parts[1])[0], parts[1].shape[1]
    weight = micro / tf.maximum(tf.cast(size, "float32"), 1.0)

    def add(i: Tensor, rows: Any, loss: Tensor, sums: list[Tensor]) -> Any:
        part = keras.tree.map_structure(lambda item: item[i], parts)
        with scope(i):
            logits, more, gradients = _tensorflow_part(
                trainer, part, weight * share
            )
        sums = [a + b for a, b in zip(sums, gradients, strict=True)]
        return i + 1, rows.write(i, logits), loss + weight * more, sums

    num_classes = trainer.compute_output_shape(first_of(parts).shape[1:])[-1]
    zeros = [tf.zeros_like(item.value) for item in trainer.trainable_variables]
    rows = tf.TensorArray("float32", count, element_shape=(micro, num_classes))
    _, rows, loss, gradients = tf.while_loop(
        lambda i, *_: i < count,
        add,
        (0, rows, tf.constant(0.0), zeros),
        parallel_iterations=1,
    )
    return tf.reshape(rows.stack(), (-1, num_classes)), loss, gradients


def _in_micro_batches(
    batch: tuple[Tensor, ...], micro: int, *, multiple: int = 1
) -> Any:
    """Reshapes a batch of `(B, ...)` to `(count, micro, ...)`.

    The last micro-batches are padded with clips of weight zero, so that XLA
    compiles one loop body, and their count is a multiple of some number.
    """
    import tensorflow as tf

    size = tf.shape(batch[1])[0]
    count = -(-size // (multiple * micro)) * multiple

    def reshaped(x: Tensor) -> Tensor:
        padding = [[0, count * micro - size]] + [[0, 0]] * (x.shape.rank - 1)
        return tf.reshape(tf.pad(x, padding), (count, micro, *x.shape[1:]))

    return keras.tree.map_structure(reshaped, batch)


def jax_step(trainer: Any, state: Any, data: Any) -> Any:
    """Updates the weights for one batch under JAX.

    Args:
        trainer: Trainer.
        state: Trainable, other, optimizer and metric variables.
        data: Clips and labels, and optionally a weight for each clip.

    Returns:
        The metrics so far, by name, and the new state.
    """
    import jax
    import jax.numpy as jnp

    trainable, other, optimizer, metrics = state
    clips, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    size = labels.shape[0]
    micro = min(trainer.micro_batch_size or size, size)
    count = -(-size // micro)
    batch = (clips, labels, jnp.ones(size) if weights is None else weights)
    parts = keras.tree.map_structure(
        lambda item: _jax_in_micro_batches(item, count, micro), batch
    )
    gradient = jax.value_and_grad(
        trainer.compute_loss_and_updates, has_aux=True
    )

    def add(sums: Any, part: Any) -> Any:
        total, loss, other, metrics = sums
        (_, (more, logits, other, metrics)), gradients = gradient(
            trainable, other, metrics, *part,
            training=True, optimizer_variables=optimizer,
        )  # fmt: skip
        total = [
            a + micro / size * b for a, b in zip(total, gradients, strict=True)
        ]
        return (total, loss + micro / size * more, other, metrics), logits

    start = ([jnp.zeros_like(x) for x in trainable], 0.0, other, metrics)
    (total, loss, other, metrics), logits = jax.lax.scan(add, start, parts)
    logits = logits.reshape(-1, logits.shape[-1])[:size]
    trainable, optimizer = trainer.optimizer.stateless_apply(
        optimizer, total, trainable
    )
    variables = trainer.metrics_variables
    with keras.StatelessScope(
        state_mapping=list(zip(variables, metrics, strict=True))
    ) as scope:
        logs = trainer.update_metrics(loss, clips, labels, logits, weights)
    metrics = [scope.get_current_value(item) for item in variables]
    return logs, (trainable, other, optimizer, metrics)


def _jax_in_micro_batches(x: Tensor, count: int, micro: int) -> Tensor:
    import jax.numpy as jnp

    missing = count * micro - x.shape[0]
    if missing:
        x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(count, micro, *x.shape[1:])


def torch_step(trainer: Any, data: Any) -> dict[str, Any]:
    """Updates the weights for one batch under PyTorch.

    Args:
        trainer: Trainer.
        data: Clips and labels, and optionally a weight for each clip.

    Returns:
        The metrics so far, by name.
    """
    import torch

    clips, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    size = labels.shape[0]
    micro = trainer.micro_batch_size or size
    trainer.zero_grad()
    loss, rows = 0.0, []
    for i in range(0, size, micro):
        part = slice(i, i + micro)
        some = keras.tree.map_structure(operator.itemgetter(part), clips)
        logits = trainer(some, training=True)
        mean = trainer.compute_loss(
            some,
            labels[part],
            logits,
            None if weights is None else weights[part],
            training=True,
        )
        share = mean * (len(logits) / size)
        trainer.optimizer.scale_loss(share).backward()
        loss += share.detach()
        rows.append(logits.detach())
    variables = trainer.trainable_variables
    with torch.no_grad():
        gradients = [item.value.grad for item in variables]
        trainer.optimizer.apply(gradients, variables)
        logits = torch.cat(rows)
    return trainer.update_metrics(loss, clips, labels, logits, weights)


def first_of(batch: Any) -> Tensor:
    """Returns the clips of a batch."""
    return keras.tree.flatten(batch)[0]


TRAIN_STEPS: dict[str, Callable[..., Any]] = {
    "tensorflow": tensorflow_step,
    "jax": jax_step,
    "torch": torch_step,
}
