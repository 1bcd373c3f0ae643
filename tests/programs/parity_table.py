"""Prints how every way that a run's model is asked agrees with Keras.

    cd tests && python -m programs.parity_table RUN

Twenty clips of the run's videos, rotated and variable-rate ones first, through
each signature, each format whose packages are installed, and the client over
REST and gRPC against the stand-in server. Exits with 1 if a way differs by more
than is allowed, or gives less than 95 % of the clips the same top label. To a
model that needs frames as they are the client sends PNG; its rows of JPEG and
GIF are shown, with nothing demanded of them.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from support.tiny_serving import gif, jpegs, pngs

from har_keras.config import EvaluationConfig
from har_keras.environment import start_backend
from har_keras.inference.load import (
    calibration_of,
    load_model,
    model_info_of,
)
from har_keras.inference.views import evenly, view_clips
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run
from har_keras.serving import formats
from har_keras.serving.client import ServingClient
from har_keras.serving.signatures import export_saved_model
from har_keras.store.preparation import decode_usable

NUM_CLIPS = 20
PACKAGES = {
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
    "openvino": ("openvino", "onnx", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "litert-int8": ("ai_edge_litert",),
    "client": ("tensorflow_serving", "grpc"),
}
# Of a probability. GIF has 256 colours a frame, not what a camera saw.
TOLERANCES = {"jpeg": 0.02, "gif": 0.1, "int8": 0.05}
EXACT = 1e-5


@dataclass(frozen=True)
class Way:
    """How a way to ask agrees with Keras."""

    name: str
    difference: float
    agreement: float
    tolerance: float | None

    @property
    def holds(self):
        if self.tolerance is None:
            return True
        return self.difference <= self.tolerance and self.agreement >= 0.95

    def __str__(self):
        return (
            f"| {self.name} | {self.difference:.1e} | "
            f"{'-' if self.tolerance is None else f'{self.tolerance:.0e}'} | "
            f"{self.agreement:.0%} |"
        )


def odd_videos(videos):
    """Returns some videos: up to eight rotated or variable-rate ones first."""
    odd = [v for v in videos if "-rot" in v.file or "-vfr" in v.file]
    others = [v for v in videos if v.split == "test" and v not in odd]
    odd = evenly(odd, 8)
    return [*odd, *evenly(others, NUM_CLIPS - len(odd))]


def middle_clips(store, videos, clip):
    one = EvaluationConfig(num_clips=1, num_crops=1)
    return np.concatenate([view_clips(store, v, clip, one) for v in videos])


def installed(name):
    return all(importlib.util.find_spec(x) for x in PACKAGES[name])


def parity(model, class_names, usage, clips, folder, reference=None):
    """Returns a `Way` for each way to ask, the model's own answers known."""
    expected = np.asarray(model.predict_on_batch(clips))
    base = folder / "saved_model"
    version = export_saved_model(model, class_names, usage, base, reference)
    return [
        compared(name, expected, found, usage.lossless)
        for answers in (
            by_signature(version, clips),
            by_format(model, class_names, usage, clips, folder, reference),
            by_client(base, clips),
        )
        for name, found in answers
    ]


def compared(name, expected, found, lossless=False):
    kind = next((k for k in TOLERANCES if name.endswith(k)), None)
    tolerance = TOLERANCES.get(kind, EXACT)
    if lossless and kind in ("jpeg", "gif"):
        tolerance = None
    same = found.argmax(1) == expected.argmax(1)
    difference = float(np.abs(found - expected).max())
    return Way(name, difference, float(same.mean()), tolerance)


def by_signature(version, clips):
    served = tf.saved_model.load(str(version)).signatures
    sent = {
        "serving_default": {"clips": clips},
        "serving_jpeg": {"frames_bytes": [jpegs(clip) for clip in clips]},
        "serving_jpeg, PNG": {"frames_bytes": [pngs(clip) for clip in clips]},
        "serving_gif": {"gif_bytes": [gif(clip) for clip in clips]},
    }
    for name, inputs in sent.items():
        found = served[name.partition(",")[0]](
            **{k: tf.constant(v) for k, v in inputs.items()}
        )
        yield name, found["probabilities"].numpy()


def by_format(model, class_names, usage, clips, folder, reference=None):
    source = formats.ExportSource(model, class_names, usage, reference)
    for name in filter(installed, formats.FORMATS):
        _, opened = formats.export_format(name, source, folder, clips)
        yield name, opened.predict_on_batch(clips)


def by_client(base, clips):
    if not installed("client"):
        return
    from support.stand_in_server import StandIn

    server = StandIn(base)
    try:
        for way, url in (("REST", server.rest), ("gRPC", server.grpc)):
            for frames in ("raw", "png", "jpeg"):
                with ServingClient(url, frames=frames) as client:
                    found = [
                        client.predict(x[None]).probabilities for x in clips
                    ]
                yield f"client, {way}, {frames}", np.concatenate(found)
    finally:
        server.close()


def table(ways):
    head = "| way | largest difference | allowed | same top label |"
    return "\n".join([head, "|---|---|---|---|", *map(str, ways)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = Run.open(parser.parse_args().run)
    start_backend("tensorflow")
    config = run.config()
    store, manifest = decode_usable(
        Manifest.read(run.manifest_file), config.clip, config.store
    )
    videos = odd_videos([v for v in manifest.videos if v.kept_frames])
    clips = middle_clips(store, videos, config.clip)
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(run)
        ways = parity(
            model, manifest.class_names, model_info_of(run), clips,
            Path(folder), calibration_of(run, model).reference,
        )  # fmt: skip
    print(f"{len(clips)} clips\n{table(ways)}")
    sys.exit(not all(way.holds for way in ways))


if __name__ == "__main__":
    main()
