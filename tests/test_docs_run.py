"""Commands and Python of the pages run, in a folder with what they name.

On small drawn videos and an untrained model; what a command is for has tests of
its own. `test_docs.py` parses all of them.
"""

import json
import shutil

import pytest
from support.pages import blocks, shell_commands, verb_of
from support.stand_in_hub import model_files
from support.tiny_run import untrained_run
from support.videos import draw_folder, draw_video

from har_keras.__main__ import verb_module
from har_keras.recipes import PRESETS

pytestmark = pytest.mark.slow

# Not run here: what trains or measures for minutes, serves until it is stopped,
# or asks for another machine, a hub, a camera, a file that is not ours or
# labels in time; and exports, which an untrained model need not pass.
LONG = {"train", "pretrain", "benchmark", "doctor", "serve", "app"}
ELSEWHERE = (
    "camera", "://", "beam", "/saved_model/", "/formats/", "resnet50",
    "data/ucf101", "kinetics", "model.onnx", "--formats", "push ",
    "export folder", "--smooth-seconds",
)  # fmt: skip


@pytest.fixture(scope="session")
def desk(make_once):
    """A folder with the videos and runs that the pages name."""

    def fill(folder):
        videos = draw_folder(folder / "videos", class_names=("gym", "walk"))
        for path in videos.rglob("*.mp4"):  # for --group-by of a page
            path.rename(
                path.with_name(f"cam1_{path.stem.replace('-', '')}_1.mp4")
            )
        for name in ("other_videos", "data"):
            shutil.copytree(videos, folder / name)
        for path in ("unlabeled", "clips"):
            shutil.copytree(videos / "gym", folder / path)
        draw_video(folder / "video.mp4")
        draw_video(folder / "match.mp4", num_frames=160)
        run = untrained_run(folder / "made", videos)
        for name in ("first", "second", "pretrained"):
            shutil.copytree(run.path, folder / "runs" / name)

    return make_once("desk", fill)


@pytest.fixture
def at_desk(desk, tmp_path, monkeypatch):
    """A copy of it to work in, with a cache of its own."""
    folder = tmp_path / "desk"
    shutil.copytree(desk, folder)
    for path in folder.glob("runs/*/config.toml"):
        text = path.read_text().replace(str(desk), str(folder))
        path.write_text(text)
    for path in folder.glob("runs/*/manifest.csv"):
        path.write_text(path.read_text().replace(str(desk), str(folder)))
    monkeypatch.chdir(folder)
    (tmp_path / "cache" / "har_keras").mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def runnable():
    """Returns each command that is run here, once, by its text."""
    found = {}
    for name, words in shell_commands():
        verb, flags = verb_of(words) or ("", [])
        text = " ".join([verb, *flags])
        if verb in ("", "VERB", *LONG) or "RUN" in flags or "<" in text:
            continue
        serves = verb == "label" and "--to" not in flags
        if not serves and not any(part in text for part in ELSEWHERE):
            found.setdefault(text, (name, verb, flags))
    return found


RUNNABLE = runnable()


def test_most_verbs_are_run():
    verbs = {verb for _, verb, _ in RUNNABLE.values()}
    assert verbs >= {
        "cache", "check", "compare", "completion", "evaluate", "export",
        "label", "models", "predict", "prepare", "sample",
    }  # fmt: skip


@pytest.mark.parametrize("text", RUNNABLE)
def test_a_command_runs(text, at_desk):
    _, verb, flags = RUNNABLE[text]
    if verb == "sample":  # fewer, into a new folder
        flags = ["3" if flag.isdecimal() else flag for flag in flags]
        shutil.rmtree(flags[0], ignore_errors=True)
    needs = {
        "onnx": "tf2onnx",
        "openvino": "openvino",
        "litert": "ai_edge_litert",
    }
    for word, package in needs.items():
        if word in text:
            pytest.importorskip(package)
    # Squares that move alike may be a likely leak.
    allowed = (0, 3) if "--strict" in flags else (0,)
    flags = ["completion", *flags] if verb == "completion" else flags
    flags = ["other_videos" if flag == "FOLDER" else flag for flag in flags]
    assert verb_module(verb).main(flags) in allowed


# Each once: the page of the beginning has that of the README.
PYTHON = {block: name for name, block in blocks("python")}


@pytest.mark.parametrize(
    ("block", "name"), PYTHON.items(), ids=list(PYTHON.values())
)
def test_python_runs(block, name, at_desk, monkeypatch):
    import har_keras

    trained = har_keras.VideoClassifier.train.__func__

    def train_little(cls, videos, **options):
        small = {"crop_size": 64, "num_frames": 8, "epochs": 1}
        return trained(cls, videos, **options, **small, wandb="off")

    monkeypatch.setattr(
        har_keras.VideoClassifier, "train", classmethod(train_little)
    )
    names = {}
    if name.endswith("huggingface.md"):
        files = model_files("videomae")
        (at_desk / "model.safetensors").write_bytes(files["model.safetensors"])
        (at_desk / "config.json").write_bytes(files["config.json"])
        monkeypatch.setitem(PRESETS, "videomae-b", tiny_preset(files))
    if name.endswith("backbones.md"):
        names = keras_hub_backbone()
    exec(compile(block, name, "exec"), names)


def tiny_preset(files):
    """Returns the preset of VideoMAE in the dimensions of a tiny model."""
    config = json.loads(files["config.json"])
    return PRESETS["videomae-b"] | {
        "num_frames": config["num_frames"],
        "crop_size": config["image_size"],
        "hidden_dim": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_dim": config["intermediate_size"],
    }


def keras_hub_backbone():
    keras_hub = pytest.importorskip("keras_hub", reason="needs pretrained")
    return {
        "backbone": keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3), patch_size=16, num_layers=1, num_heads=2,
            hidden_dim=8, mlp_dim=16,
        ),
        "image_converter": keras_hub.layers.ViTImageConverter(
            image_size=(32, 32)
        ),
    }  # fmt: skip
