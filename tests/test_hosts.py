"""Several hosts give what one does; here they are processes on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.moving_squares import SquaresStore, squares_manifest
from support.videos import draw_folder

from har_keras.clips.dataset import ClipDataset
from har_keras.clips.masking import MaskedClips
from har_keras.config import Config, HostsConfig
from har_keras.errors import UsageError
from har_keras.run import Run
from har_keras.training.hosts import Agreement, from_first, join_hosts

# 24 clips, two a video, in batches of 8: the same on 1, 2 and 4 hosts.
TRAIN = """
import os
import sys
from pathlib import Path
os.environ["KERAS_BACKEND"] = "jax"
folder, hosts, index, coordinator = sys.argv[1:]
import numpy as np
from support.moving_squares import SquaresStore, squares_manifest
from har_keras import cli
from har_keras.config import Config
from har_keras.environment import start_backend
from har_keras.run import Run
from har_keras.training.fit import Objective, compiled_model, fit
from har_keras.training.hosts import join_hosts, leave_hosts
from har_keras.training.checkpoint import array_of
start_backend("jax")
config = Config().replace(
    num_frames=4, crop_size=16, hidden_dim=8, num_heads=2, num_layers=1,
    mlp_dim=16, batch_size=8, micro_batch_size=int(os.environ["MICRO"]),
    epochs=int(os.environ["EPOCHS"]), mixup=0.4, schedule="cosine",
    warmup_epochs=1, dropout_rate=0.1,
    wandb="off", hosts=int(hosts), host_index=int(index),
    coordinator=coordinator,
)
run = Run(Path(folder))
kept = []
def make(*args):
    kept.append(compiled_model(*args))
    return kept[-1]
def main():
    join_hosts(config.hosts)
    if index == "0" and not run.config_file.is_file():
        run.create(config)
    manifest = squares_manifest(
        run.path, num_videos=12, splits=("train", "val")
    )
    store = SquaresStore(config.clip)
    from har_keras.clips.dataset import ClipDataset
    fit(run, config, store, manifest, Objective(ClipDataset, make))
    np.savez(f"{folder}-{index}.npz", *map(array_of, kept[0].variables))
    print(len(store.asked))
    leave_hosts()
sys.exit(cli.run_verb(main))
"""


def start(folder, number, *, micro=-1, epochs=2):
    """Starts the processes of a training; returns them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent)])
    settings = {
        "MICRO": str(micro), "EPOCHS": str(epochs), "PYTHONPATH": path,
    }  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(folder), str(number), str(index),
             coordinator],
            env=os.environ | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]  # fmt: skip


def finished(processes, *, code=0):
    """Waits for processes; returns what each wrote to stdout."""
    try:
        done = [process.communicate(timeout=900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, said) in zip(processes, done, strict=True):
        assert process.returncode == code, said[-3000:]
    return [out for out, _ in done]


def weights(folder, index=0):
    with np.load(f"{folder}-{index}.npz") as arrays:
        return dict(arrays)


def history(folder):
    newest = sorted((folder / "checkpoint").glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        return json.loads(arrays["state"].tobytes())["history"]


def assert_near(one, other):
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "micro"), [(2, -1), (2, 4), (4, -1)])
def test_hosts_are_one(tmp_path, number, micro):
    pytest.importorskip("jax", reason="needs the extra jax")
    one, several = tmp_path / "one", tmp_path / "several"
    alone = finished(start(one, 1, micro=micro))
    others = finished(start(several, number, micro=micro))
    assert_near(weights(one), weights(several))
    for index in range(1, number):
        for name, value in weights(several).items():
            np.testing.assert_array_equal(weights(several, index)[name], value)
    for row, same in zip(history(one), history(several), strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert same[name] == pytest.approx(row[name], abs=1e-5), name
    if number == 4:
        # A quarter of each batch and, for MixUp, its partners.
        reads = [int(out.splitlines()[-1]) for out in others]
        assert max(reads) <= int(alone[0].splitlines()[-1]) // 2


@pytest.mark.slow
def test_a_signal_to_any_host_stops_all_and_they_resume(tmp_path):
    pytest.importorskip("jax", reason="needs the extra jax")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(start(whole, 2, epochs=6))
    processes = start(cut, 2, epochs=6)
    while not (cut / "history.csv").is_file():
        time.sleep(0.05)
        assert processes[0].poll() is None
    processes[1].send_signal(signal.SIGTERM)
    finished(processes, code=128 + signal.SIGTERM)
    assert 0 < len(history(cut)) < 6
    finished(start(cut, 2, epochs=6))
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(cut)[name], value)


