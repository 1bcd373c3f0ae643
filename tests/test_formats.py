"""Each format answers as the model it was written from.

Needs the extra: pip install "har_keras[export]".
"""

import numpy as np
import pytest
from tiny_serving import CONFIG, NAMES, USAGE, smooth_clips

from har_keras import export as verb
from har_keras.errors import (
    DataError,
    EnvironmentFault,
    UsageError,
)
from har_keras.model.build import build_model
from har_keras.serving import comparison, formats
from har_keras.serving.runtimes import open_exported, package
from har_keras.serving.signatures import export_saved_model

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
    clips = smooth_clips(32, seed=3)
    return formats.Source(model, NAMES, USAGE, clips)


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


def test_a_saved_model_is_opened_too(model, tmp_path):
    version = export_saved_model(model, NAMES, USAGE, tmp_path)
    opened = open_exported(version)
    clips = smooth_clips(3)
    np.testing.assert_allclose(
        opened.predict_on_batch(clips),
        model.predict_on_batch(clips),
        atol=1e-5,
    )
    assert opened.class_names == NAMES


def test_what_is_no_model_is_refused_in_words(tmp_path):
    with pytest.raises(UsageError, match="is no exported model"):
        open_exported(tmp_path)
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(UsageError, match="is no exported model"):
        open_exported(tmp_path / "notes.txt")


def test_a_file_of_somebody_else_has_no_names(source, tmp_path):
    pytest.importorskip("ai_edge_litert", reason='needs "har_keras[export]"')
    path = tmp_path / "model.tflite"
    path.write_bytes(formats._converter(source).convert())
    with pytest.raises(DataError, match="holds no class names"):
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
    assert [row.difference for row in rows] == pytest.approx([0, 0.05, 0.5])
    assert [row.agreement for row in rows] == [1, 1, 0]
    assert [row.accuracy for row in rows] == [0.75, 0.7, 0.25]
    page = comparison.comparison_page(rows, "2 cores")
    assert "| other | 2.00 |" in page
