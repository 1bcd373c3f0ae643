"""Kills, damages and starves a training, and shows what becomes of it.

    cd tests
    KERAS_BACKEND=jax python -m programs.crash_matrix --kills 20 --task pretrain

Every case must end with the weights of the uninterrupted run, bit for bit, or
with one plain sentence. A child process is forked for each start, so that the
libraries are imported once.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from support.moving_squares import SquaresStore, squares_manifest

from har_keras import cli
from har_keras.config import Config
from har_keras.run import Run
from har_keras.training import callbacks, checkpoint
from har_keras.training.fit import fit
from har_keras.training.pretraining import PRETRAINING
from har_keras.training.trainer import Trainer

EPOCHS, STEPS = 4, 3
TINY = {
    "num_frames": 4, "hidden_dim": 8, "num_heads": 2, "num_layers": 1,
    "mlp_dim": 16, "batch_size": 8, "micro_batch_size": 4,
    "clips_per_video": 1, "epochs": EPOCHS, "dropout_rate": 0.1,
    "attention_dropout_rate": 0.1, "schedule": "cosine", "warmup_epochs": 1.0,
    "wandb": "off",
}  # fmt: skip
CONFIG = Config().replace(**TINY, crop_size=16, mixup=0.4)
TASKS = {
    "train": (CONFIG, None),
    "pretrain": (
        Config().replace(
            **TINY, recipe="pretrain", crop_size=64, mask_ratio=0.5,
            decoder_layers=1,
        ),
        PRETRAINING,
    ),
}  # fmt: skip


@dataclass
class Ended:
    """How a child process ended: its exit code, -9 if killed, and its words."""

    code: int
    said: str

    @property
    def sentences(self):
        return [x for x in self.said.splitlines() if x.startswith("Error: ")]


def train(path, *, every_step=False, fault=None):
    """Trains in a child process, with a fault put in; returns its end."""
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            code = 1
            try:
                code = _child(path, every_step, fault)
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitpid(pid, 0)[1]
        output.seek(0)
        said = output.read().decode(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), said)


def _child(path, every_step, fault):
    minutes = 0.0 if every_step else 5.0
    config, task = TASKS[options.task]
    config = dataclasses.replace(
        config,
        training=dataclasses.replace(
            config.training, checkpoint_minutes=minutes
        ),
    )
    run = Run(path)
    if not run.config_file.exists():
        run.create(config)
    manifest = squares_manifest(
        path, num_videos=8 * STEPS, splits=("train", "val")
    )
    if fault:
        fault()
    return cli.run_verb(
        lambda: fit(run, config, SquaresStore(config.clip), manifest, task)
    )


def weights_of(path):
    """Returns a hash of all variables of the last checkpoint."""
    newest = sorted(Run(path).checkpoint_dir.glob("*.npz"))[-1]
    content = hashlib.sha256(newest.name[:12].encode())
    with np.load(newest) as arrays:
        for name in sorted(set(arrays) - {"state"}):
            content.update(name.encode() + arrays[name].tobytes())
    return content.hexdigest()


# Faults, put in by the child into its own code.


def after_steps(number, *signals):
    """Sends signals to the process itself in the n-th step it does."""

    def fault():
        after_batch = callbacks.Checkpoints.on_train_batch_end
        done = 0

        def on_train_batch_end(self, batch, logs=None):
            nonlocal done
            done += 1
            if done == number:
                for one in signals:
                    os.kill(os.getpid(), one)
                    time.sleep(0.2)
            after_batch(self, batch, logs)

        callbacks.Checkpoints.on_train_batch_end = on_train_batch_end

    return fault


def inside_save(number, place):
    """Kills the process in the n-th checkpoint that it writes."""

    def fault():
        write, replace, prune = (
            Path.write_bytes, os.replace, checkpoint._prune,
        )  # fmt: skip
        saves = 0

        def write_bytes(self, data):
            nonlocal saves
            saves += 1
            if saves == number and place == "half written":
                write(self, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, data)

        def die_before(name, function):
            def call(*arguments):
                if saves == number and place == name:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments)

            return call

        checkpoint.Path.write_bytes = write_bytes
        os.replace = die_before("before the rename", replace)
        checkpoint._prune = die_before("after the rename", prune)

    return fault


def limited_files(size):
    """Lets no file grow beyond a size: a full disk, without being root."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# Cases. Each yields a name, whether it went as it must, and what happened.


