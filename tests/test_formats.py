"""Each format answers as the model it was written from.

Needs the extra: pip install "har_keras[export]".
"""

import os
import shutil

import numpy as np
import pytest
from support.tiny_serving import CONFIG, INFO, smooth_clips

from har_keras import export as verb
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.model.build import build_model
from har_keras.run import Run
from har_keras.serving import formats, runtimes
from har_keras.serving import formats as comparison
from har_keras.serving.runtimes import open_exported, package
from har_keras.serving.signatures import export_saved_model

NAMES = ("gym", "walk\nor \\n run", "work")
NEEDED = {
    "onnx": ("onnx", "tf2onnx", "onnxruntime"),
    "openvino": ("openvino", "onnx", "tf2onnx"),
    "litert": ("ai_edge_litert",),
    "litert-int8": ("ai_edge_litert",),
}


@pytest.fixture(scope="module")
def model():
    config = CONFIG.replace(hidden_dim=16, num_layers=2, mlp_dim=32)
    model = build_model(config.model, config.clip, num_classes=3, seed=1)
    # Untrained, all classes are nearly alike; a steeper head tells them apart.
    for weight in model.layers[-1].trainable_weights:
        rng = np.random.default_rng(0)
        weight.assign(rng.normal(0, 1, weight.shape))
    return model


@pytest.fixture(scope="module")
def source(model):
    return formats.ExportSource(model, NAMES, INFO)


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """Writes each format once, when the first test asks for it."""
    folder, kept = tmp_path_factory.mktemp("formats"), {}

    def write(name):
        for needed in NEEDED[name]:
            pytest.importorskip(needed, reason='needs "har_keras[export]"')
        if name not in kept:
            clips = smooth_clips(20, seed=4)
            kept[name] = formats.export_format(name, source, folder, clips)
        return kept[name]

    return write


@pytest.mark.parametrize("name", formats.FORMATS)
@pytest.mark.parametrize("num_clips", [1, 5])
def test_any_number_of_clips_is_answered_as_by_the_model(
    model, written, name, num_clips
):
    _, opened = written(name)
    clips = smooth_clips(num_clips, seed=5)
    expected = model.predict_on_batch(clips)
    tolerance = 1e-5 if formats.FORMATS[name].exact else 0.05
    np.testing.assert_allclose(
        opened.predict_on_batch(clips), expected, atol=tolerance
    )
    assert expected.std() > 0.05  # Else any answer would do.


def test_nobody_is_called_while_writing(source, tmp_path, monkeypatch):
    for needed in NEEDED["openvino"]:
        pytest.importorskip(needed, reason='needs "har_keras[export]"')
    telemetry = pytest.importorskip("openvino_telemetry.backend.backend_ga4")
    called = []
    monkeypatch.setattr(
        telemetry.GA4Backend, "send", lambda *_: called.append(1)
    )
    formats.write_openvino(source, tmp_path / "model.xml")
    assert (tmp_path / "model.bin").is_file()
    assert called == []


@pytest.mark.parametrize("name", formats.FORMATS)
def test_a_file_knows_its_class_names(written, name):
    path, _ = written(name)
    assert open_exported(path).class_names == NAMES


def test_whole_numbers_take_less_room(written):
    floats, _ = written("litert")
    whole, _ = written("litert-int8")
    assert whole.stat().st_size < floats.stat().st_size


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("onnx", "probabilities differ"), ("litert-int8", "top labels")],
)
def test_what_answers_otherwise_is_not_published(
    source, tmp_path, monkeypatch, name, sentence
):
    class Wrong:
        def predict_on_batch(self, clips):
            return 1 - source.model.predict_on_batch(clips)

    def write(_, path):
        path.write_bytes(b"a model of something else")

    monkeypatch.setattr(formats, "open_exported", lambda _: Wrong())
    kind = formats.Format("model.onnx", write, formats.FORMATS[name].exact)
    monkeypatch.setitem(formats.FORMATS, name, kind)
    with pytest.raises(EnvironmentFault, match=f"not published: .*{sentence}"):
        formats.export_format(name, source, tmp_path, smooth_clips(4))
    assert list(tmp_path.iterdir()) == []