def clips_of(part, *, kind=ClipDataset, **options):
    config = Config().replace(
        num_frames=4, crop_size=16, hidden_dim=8, num_heads=2, batch_size=8,
        **options,
    )  # fmt: skip
    manifest = squares_manifest(Path("none"), num_videos=22)
    videos = manifest.usable("train")
    store = SquaresStore(config.clip)
    return kind(
        store,
        manifest,
        videos,
        config,
        training=True,
        num_shares=2,
        host_shard=part,
    )


@pytest.mark.parametrize(
    "options", [{}, {"mixup": 0.4}, {"cutmix": 1.0, "balance": "weights"}]
)
@pytest.mark.parametrize("step", [0, 2])
def test_parts_make_up_the_batch(options, step):
    whole = clips_of((0, 1), **options).read_batch(1, step)
    parts = [
        clips_of((index, 2), **options).read_batch(1, step)
        for index in range(2)
    ]
    assert len(parts[0][0]) == len(parts[1][0]) > 0
    for array, *some in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(some), array)


def test_a_part_reads_nothing_else():
    dataset = clips_of((1, 2))
    dataset.read_batch(0, 0)
    assert len(dataset.store.asked) == 4


def test_parts_make_up_the_masks():
    whole = clips_of((0, 1), kind=MaskedClips).places(1, 0)
    parts = [
        clips_of((index, 2), kind=MaskedClips).places(1, 0)
        for index in range(2)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_batch_of_a_part_comes_through_the_pipeline():
    dataset = clips_of((1, 2), mixup=0.4)
    first = next(iter(dataset.batches()))
    np.testing.assert_array_equal(first[0].numpy(), dataset.read_batch(0, 0)[0])


def test_one_host_agrees_with_itself_at_once():
    assert Agreement().largest(15) == 15
    assert from_first(b"state") == b"state"


def test_hosts_on_tensorflow_are_told_the_way(monkeypatch):
    monkeypatch.setattr("keras.config.backend", lambda: "tensorflow")
    with pytest.raises(UsageError, match="--hosts is for JAX"):
        join_hosts(HostsConfig(hosts=2))


def test_workers_of_tensorflow_are_told_the_way(monkeypatch):
    monkeypatch.setattr("keras.config.backend", lambda: "tensorflow")
    cluster = {"cluster": {"worker": ["a:1", "b:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(UsageError, match="names 2 workers"):
        join_hosts(HostsConfig())


@pytest.mark.parametrize("text", ["", "no json", '{"cluster": {}}', "[]"])
def test_a_tf_config_of_one_is_fine(monkeypatch, text):
    monkeypatch.setattr("keras.config.backend", lambda: "tensorflow")
    monkeypatch.setenv("TF_CONFIG", text)
    assert join_hosts(HostsConfig()).number == 1


def test_hosts_need_a_run_dir():
    from har_keras.training.hosts import start_together

    with pytest.raises(UsageError, match="Several hosts need a --run-dir"):
        start_together(None, Config().replace(hosts=2))


def test_a_folder_with_something_in_it_is_refused_before_joining(tmp_path):
    from har_keras.training.hosts import start_together

    Run(tmp_path).create(Config())
    with pytest.raises(UsageError, match="is not empty"):
        start_together(tmp_path, Config().replace(hosts=2))


@pytest.mark.slow
def test_a_host_that_fails_ends_with_its_own_code(tmp_path):
    pytest.importorskip("jax", reason="needs the extra jax")
    (tmp_path / "videos").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable, "-m", "har_keras.train", "videos", "--run-dir", "run",
        "--backend", "jax", "--hosts", "2", "--coordinator", coordinator,
    ]  # fmt: skip
    root = {"PYTHONPATH": str(Path(__file__).parents[1])}
    first, second = (
        subprocess.Popen(
            [*command, "--host-index", index],
            cwd=tmp_path,
            env=os.environ | root,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in "01"
    )
    try:
        said = first.communicate(timeout=200)[1]
        second.communicate(timeout=100)
    finally:
        first.kill()
        second.kill()
    assert first.returncode == 3, said
    assert "Error: There is no video in" in said
    assert second.returncode != 0


def start_verb(verb, folder, *arguments, number=2):
    """Starts a verb on each of several hosts; returns the processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", f"har_keras.{verb}", *arguments]
    hosts = ["--coordinator", coordinator]
    if "--resume" not in arguments:
        hosts += ["--hosts", str(number)]
    root = {"PYTHONPATH": str(Path(__file__).parents[1])}
    return [
        subprocess.Popen(
            [*command, *hosts, "--host-index", str(index)]
            if number > 1
            else command,
            cwd=folder,
            env=root | os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(number)
    ]


def last_checkpoint(run):
    newest = max((run / "checkpoint").glob("[0-9]*.npz"))
    with np.load(newest) as arrays:
        return {name: arrays[name] for name in arrays if name != "state"}


def split_evenly(videos):
    """Writes a manifest whose splits two hosts share without a rest."""
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    rows = ["file,class,split,group"]
    for folder in sorted(path for path in videos.iterdir() if path.is_dir()):
        for number, file in enumerate(sorted(folder.iterdir())):
            name = f"{folder.name}/{file.name}"
            split = splits[number]
            rows.append(f"{name},{folder.name},{split},{folder.name}{number}")
    (videos / "manifest.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "pretrain"])
def test_a_verb_on_two_hosts_is_one_and_resumes(tmp_path, verb):
    pytest.importorskip("jax", reason="needs the extra jax")
    split_evenly(draw_folder(tmp_path / "videos", per_class=8))
    options = {
        "num-frames": 4, "crop-size": 32, "hidden-dim": 8, "num-heads": 2,
        "num-layers": 1, "mlp-dim": 16, "batch-size": 4, "epochs": 40,
        "wandb": "off", "store-dir": "store", "backend": "jax",
        "clips-per-video": 1, "micro-batch-size": -1,
    }  # fmt: skip
    if verb == "pretrain":
        options["mask-ratio"] = 0.5
    given = [x for k, v in options.items() for x in (f"--{k}", str(v))]

    def started(run, number=2):
        return start_verb(
            verb, tmp_path, "videos", "--run-dir", run, *given, number=number
        )

    finished(started("one", number=1))
    finished(started("whole"))
    processes = started("cut")
    while not (tmp_path / "cut" / "history.csv").is_file():
        time.sleep(0.05)
        assert processes[0].poll() is None
    processes[1].send_signal(signal.SIGTERM)
    finished(processes, code=128 + signal.SIGTERM)
    assert 0 < len(history(tmp_path / "cut")) < 40
    finished(start_verb(verb, tmp_path, "--resume", "cut"))
    whole = last_checkpoint(tmp_path / "whole")
    for name, value in last_checkpoint(tmp_path / "cut").items():
        np.testing.assert_array_equal(value, whole[name])
    # Later epochs make more of what rounding makes different.
    for run in ("one", "whole"):
        assert len(history(tmp_path / run)) == 40
    one, two = (history(tmp_path / run)[:3] for run in ("one", "whole"))
    for row, same in zip(one, two, strict=True):
        assert same["loss"] == pytest.approx(row["loss"], abs=1e-4)
        assert same["val_loss"] == pytest.approx(row["val_loss"], abs=1e-4)
