"""Files of a run that are damaged, hostile or of somebody else."""

import errno
import hashlib
import io
import json
import os
import random
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest

from har_keras.damaged import damage_named
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.inference.load import load
from har_keras.run import Run
from har_keras.training.checkpoint import load_checkpoint

NOISE = random.Random(0).randbytes(2000)


def with_items(file, **items):
    """Changes members of a zip file."""
    with zipfile.ZipFile(file) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (held | items).items():
            archive.writestr(name, content)


def foreign_class(module, name, **config):
    return json.dumps(
        {
            "module": module, "class_name": name, "config": config,
            "registered_name": name,
        }
    ).encode()  # fmt: skip


def linked_weights():
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    return content.getvalue()


def with_options(file, **options):
    """Changes what the model in a file is built of."""
    with zipfile.ZipFile(file) as archive:
        content = json.loads(archive.read("config.json"))
    content["config"].update(options)
    with_items(file, **{"config.json": json.dumps(content).encode()})


def with_weights(file, value):
    """Sets all weights in a file to one value."""
    with zipfile.ZipFile(file) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "r+") as weights:

        def fill(_, item):
            if getattr(item, "shape", ()) and item.dtype.kind == "f":
                item[...] = value

        weights.visititems(fill)
    with_items(file, **{"model.weights.h5": content.getvalue()})


def dense():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


MODELS = {
    "noise": lambda file: file.write_bytes(NOISE),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:3000]),
    "another zip": lambda file: zipfile.ZipFile(file, "w").writestr("a", "b"),
    "another model": lambda file: dense().save(file),
    "noise as weights": lambda file: with_items(
        file, **{"model.weights.h5": NOISE}
    ),
    "weights elsewhere": lambda file: with_items(
        file, **{"model.weights.h5": linked_weights()}
    ),
    "a width below 0": lambda file: with_options(file, hidden_dim=-1),
    "a huge width": lambda file: with_options(file, hidden_dim=10**9),
    "a million layers": lambda file: with_options(file, num_layers=10**6),
    "many classes": lambda file: with_options(file, num_classes=10**9),
    "many frames": lambda file: with_options(file, num_frames=10**8),
    "more frames than any": lambda file: with_options(file, num_frames=4098),
    "no heads": lambda file: with_options(file, num_heads=0),
    "a word for a number": lambda file: with_options(file, num_classes="x"),
    "no numbers": lambda file: with_weights(file, np.nan),
    "a function": lambda file: with_items(
        file, **{"config.json": foreign_class("builtins", "os.system")}
    ),
    "a process": lambda file: with_items(
        file,
        **{"config.json": foreign_class("subprocess", "Popen", args="true")},
    ),
    "a class of ours": lambda file: with_items(
        file,
        **{
            "config.json": foreign_class(
                "har_keras.video.writer", "VideoWriter", path="written"
            )
        },
    ),
}
NUMBERS = {"temperature": 1.0, "window_temperature": 1.0}
DAMAGES = {
    "config.toml": [
        "num_frames = 100000000", "num_clips = 100000000", "fps = 1e300",
        "fps = nan", "crop_size = 0", "timeout_seconds = inf",
        'backend = "evil"', "a = " + "[" * 5000 + "]" * 5000, "\udcff",
    ],
    "calibration.json": [
        json.dumps(NUMBERS | {"temperature": value})
        for value in (0, -2, float("nan"), "x", None, [1], True)
    ]
    + [
        json.dumps(NUMBERS | {"threshold": value})
        for value in (-1, 2, "x", [1], float("nan"))
    ]
    + ["{", "[]", "[" * 100_000, '{"temp": 1}'],
    "evaluation.json": ["{", "[]", "null", "\udcff", "[" * 100_000],
    "manifest.csv": ["", "\0", "file,class\n", "\udcff\udcfe", '"']
    + [
        "file,class,split,group,sha256,kept_frames,reason,root\n"
        f"a.mp4,{cells},,.\nb.mp4,up,train,,,9,,.\n"
        for cells in ("down,evil,,,9", "down,train,,,-5", "down,train,,,x")
    ],
}  # fmt: skip


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy that may be damaged."""
    return Run(shutil.copytree(tiny_run.path, tmp_path / "run"))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.filterwarnings("default:.*cannot be built")  # as in a program
def test_a_damaged_model_is_one_sentence(kind, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MODELS[kind](run.model_file)
    with pytest.raises(DataError, match=r"model\.keras' is damaged") as error:
        load(run.path)
    assert "<class" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("file", "text"),
    [(file, text) for file, texts in DAMAGES.items() for text in texts],
    ids=lambda text: text[:12],
)
def test_a_damaged_file_is_one_sentence(file, text, run):
    content = text.encode("utf-8", "surrogateescape")
    (run.path / file).write_bytes(content)
    with pytest.raises((DataError, UsageError)) as error:
        load(run.path)
    assert "\n" not in str(error.value)


def test_probabilities_that_are_no_numbers_are_refused(run, few_videos):
    """Finite weights may give them, too."""
    with_weights(run.model_file, 1e38)
    with pytest.raises(DataError, match="not a number"):
        load(run.path).predict(next(few_videos.rglob("*.mp4")))


@pytest.mark.parametrize("kind", [OSError, RuntimeError])
def test_a_full_disk_is_no_damage(kind, tmp_path):
    said = os.strerror(errno.ENOSPC)
    error = kind(errno.ENOSPC, said) if kind is OSError else kind(said)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        with damage_named(tmp_path / "model.keras"):
            raise error


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(
    "file", ["config.toml", "model.keras", "calibration.json", "manifest.csv"]
)
def test_a_named_pipe_in_a_run_is_not_waited_for(file, run):
    (run.path / file).unlink()
    os.mkfifo(run.path / file)
    with pytest.raises(DataError) as error:
        load(run.path)
    assert "\n" not in str(error.value)


def test_a_model_of_other_clips_is_refused(run):
    run.config_file.write_text("", "utf-8")  # the clips of the defaults
    with pytest.raises(DataError, match="does not fit the run's"):
        load(run.path)


def test_a_model_of_other_classes_is_refused(run):
    text = run.manifest_file.read_text("utf-8")
    first, *rows = text.splitlines()
    assert "class" in first
    run.manifest_file.write_text("\n".join([first, *rows[:1]]) + "\n", "utf-8")
    with pytest.raises(DataError, match="does not fit the run's"):
        load(run.path)


@pytest.mark.parametrize(
    "state", [b'{"evil": 1}', b"[]", b"[" * 100_000, b"\xff", NOISE, b""]
)
def test_a_checkpoint_of_somebody_else_is_one_sentence(state, tmp_path):
    if state in (NOISE, b""):
        content = state
    else:
        file = io.BytesIO()
        np.savez(file, state=np.frombuffer(state, np.uint8))
        content = file.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:16]
    (tmp_path / f"00001-000001-{digest}.npz").write_bytes(content)
    model = dense()
    model.compile(optimizer="adam", loss="mse")
    with pytest.raises(DataError, match="The checkpoint is damaged"):
        load_checkpoint(tmp_path, model)
