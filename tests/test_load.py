"""Exported models and servers stand in for a run, in every command."""

import csv
import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from support.tiny_serving import INFO, NAMES, smooth_clips, tiny_model
from support.videos import draw_video

import har_keras
from har_keras import evaluate as evaluate_verb
from har_keras import predict as verb
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.evaluate import evaluate
from har_keras.export import export
from har_keras.inference.load import (
    fresh_export,
    kind_of,
    load,
    model_info_of,
)
from har_keras.run import Run
from har_keras.serving.client import ClientPrediction, Remote
from har_keras.serving.model_info import ModelInfo
from har_keras.serving.runtimes import open_exported
from har_keras.serving.signatures import export_saved_model

FILES = {
    "onnx": ("onnx/model.onnx", ("onnx", "tf2onnx", "onnxruntime")),
    "openvino": ("openvino/model.xml", ("openvino", "onnx", "tf2onnx")),
    "litert": ("litert/model.tflite", ("ai_edge_litert",)),
}


@pytest.fixture(scope="module")
def videos(few_videos):
    return few_videos


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = Run(shutil.copytree(tiny_run.path, folder))
    # Softened by something, so that it is seen whether this goes along.
    run.calibration_file.write_text(
        '{"temperature": 2.5, "window_temperature": 0.5, "num_videos": 9,'
        ' "num_groups": 9, "threshold": 0.51, "accept_errors": 0.1}'
    )
    export(run)
    return run


@pytest.fixture(scope="module")
def exported(run):
    """Returns where a format of the run is, written when first asked for."""

    def path_of(name):
        if name == "version":
            return run.saved_model_dir / "1"
        if name == "versions":
            return run.saved_model_dir
        file, needed = FILES[name]
        for package in needed:
            pytest.importorskip(package, reason='needs "har_keras[export]"')
        if not (run.formats_dir / file).is_file():
            export(run, [name])
        return run.formats_dir / file

    return path_of


@pytest.fixture(scope="module")
def server(run):
    pytest.importorskip(
        "tensorflow_serving",
        reason="needs `pip install --no-deps tensorflow-serving-api`",
    )
    pytest.importorskip("grpc", reason="needs `pip install grpcio`")
    from support.stand_in_server import StandIn

    server = StandIn(run.saved_model_dir)
    yield server
    server.close()