def kills(path, whole, rng, number):
    """Kill -9 at random steps, again and again, within one run."""
    done = 0
    while done < number:
        folder = path / f"kills-{done}"
        places = []
        for _ in range(4):
            at = rng.randint(1, EPOCHS * STEPS // 2)
            ended = train(
                folder,
                every_step=rng.random() < 0.5,
                fault=after_steps(at, signal.SIGKILL),
            )
            if ended.code != -9:
                break
            places.append(at)
        done += len(places)
        # Either killed again, or there were too few steps left to be.
        ended_well = bool(places) and ended.code in (-9, 0)
        ended = train(folder)
        good = ended_well and same(folder, whole, ended)
        yield f"kill -9 at steps {places} after a start", good, verdict(ended)


def saves(path, whole, rng):
    for place in ("half written", "before the rename", "after the rename"):
        for number in (1, rng.randint(2, 5)):
            folder = path / f"save-{place}-{number}"
            killed = train(
                folder, every_step=True, fault=inside_save(number, place)
            )
            ended = train(folder)
            good = killed.code == -9 and same(folder, whole, ended)
            yield f"kill -9 in save {number}, {place}", good, verdict(ended)


def damages(path, whole, rng):
    def bit_flipped(data):
        data = bytearray(data)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(data)

    harms = {
        "truncated": lambda data: data[: rng.randrange(len(data))],
        "zeroed": lambda data: bytes(len(data)),
        "empty": lambda data: b"",
        "one bit flipped": bit_flipped,
    }
    for name, harm in harms.items():
        folder = path / f"damage-{name}"
        train(folder, every_step=True, fault=after_steps(5, signal.SIGKILL))
        newest = sorted(Run(folder).checkpoint_dir.glob("*.npz"))[-1]
        newest.write_bytes(harm(newest.read_bytes()))
        ended = train(folder)
        good = same(folder, whole, ended) and "is damaged" in ended.said
        yield f"newest checkpoint {name}", good, verdict(ended)
    for file in Run(folder).checkpoint_dir.glob("*.npz"):
        file.write_bytes(b"")
    ended = train(folder)
    good = ended.code == 3 and one_sentence(ended)
    yield "both checkpoints empty", good, verdict(ended)


def signals(path, whole, rng):
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        folder = path / f"signal-{number}"
        at = rng.randint(1, EPOCHS * STEPS - 1)
        stopped = train(folder, fault=after_steps(at, number))
        position = sorted(Run(folder).checkpoint_dir.glob("*.npz"))[-1].name
        saved = position[:12] == f"{at // STEPS:05d}-{at % STEPS:06d}"
        # The last step of an epoch is saved as done, before validation.
        saved |= position[:12] == f"{at // STEPS - 1:05d}-{STEPS:06d}"
        ended = train(folder)
        good = stopped.code == code and saved and same(folder, whole, ended)
        name = signal.Signals(number).name
        yield f"{name} in step {at}: exit {stopped.code}", good, verdict(ended)

        stopped = train(folder / "twice", fault=after_steps(at, number, number))
        good = stopped.code == code and "Traceback" not in stopped.said
        ended = train(folder / "twice")
        good = good and same(folder / "twice", whole, ended)
        yield f"{name} twice: exit {stopped.code}", good, verdict(ended)


def full_disks(path, whole, rng):
    """A disk that fills up as the run goes on, then has room again."""
    folder = path / "disk"
    with small_disk(folder, kilobytes=4000) as real:
        train(folder / "run", every_step=True, fault=after_steps(4, 9))
        if real:
            room = shutil.disk_usage(folder).free - 20_000
            (folder / "ballast").write_bytes(bytes(max(0, room)))
        limit = None if real else limited_files(30_000)
        ended = train(folder / "run", every_step=True, fault=limit)
        good = ended.code == 4 and one_sentence(ended)
        yield f"disk full (tmpfs: {real})", good, verdict(ended)
        (folder / "ballast").unlink(missing_ok=True)
        ended = train(folder / "run", every_step=True)
        yield "  resumed", same(folder / "run", whole, ended), verdict(ended)


@contextlib.contextmanager
def small_disk(folder, *, kilobytes):
    """Yields whether a small tmpfs could be mounted on a folder."""
    folder.mkdir(parents=True)
    options = f"size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    try:
        yield done
    finally:
        if done:
            subprocess.run(["umount", str(folder)], check=True)


def same(path, whole, ended):
    return ended.code == 0 and weights_of(path) == whole


def one_sentence(ended):
    return len(ended.sentences) == 1 and "Traceback" not in ended.said


def verdict(ended):
    if ended.code == 0:
        return "went on to the end"
    words = ended.sentences or ended.said.splitlines()[-1:]
    return f"exit {ended.code}: {' '.join(words)}"


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--task", default="train", choices=TASKS)
parser.add_argument("--kills", type=int, default=20)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--cases", default="kills,saves,damages,signals,full_disks")
parser.add_argument("--untraced", action="store_true", help="run steps eagerly")
options = parser.parse_args() if __name__ == "__main__" else None


def main():
    if options.untraced:
        # So few steps take less than it takes to trace them.
        eager = property(lambda self: True, lambda self, value: None)
        Trainer.run_eagerly = eager
    rng = random.Random(options.seed)
    makers = {
        "kills": lambda *given: kills(*given, options.kills),
        "saves": saves,
        "damages": damages,
        "signals": signals,
        "full_disks": full_disks,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        ended = train(path / "whole")
        if ended.code:
            sys.exit(ended.said)
        whole = weights_of(path / "whole")
        results = []
        for name in options.cases.split(","):
            for case, good, what in makers[name](path, whole, rng):
                results.append(good)
                print("ok " if good else "BAD", case, "->", what, flush=True)
    backend = keras.config.backend()
    print(
        f"{options.task} on {backend}: {sum(results)} of {len(results)} as "
        "they must be"
    )
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
