"""Pretraining without labels: the masked autoencoder that `fit` trains."""

from keras import ops

from har_keras.clips.masking import MaskedClips
from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.manifest.manifest import Manifest
from har_keras.model.build import build_model
from har_keras.model.layers import Tensor
from har_keras.model.mae import MaskedAutoencoder
from har_keras.ranges import flag
from har_keras.training.fit import Objective
from har_keras.training.initial_weights import initialize_weights
from har_keras.training.trainer import Trainer, build_trainer


def build_autoencoder(config: Config) -> MaskedAutoencoder:
    """Returns the masked autoencoder of a config, its weights made.

    Args:
        config: Config. The sections `clip`, `model`, `masking` and
            `training.seed` are used.

    Raises:
        UsageError: If the model can't be masked, or the decoder's heads don't
            divide its width.
    """
    model, masking = config.model, config.masking
    wanted = {"model": "vit", "attention": "joint", "stem": "pixels"}
    for name, value in wanted.items():
        if getattr(model, name) != value:
            raise UsageError(
                f"pretrain is for {flag(name)} {value}. Received: "
                f"{getattr(model, name)}."
            )
    if model.pooling == "class_token":
        raise UsageError(
            "pretrain has no class token: give --pooling mean or mean_norm."
        )
    width = masking.decoder_dim or model.hidden_dim // 2
    heads = masking.decoder_heads or model.num_heads
    if width % heads:
        raise UsageError(
            f"--decoder-heads must divide --decoder-dim. Received: {heads} "
            f"and {width}."
        )
    seed = config.training.seed
    return MaskedAutoencoder(
        # Two classes: the least there can be, for a head that stays unused.
        build_model(model, config.clip, num_classes=2, seed=seed),
        mask_ratio=masking.mask_ratio,
        decoder_dim=width,
        decoder_layers=masking.decoder_layers,
        decoder_heads=heads,
        seed=seed,
    )


def compiled_autoencoder(
    config: Config, manifest: Manifest, steps_per_epoch: int
) -> Trainer:
    """Returns the autoencoder in its trainer, all variables made.

    Args:
        config: Config. Every option.
        manifest: Manifest. Not used; videos have no labels.
        steps_per_epoch: int. Batches in one epoch, at least 1.
    """
    model = build_autoencoder(config)
    initialize_weights(model.encoder, config.model.weights)
    model.build()
    trainer = build_trainer(
        model,
        config.training,
        steps_per_epoch,
        loss=reconstruction_error,
        metrics=[],
    )
    trainer.optimizer.build(trainer.trainable_variables)
    # Else a run that stopped between its last batch and the validation could
    # not tell its loss when it resumes.
    trainer.compute_metrics(None, ops.zeros((1,)), ops.zeros((1, 1)))
    trainer.reset_metrics()
    return trainer


def reconstruction_error(labels: Tensor, errors: Tensor) -> Tensor:
    """Returns the loss of each clip, which the autoencoder gives itself.

    Args:
        labels: Tensor of shape `(B,)`. Not used.
        errors: float32 tensor of shape `(B, 1)`.

    Returns:
        float32 tensor of shape `(B,)`.
    """
    return ops.squeeze(errors, axis=-1)


PRETRAINING = Objective(MaskedClips, compiled_autoencoder)