def answers(capsys, where, *arguments):
    """Runs `predict` and returns its JSON lines."""
    words = [where, *arguments, "--format", "json"]
    code = verb.main([str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return [json.loads(line) for line in captured.out.splitlines()]


def assert_alike(found, expected, tolerance):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["file"] == other["file"]
        assert one["seconds"] == other["seconds"]
        for name, share in other["probabilities"].items():
            assert one["probabilities"][name] == pytest.approx(
                share, abs=tolerance
            )
        gap = abs(np.subtract(*other["probabilities"].values()))
        if gap > 2 * tolerance:
            assert one["prediction"] == other["prediction"]
            assert one["confidence"] == pytest.approx(
                other["confidence"], abs=2 * tolerance
            )


@pytest.mark.parametrize(
    "name", ["version", "versions", "onnx", "openvino", "litert"]
)
def test_an_exported_model_predicts_as_its_run(
    run, exported, videos, capsys, name
):
    expected = answers(capsys, run.path, videos)
    spread = [x["probabilities"]["up"] for x in expected]
    assert np.ptp(spread) > 0.01  # Else any answer would do.
    assert_alike(
        answers(capsys, exported(name), videos), expected, tolerance=1e-5
    )


@pytest.fixture
def without_backend(monkeypatch):
    """As in a process in which none was started."""
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_fresh_export_answers_for_its_run(
    run, exported, videos, tmp_path, name, request
):
    exported(name)
    own = Run(shutil.copytree(run.path, tmp_path / "run"))
    for other in {"onnx", "openvino"} - {name}:
        shutil.rmtree(own.formats_dir / other, ignore_errors=True)
    file = sorted(videos.rglob("*.mp4"))[0]
    expected = load(own.path).predict(file)
    request.getfixturevalue("without_backend")
    classifier = load(own.path, allow_export=True)
    assert type(classifier.model).__module__ == "har_keras.serving.runtimes"
    found = classifier.predict(file)
    assert found.probabilities == pytest.approx(
        expected.probabilities, abs=1e-5
    )
    assert found.calibrated == pytest.approx(expected.calibrated, abs=1e-5)
    assert found.accepted == expected.accepted


def test_an_export_that_is_not_of_the_run_does_not_answer(
    run, exported, tmp_path, without_backend, monkeypatch, caplog
):
    file = exported("onnx").relative_to(run.path)
    own = Run(shutil.copytree(run.path, tmp_path / "run"))
    shutil.rmtree(own.formats_dir / "openvino", ignore_errors=True)
    caplog.set_level(logging.INFO, "har_keras")
    assert fresh_export(own) is not None
    assert caplog.messages == [f"Computed by its export, {own.path / file}."]
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert fresh_export(own) is None
    monkeypatch.delenv("KERAS_BACKEND")
    model, calibration = own.model_file, own.calibration_file
    before = model.read_bytes(), calibration.read_text()
    calibration.write_text(before[1].replace("2.5", "2.25"))
    assert fresh_export(own) is None
    calibration.write_text(before[1])
    model.write_bytes(before[0] + b"another training")
    assert fresh_export(own) is None
    model.write_bytes(before[0])
    assert fresh_export(own) is not None


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_a_server_predicts_as_the_run(run, server, videos, capsys, way):
    expected = answers(capsys, run.path, videos)
    found = answers(capsys, getattr(server, way), videos)
    assert_alike(found, expected, tolerance=0.02)


def test_a_server_finds_segments_and_draws_them(
    run, server, videos, tmp_path, capsys
):
    file = videos / "up" / "up-00.mp4"
    options = ("--timeline", "--overlay", tmp_path / "drawn.mp4", "--output")
    expected = answers(capsys, run.path, file, *options, tmp_path / "run")
    found = answers(capsys, server.rest, file, *options, tmp_path / "server")
    for one, other in zip(
        found[0]["segments"], expected[0]["segments"], strict=True
    ):
        assert one["label"] == other["label"]
        # Window temperature 0.5 makes differences larger.
        assert one["score"] == pytest.approx(other["score"], abs=0.06)
    names = sorted(file.name for file in (tmp_path / "run").iterdir())
    assert sorted(x.name for x in (tmp_path / "server").iterdir()) == names
    assert len(names) == 5
    assert (tmp_path / "drawn.mp4").stat().st_size > 1000


def test_the_package_loads_what_the_command_does(server, exported, videos):
    file = videos / "up" / "up-01.mp4"
    by_server = har_keras.load(server.rest).predict(file)
    by_file = har_keras.load(exported("version")).predict(file)
    for name, share in by_file.probabilities.items():
        assert by_server.probabilities[name] == pytest.approx(share, abs=0.02)
    clip = smooth_clips(1)[0]
    assert set(har_keras.load(server.grpc).predict(clip).probabilities) == {
        "down", "up",
    }  # fmt: skip


def rows_of(folder):
    with (folder / "videos.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_evaluate(capsys, *arguments):
    code = evaluate_verb.main([str(argument) for argument in arguments])
    return code, capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "tolerance"), [("versions", 1e-5), ("onnx", 1e-5), ("rest", 0.02)]
)
def test_what_is_no_run_is_evaluated_on_a_folder(
    run, exported, videos, tmp_path, capsys, name, tolerance, request,
    monkeypatch,
):  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = evaluate(run, videos, output=tmp_path / "run")
    if name == "rest":
        where = request.getfixturevalue("server").rest
    else:
        where = exported(name)
    code, captured = run_evaluate(
        capsys, where, "--videos", videos, "--output", tmp_path / "apart"
    )
    assert code == 0, captured.err
    assert f"Report: {tmp_path / 'apart' / 'report.html'}" in captured.out
    found = json.loads((tmp_path / "apart" / "evaluation.json").read_text())
    assert found["num_videos"] == expected["num_videos"] == 8
    assert found["calibrated"]["temperature"] == 2.5
    pairs = zip(
        rows_of(tmp_path / "apart"), rows_of(tmp_path / "run"), strict=True
    )
    for one, other in pairs:
        assert one["file"] == other["file"]
        assert float(one["up"]) == pytest.approx(
            float(other["up"]), abs=tolerance
        )
    page = (tmp_path / "apart" / "report.html").read_text("utf-8")
    assert "num_clips" in page  # What the model says of itself,
    assert "learning_rate" not in page  # and not what it can't know.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "out"), "Name a folder of them with --videos"),
        (("--videos", "in"), "Name a folder for them with --output"),
    ],
)
def test_what_is_no_run_needs_videos_and_a_place(options, words, capsys):
    where = "http://127.0.0.1:9/v1/models/har"
    code, captured = run_evaluate(capsys, where, *options)
    assert code == 2
    assert words in captured.err


