"""An untrained run, measured: what it says need not be right."""

import numpy as np

from har_keras.config import Config
from har_keras.evaluate import evaluate
from har_keras.manifest.manifest import Manifest
from har_keras.model.build import build_model
from har_keras.run import Run
from har_keras.store.preparation import decode_usable


def untrained_run(folder, videos):
    """Makes a run in `folder` on videos of two classes."""
    config = Config().replace(
        num_frames=4, crop_size=32, hidden_dim=8, num_layers=1, num_heads=2,
        mlp_dim=8, seed=3, cache="jpeg", store_dir=folder / "store",
        val_fraction=0.25, test_fraction=0.25,
    )  # fmt: skip
    run = Run(folder / "run")
    manifest = Manifest.from_folder(
        videos, val_fraction=0.25, test_fraction=0.25, seed=0
    )
    store, manifest = decode_usable(manifest, config.clip, config.store)
    run.create(config)
    manifest.write(run.manifest_file)
    model = build_model(config.model, config.clip, num_classes=2, seed=3)
    weights = np.random.default_rng(0)
    model.set_weights(
        [weights.normal(0, 0.4, w.shape) for w in model.get_weights()]
    )
    model.save(run.model_file)
    evaluate(run, split="train", output=run.path, store=store)
    return run
