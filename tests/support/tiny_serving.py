"""A tiny model, its SavedModel and clips to ask it about."""

import struct

import cv2
import imageio.v3 as imageio
import keras
import numpy as np

from har_keras.config import Config
from har_keras.serving.model_info import ModelInfo

NAMES = ("gym", "walk", "work")
CONFIG = Config().replace(num_frames=4, crop_size=32, patch_size=16)
INFO = ModelInfo(CONFIG.clip, CONFIG.evaluation)


def tiny_model():
    """A model whose answer depends on every pixel and on the order in time."""
    keras.utils.set_random_seed(0)
    clips = keras.Input((4, 32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 127.5, -1)(clips)
    x = keras.layers.Conv3D(6, (2, 16, 16), strides=(2, 16, 16))(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    x = keras.layers.Dense(len(NAMES), activation="softmax")(x)
    return keras.Model(clips, x)


def meta_graph_of(version):
    """Returns what is in the only graph of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(
        (version / "saved_model.pb").read_bytes()
    )
    return saved.meta_graphs[0]


def signatures_of(version):
    return meta_graph_of(version).signature_def


def random_clips(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def smooth_clips(num_clips=2, num_frames=4, height=32, width=32, seed=0):
    """Clips as cameras take them: neighbouring pixels are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (num_clips, num_frames, 4, 4, 3), "uint8")
    return np.stack(
        [
            [
                cv2.resize(
                    frame, (width, height), interpolation=cv2.INTER_CUBIC
                )
                for frame in clip
            ]
            for clip in coarse
        ]
    )


def jpegs(clip, quality=95):
    """Returns the frames of a clip as JPEG pictures."""
    return [
        cv2.imencode(
            ".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]
        )[1].tobytes()
        for frame in clip
    ]


def pngs(clip):
    """Returns the frames of a clip as PNG pictures."""
    return [
        cv2.imencode(".png", frame[..., ::-1])[1].tobytes() for frame in clip
    ]


def huge_png():
    """Returns a PNG that says it has 65535 x 65535 pixels."""
    small = pngs(random_clips(1, 32, 32, 3))[0]
    return small[:16] + struct.pack(">II", 65535, 65535) + small[24:]


def gif(clip):
    """Returns a clip as an animated GIF."""
    return imageio.imwrite("<bytes>", clip, extension=".gif", loop=0)


def huge_gif(width, height, num_frames=1):
    """Returns a few bytes that claim to be a GIF of any size."""
    screen = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x80, 0, 0)
    table = bytes(6)
    image = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0)
    pixels = bytes([2, 2, 0x4C, 0x01, 0])
    return screen + table + num_frames * (image + pixels) + b"\x3b"