def test_a_class_that_a_server_does_not_know_is_named(server, tmp_path, capsys):
    for name in ("up", "sideways"):
        draw_video(tmp_path / name / "a.mp4", num_frames=8, seed=len(name))
    code, captured = run_evaluate(
        capsys, server.rest, "--videos", tmp_path, "--output", tmp_path / "out"
    )
    assert code == 2
    assert "not trained on: sideways" in captured.err


def test_attention_is_for_runs(capsys):
    words = ["grpc://127.0.0.1:9/har", "a.mp4", "--attention"]
    assert verb.main(words) == 2
    assert "--attention needs the weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "code", "sentence"),
    [
        ("http://127.0.0.1:9/har", 2, "is not the address of a model"),
        ("missing.onnx", 2, "is not an exported model"),
        ("missing", 3, "is not a run"),
    ],
)
def test_what_does_not_answer_is_named(where, code, sentence, videos, capsys):
    assert verb.main([where, str(videos)]) == code
    assert sentence in capsys.readouterr().err


class Counting:
    """A client whose answers are how bright clips are."""

    address = type("Address", (), {"host": "here"})

    def __init__(self, info=INFO, frames="jpeg"):
        self.info, self.frames = info, frames
        self.asked = []

    def predict(self, clips):
        self.asked.append(len(clips))
        shares = clips.reshape(len(clips), -1).mean(1) / 255
        rows = np.stack([shares, 1 - shares], 1)
        return ClientPrediction(rows, ("a", "b"), self.info.text())

    def close(self):
        """Has nothing to close."""


def test_each_different_clip_is_sent_once():
    client = Counting()
    remote = Remote(client)
    clips = smooth_clips(3)[[0, 1, 1, 2, 0, 2, 2]]
    found = remote.predict_on_batch(clips)
    assert sum(client.asked[1:]) == 3
    expected = clips.reshape(7, -1).mean(1) / 255
    np.testing.assert_allclose(found[:, 0], expected)
    large = np.arange(16, dtype="uint8")[:, None, None, None, None]
    client.asked.clear()
    remote.predict_on_batch(np.broadcast_to(large, (16, 16, 224, 224, 3)))
    assert max(client.asked) * 16 * 224 * 224 <= 2_000_000


@pytest.mark.parametrize(
    ("lossless", "asked_for", "sent"),
    [
        (False, "jpeg", "jpeg"), (True, "jpeg", "png"),
        (True, "raw", "raw"), (False, "png", "png"),
    ],
)  # fmt: skip
def test_frames_travel_as_the_model_needs_them(lossless, asked_for, sent):
    client = Counting(dataclasses.replace(INFO, lossless=lossless), asked_for)
    Remote(client)
    assert client.frames == sent