def test_what_a_converter_raises_is_one_sentence(source, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyError("an op that is not known\nand a page of more")

    monkeypatch.setitem(
        formats.FORMATS, "onnx", formats.Format("model.onnx", fail)
    )
    wanted = "onnx was not published: KeyError: .*not known"
    with pytest.raises(EnvironmentFault, match=wanted) as raised:
        formats.export_format("onnx", source, tmp_path, smooth_clips(4))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_an_earlier_export_stays(source, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError

    kind = formats.Format("model.onnx", fail)
    monkeypatch.setitem(formats.FORMATS, "onnx", kind)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"earlier")
    with pytest.raises(EnvironmentFault, match="RuntimeError: no message"):
        formats.export_format("onnx", source, tmp_path, smooth_clips(4))
    assert [path.name for path in tmp_path.rglob("*.onnx")] == ["model.onnx"]


def test_no_number_is_no_answer():
    expected = np.array([[0.9, 0.1]])
    nothing = np.full((1, 2), np.nan)
    for name in formats.FORMATS:
        with pytest.raises(EnvironmentFault, match="not published"):
            formats.require_parity(name, expected, nothing)


@pytest.mark.parametrize("name", ["litert", "litert-int8"])
def test_a_litert_file_takes_clips_one_by_one_or_together(written, name):
    path, opened = written(name)
    clips = smooth_clips(5, seed=6)
    whole = package("ai_edge_litert.interpreter").Interpreter(str(path))
    (place,) = whole.get_input_details()
    whole.resize_tensor_input(place["index"], clips.shape)
    whole.allocate_tensors()
    whole.set_tensor(place["index"], clips)
    whole.invoke()
    (place,) = whole.get_output_details()
    found = whole.get_tensor(place["index"])
    np.testing.assert_allclose(opened.predict_on_batch(clips), found, atol=1e-6)
    assert opened.predict_on_batch(clips[:0]).shape == (0, len(NAMES))


def test_a_saved_model_is_opened_too(model, tmp_path):
    version = export_saved_model(model, NAMES, INFO, tmp_path)
    opened = open_exported(version)
    clips = smooth_clips(3)
    np.testing.assert_allclose(
        opened.predict_on_batch(clips),
        model.predict_on_batch(clips),
        atol=1e-5,
    )
    assert opened.class_names == NAMES


def test_what_is_no_model_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match="is not an exported model"):
        open_exported(tmp_path)
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(UsageError, match="is not an exported model"):
        open_exported(tmp_path / "notes.txt")


def test_a_file_of_somebody_else_has_no_names(source, tmp_path):
    pytest.importorskip("ai_edge_litert", reason='needs "har_keras[export]"')
    path = tmp_path / "model.tflite"
    path.write_bytes(formats._converter(source).convert())
    with pytest.raises(DataError, match="has no class names"):
        open_exported(path)


def test_a_missing_package_is_named():
    with pytest.raises(EnvironmentFault, match=r"har_keras\[export\]"):
        package("no_such_package.at_all")


def test_unknown_formats_are_named():
    with pytest.raises(UsageError, match="Received: coreml"):
        verb.chosen_formats("onnx,coreml")
    assert verb.chosen_formats("") == []
    assert set(verb.FORMATS) == set(formats.FORMATS)


