"""Trains many tiny epochs and shows that memory and open files stay.

    cd tests && python -m programs.soak --epochs 2000

Resident memory may grow by 5 % over the least of epochs 50 to 100, for it
falls once more after the start, and the number of open files by none.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from support.moving_squares import SquaresStore, squares_manifest

from har_keras.run import Run
from har_keras.training import callbacks
from har_keras.training.fit import fit
from programs.crash_matrix import CONFIG

SETTLED = 50


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2000)
    epochs = parser.parse_args().epochs
    seen = []
    end_epoch = callbacks.Checkpoints.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        end_epoch(self, epoch, logs)
        files = len(os.listdir("/proc/self/fd"))
        seen.append((resident_bytes(), files))
        if epoch % 50 == 49:
            print(epoch + 1, seen[-1][0] // 1024, "KiB", files, flush=True)

    callbacks.Checkpoints.on_epoch_end = on_epoch_end
    with tempfile.TemporaryDirectory() as folder:
        config = CONFIG.replace(epochs=epochs)
        run = Run(Path(folder) / "run")
        run.create(config)
        manifest = squares_manifest(
            run.path, num_videos=8, splits=("train", "val")
        )
        fit(run, config, SquaresStore(config.clip), manifest)
    before, after = min(seen[SETTLED - 1 : 2 * SETTLED]), seen[-1]
    growth = after[0] / before[0] - 1
    print(
        f"{keras.config.backend()}: epochs {SETTLED} to {len(seen)}: memory "
        f"{growth:+.2%}, open files {before[1]} to {after[1]}"
    )
    sys.exit(growth > 0.05 or after[1] > before[1])


if __name__ == "__main__":
    main()