@pytest.mark.parametrize("stem", ["pixels", "gradients"])
def test_a_model_of_gradients_needs_frames_as_they_are(stem, tmp_path):
    run = Run(tmp_path / "run")
    run.create(Config().replace(stem=stem))
    assert model_info_of(run).lossless == (stem == "gradients")


def test_a_run_tells_its_exports_how_it_is_asked(run, exported):
    opened = open_exported(exported("version"))
    assert opened.info == model_info_of(run)
    assert opened.info.temperature == 2.5
    assert (opened.info.threshold, opened.info.accept_errors) == (0.51, 0.1)
    assert opened.info.clip == run.config().clip
    assert opened.info.form == "jpeg"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        INFO.text().replace('"num_frames": 4', '"num_frames": 0'),
        INFO.text().replace('"num_frames": 4', '"num_frames": 1e9'),
        INFO.text().replace('"num_frames": 4', '"num_frames": true'),
        INFO.text().replace('"fit": "crop"', '"fit": "x"'),
        INFO.text().replace('"repeat"', '"x"'),
        INFO.text().replace('"temperature": 1.0', '"temperature": true'),
        INFO.text().replace('"fps": 8.0', '"fps": "x"'),
        INFO.text().replace('"fps": 8.0', '"fps": 4000.0'),
        INFO.text().replace('"jpeg"', '"gif"'),
        INFO.text().replace('"threshold": null', '"threshold": 7'),
        INFO.text().replace('"threshold": null', '"threshold": "x"'),
        INFO.text().replace('"temperature"', '"warmth"'),
    ],
)
def test_a_model_info_that_makes_no_sense_is_refused(text):
    with pytest.raises(DataError, match="'a' has no valid model info"):
        ModelInfo.read(text, "a")


def test_an_export_of_before_thresholds_opens_as_before():
    fields = json.loads(INFO.text())
    for name in ("threshold", "accept_errors"):
        del fields[name]
    del fields["evaluation"]["accept_errors"]
    found = ModelInfo.read(json.dumps(fields), "a")
    assert found.threshold is found.accept_errors is None
    assert dataclasses.replace(found, threshold=0.5) == dataclasses.replace(
        INFO, threshold=0.5
    )


def test_an_older_export_is_told_from_this_one(tmp_path, monkeypatch):
    monkeypatch.setattr(ModelInfo, "text", lambda self: "")
    export_saved_model(tiny_model(), NAMES, INFO, tmp_path)
    with pytest.raises(DataError, match="Export the run again"):
        har_keras.load(tmp_path)


OPEN_ONNX = """
import sys, time
from pathlib import Path
from har_keras.serving.runtimes import open_exported

open_exported(Path(sys.argv[1]))
time.sleep(1)
"""


def test_onnx_runtime_tells_nobody(request, tmp_path):
    for package in ("tf2onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    exported_run = request.getfixturevalue("exported_run")
    unset = {"ORT_DISABLE_TELEMETRY"}
    subprocess.run(
        [
            sys.executable,
            "-c",
            OPEN_ONNX,
            Run(exported_run).formats_dir / FILES["onnx"][0],
        ],
        env={k: v for k, v in os.environ.items() if k not in unset}
        | {"TMPDIR": str(tmp_path)},
        check=True,
        timeout=120,
    )
    assert not list(tmp_path.iterdir())  # where it keeps who it is


def test_the_newest_version_is_taken(run, tmp_path):
    for version in ("2", "10"):
        shutil.copytree(run.saved_model_dir / "1", tmp_path / version)
    shutil.rmtree(tmp_path / "2" / "variables")  # It can't be loaded.
    assert kind_of(tmp_path) == "exported"
    assert har_keras.load(tmp_path).class_names == ("down", "up")
    with pytest.raises(UsageError, match="is not an exported model"):
        open_exported(tmp_path / "none")