def test_the_table_says_what_was_measured(tmp_path):
    class Fixed:
        def __init__(self, share):
            self.share = share

        def predict_on_batch(self, clips):
            return np.tile([self.share, 1 - self.share], (len(clips), 1))

    (tmp_path / "a").write_bytes(bytes(2_000_000))
    rows = comparison.compare(
        {
            "Keras": (tmp_path / "a", Fixed(0.75)),
            "same": (tmp_path / "a", Fixed(0.7)),
            "other": (tmp_path, Fixed(0.25)),
        },
        smooth_clips(3),
        accuracy_of=lambda model: model.share,
    )
    assert all(row.time_ratio > 0 for row in rows)
    assert rows[0].time_ratio == 1
    assert [row.difference for row in rows] == pytest.approx([0, 0.05, 0.5])
    assert [row.agreement for row in rows] == [1, 1, 0]
    assert [row.accuracy for row in rows] == [0.75, 0.7, 0.25]
    page = comparison.comparison_page(rows, "2 cores")
    assert "| other | 2.00 |" in page
    assert "Not published" not in page
    page = comparison.comparison_page(rows, "2 cores", ["onnx was not."])
    assert "## Not published\n\n- onnx was not." in page


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return Run(shutil.copytree(tiny_run.path, folder))


def test_one_refused_format_does_not_stop_the_others(run, monkeypatch, capfd):
    for needed in NEEDED["litert"]:
        pytest.importorskip(needed, reason='needs "har_keras[export]"')

    def fail(*_):
        raise RuntimeError("no such op")

    kind = formats.Format("model.onnx", fail)
    monkeypatch.setitem(formats.FORMATS, "onnx", kind)
    argv = [str(run.path), "--formats", "onnx,litert"]
    assert verb.main(argv) == EnvironmentFault.exit_code
    printed = capfd.readouterr()
    reason = "The format onnx was not published: RuntimeError: no such op."
    assert printed.err.splitlines() == [
        "8 of 8 videos can be used.",
        f"Warning: {reason}",
        "Error: 1 of 2 formats not published; the reasons are in "
        f"'{run.serving_dir / 'formats.md'}'.",
    ]
    page = (run.serving_dir / "formats.md").read_text("utf-8")
    assert page in printed.out
    assert f"## Not published\n\n- {reason}\n" in page
    assert "| litert |" in page
    assert [path.name for path in run.formats_dir.iterdir()] == ["litert"]
    assert (run.saved_model_dir / "1" / "saved_model.pb").is_file()
    assert printed.out.splitlines()[-1] == str(run.saved_model_dir / "1")


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".tflite"])
@pytest.mark.parametrize("content", [b"", b"no model", bytes(range(256)) * 9])
def test_a_damaged_file_is_one_sentence(suffix, content, tmp_path):
    needed = {".onnx": "onnx", ".xml": "openvino", ".tflite": "litert"}[suffix]
    for name in NEEDED[needed]:
        pytest.importorskip(name, reason='needs "har_keras[export]"')
    file = tmp_path / f"model{suffix}"
    file.write_bytes(content)
    with pytest.raises(DataError, match="is damaged, or not of har_keras"):
        open_exported(file)


@pytest.mark.parametrize(
    ("names", "words"),
    [('["a", "b"]', "clips"), ("5", "no list"), ('["a", "a"]', "no list")],
)
def test_a_model_that_says_it_is_ours_is_not_believed(names, words, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    shape = [1, 4, 32, 32, 3]
    ends = [
        onnx.helper.make_tensor_value_info(x, onnx.TensorProto.UINT8, shape)
        for x in "xy"
    ]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "graph", ends[:1], ends[1:])
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    metadata = {runtimes.NAMES: names, runtimes.INFO: INFO.text()}
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(DataError, match=words) as error:
        open_exported(tmp_path / "model.onnx").predict_on_batch(smooth_clips(1))
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_in_a_model_is_not_waited_for(tmp_path):
    (tmp_path / "1" / "variables").mkdir(parents=True)
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"")
    os.mkfifo(tmp_path / "1" / "variables" / "variables.index")
    with pytest.raises(DataError, match="a named pipe"):
        open_exported(tmp_path)
