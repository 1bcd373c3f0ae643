"""Measures what checkpoints take of a training with the default options.

    cd tests && python -m programs.checkpoint_overhead --clips 384 --epochs 5

The first epoch compiles, and is left out. Shares of time on the clock and of
the processor's time are printed; checkpoints may take 1 % of either. An epoch
of few clips is the worst case, for one is written after each.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from support.moving_squares import SquaresStore, squares_manifest

from har_keras.config import Config
from har_keras.run import Run
from har_keras.training import callbacks
from har_keras.training.fit import fit


class Stopwatch:
    """Adds up the seconds in calls of a method, after the first epoch."""

    def __init__(self, owner, name):
        self.clock = self.processor = self.calls = 0
        method = getattr(owner, name)

        def timed(callback, *arguments, **options):
            began = time.perf_counter(), time.thread_time()
            method(callback, *arguments, **options)
            if callback.state.history[1:]:
                self.clock += time.perf_counter() - began[0]
                self.processor += time.thread_time() - began[1]
                self.calls += 1

        setattr(owner, name, timed)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=384)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    saves = Stopwatch(callbacks.Checkpoints, "_save")
    models = Stopwatch(callbacks.KeepBest, "on_epoch_end")
    began = []
    record = callbacks.Record.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        began.append((time.perf_counter(), time.process_time()))
        record(self, epoch, logs)

    callbacks.Record.on_epoch_begin = on_epoch_begin
    with tempfile.TemporaryDirectory() as folder:
        config = Config().replace(
            epochs=options.epochs, clips_per_video=1, wandb="off"
        )
        run = Run(Path(folder) / "run")
        run.create(config)
        manifest = squares_manifest(run.path, num_videos=options.clips)
        fit(run, config, SquaresStore(config.clip), manifest)
        ended = time.perf_counter(), time.process_time()
        newest = max(run.checkpoint_dir.glob("*.npz"))
        megabytes = newest.stat().st_size / 1e6
    clock, processor = (b - a for a, b in zip(began[1], ended, strict=True))
    print(
        f"{keras.config.backend()}: {options.epochs - 1} epochs of "
        f"{options.clips} clips, {clock:.1f} s on the clock, {processor:.1f} s "
        f"of the processor; a checkpoint has {megabytes:.2f} MB"
    )
    for name, watch in (("checkpoints", saves), ("model.keras", models)):
        print(
            f"{name}: {watch.calls} times, {watch.clock / watch.calls:.3f} s "
            f"and {watch.processor / watch.calls:.3f} s of the processor each, "
            f"{watch.clock / clock:.2%} and {watch.processor / processor:.2%}"
        )
    sys.exit(saves.clock / clock > 0.01 or saves.processor / processor > 0.01)


if __name__ == "__main__":
    main()
