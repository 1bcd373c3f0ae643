"""The server: TensorFlow Serving's REST API, videos, queues, versions.

Needs the extras: pip install "har_keras[serve,export]". `test_serve_load.py`
has the tests under load.
"""

import http.client
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.server import copy_version, form, republish, served, wait_for
from support.tiny_serving import gif, jpegs, pngs, random_clips, smooth_clips
from support.videos import draw_video, truncate

from har_keras import cli
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.run import Run
from har_keras.serving.client import ServingClient
from har_keras.serving.runtimes import open_exported
from har_keras.serving.transports import as_json

_WITHOUT = 'needs pip install "har_keras[serve,export]"'
for package in ("fastapi", "uvicorn", "orjson", "onnxruntime", "openvino"):
    pytest.importorskip(package, reason=_WITHOUT)

# They import the packages of the extra, so they come after the check.
from har_keras.serve import __main__ as verb  # noqa: E402
from har_keras.serve import repository, rest, trial, videos  # noqa: E402
from har_keras.serve.batcher import Batcher, Closed  # noqa: E402
from har_keras.serve.exports import find_sources, read_labels  # noqa: E402
from har_keras.serve.options import Keys, ServeOptions  # noqa: E402
from har_keras.serve.repository import Repository  # noqa: E402
from har_keras.serve.server import running  # noqa: E402
from har_keras.web.refusal import Refusal  # noqa: E402
from har_keras.web.uploads import UploadFolder, remove_abandoned  # noqa: E402

PREDICT = "/v1/models/har:predict"
KEY = "a-key-of-many-characters"


@pytest.fixture(scope="module")
def server(exported_run):
    with served(exported_run, runtime="onnx") as server:
        yield server


@pytest.fixture(scope="module")
def model(exported_run):
    return open_exported(exported_run / "formats" / "onnx" / "model.onnx")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return draw_video(tmp_path_factory.mktemp("drawn") / "a.mp4", seed=7)


def clips_json(clips):
    return {"inputs": {"clips": clips.tolist()}}


# The REST API of TensorFlow Serving.


@pytest.mark.parametrize("runtime", ["saved_model", "onnx", "openvino"])
def test_every_runtime_answers_the_client_as_the_model_does(
    exported_run, model, runtime
):
    clips = smooth_clips(5)
    expected = model.predict_on_batch(clips)
    with served(exported_run, runtime=runtime) as server:
        for frames, tolerance in (("raw", 1e-5), ("png", 1e-5), ("jpeg", 0.05)):
            with ServingClient(server.url(), frames=frames) as client:
                found = client.predict(clips)
            np.testing.assert_allclose(
                found.probabilities, expected, atol=tolerance
            )
            assert found.class_names == model.class_names
            assert found.info == model.info.text()


def test_rows_and_columns_hold_the_same(server, model):
    clips = smooth_clips(3)
    sent = as_json(np.array([jpegs(x) for x in clips], dtype=object))
    status, _, column = server.predict(
        {"signature_name": "serving_jpeg", "inputs": sent}
    )
    assert status == 200
    named = {"signature_name": "serving_jpeg", "inputs": {"frames_bytes": sent}}
    assert server.predict(named)[2] == column
    for rows in (sent, [{"frames_bytes": x} for x in sent]):
        body = {"signature_name": "serving_jpeg", "instances": rows}
        status, _, found = server.predict(body)
        assert status == 200
        for key, values in column["outputs"].items():
            assert [row[key] for row in found["predictions"]] == values
    outputs = column["outputs"]
    order = np.argsort(-np.array(outputs["probabilities"]), axis=1)
    names = np.array(model.class_names)
    assert outputs["top_labels"] == names[order].tolist()
    assert (
        outputs["top_scores"]
        == np.sort(outputs["probabilities"])[:, ::-1].tolist()
    )


def test_outputs_are_those_of_the_saved_model(exported_run, server):
    import tensorflow as tf

    graph = tf.saved_model.load(str(exported_run / "saved_model" / "1"))
    clips = random_clips(2, 7, 48, 64, 3)
    expected = graph.signatures["serving_default"](clips=tf.constant(clips))
    _, _, found = server.predict(clips_json(clips))
    assert set(found["outputs"]) == set(expected)
    for name, value in expected.items():
        value = value.numpy()
        if value.dtype == object:
            assert found["outputs"][name] == value.astype("U").tolist()
        else:
            np.testing.assert_allclose(found["outputs"][name], value, atol=1e-3)


def test_gifs_are_classified(server, model):
    clip = smooth_clips(1)[0]
    value = as_json(gif(clip))
    body = {"signature_name": "serving_gif", "instances": [value, value]}
    status, _, found = server.predict(body)
    assert status == 200
    expected = model.predict_on_batch(clip[None])[0]
    for row in found["predictions"]:
        np.testing.assert_allclose(row["probabilities"], expected, atol=0.1)


@pytest.mark.parametrize("rest", ["", "/versions/1", "/labels/stable"])
def test_status_metadata_and_predict_of_a_version(exported_run, rest):
    with served(exported_run, runtime="onnx", labels="stable=1") as server:
        status, _, found = server.get(f"/v1/models/har{rest}")
        assert status == 200
        (version,) = found["model_version_status"]
        assert (version["version"], version["state"]) == ("1", "AVAILABLE")
        assert version["status"] == {"error_code": "OK", "error_message": ""}
        _, _, found = server.get(f"/v1/models/har{rest}/metadata")
        assert found["model_spec"]["version"] == "1"
        signatures = found["metadata"]["signature_def"]["signature_def"]
        assert set(signatures) == set(rest_signatures())
        path = f"/v1/models/har{rest}:predict"
        assert server.predict(clips_json(smooth_clips(1)), path)[0] == 200


def rest_signatures():
    return rest.SIGNATURES


def test_signatures_are_those_of_the_saved_model(exported_run):
    import tensorflow as tf

    graph = tf.saved_model.load(str(exported_run / "saved_model" / "1"))
    assert set(graph.signatures) == set(rest.SIGNATURES)
    for name, known in rest.SIGNATURES.items():
        ((sent, spec),) = (
            graph.signatures[name].structured_input_signature[1].items()
        )
        shape = tuple(-1 if x is None else x for x in spec.shape)
        assert (sent, shape) == (known.input, known.sizes)
        assert f"DT_{spec.dtype.name.upper()}" == known.dtype


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/models/other", 404, "any versions of model other"),
        ("GET", "/v1/models/har/versions/9", 404, r"Specific\(har, 9\)"),
        ("GET", "/v1/models/har/labels/new", 404, "version label: new"),
        ("GET", "/v1/models/har/labels/%C2%9B1m", 404, r"label: \\x9b1m"),
        ("GET", f"/v1/models/har/labels/{'x' * 999}", 404, "label: x{60}$"),
        ("GET", "/v1/models/har/versions/x", 404, "Malformed request"),
        ("GET", f"/v1/models/har/versions/{10**30}", 400, "Malformed request"),
        ("GET", "/v1/models/har/versions/1:predict", 405, "Malformed request"),
        ("GET", "/v1/other", 404, "Malformed request: GET /v1/other"),
        ("GET", PREDICT, 404, "har:predict"),
        ("PUT", "/v1/models/har", 405, "Malformed request: PUT"),
        ("POST", "/v1/models/har:classify", 405, "Malformed request"),
        ("POST", "/v1/models/x:predict", 404, r"Latest\(x\)"),
        ("POST", "/v1/models/har/versions/9:predict", 404, "not found"),
    ],
)
def test_what_is_not_there_is_named(server, method, path, status, words):
    found = server.ask(method, path)
    assert found[0] == status
    assert re.search(words, found[2]["error"])


ONE = jpegs(smooth_clips(1)[0])[0]
B64 = as_json(ONE)


def jpeg_body(value):
    return {"signature_name": "serving_jpeg", "inputs": value}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        (b"\xff\xfe", "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        (b"[]", "must be an object"),
        (b"NaN", "JSON Parse error"),
        ({}, "one of 'inputs' and 'instances'"),
        ({"inputs": [1], "instances": [1]}, "and not both"),
        ({"signature": "serving_jpeg", "inputs": [1]}, "Received: signature"),
        ({"instances": []}, "at least one clip"),
        ({"instances": None}, "at least one clip"),
        ({"instances": {"clips": []}}, "at least one clip"),
        ({"inputs": []}, "at least one clip"),
        ({"inputs": {"frames": [1]}}, "must be 'clips'. Received: frames"),
        ({"inputs": {}}, "Received: none"),
        ({"instances": [{"clips": [1]}, 5]}, "must be 'clips'"),
        ({"signature_name": "x", "inputs": [1]}, 'key "x" not found'),
        ({"signature_name": 5, "inputs": [1]}, 'key "5" not found'),
        ({"signature_name": None, "inputs": [1]}, 'key "None" not found'),
        ({"instances": [5]}, "frames of rows of pixels"),
        ({"instances": [[[[[1, 2, 3]], [[1, 2]]]]]}, "equal lengths"),
        ({"instances": [[[[[1, 2, 3, 4]]]]]}, "3 integers"),
        ({"instances": [[[[[1, 2, 256]]]]]}, "0 to 255"),
        ({"instances": [[[[[1, 2, -1]]]]]}, "0 to 255"),
        ({"instances": [[[[[1, 2, 0.5]]]]]}, "3 integers"),
        ({"instances": [[[[[1, 2, True]]]]]}, "3 integers"),
        ({"instances": [[[[["a", "b", "c"]]]]]}, "3 integers"),
        ({"instances": [[[[[[1], [2], [3]]]]]]}, "3 integers"),
        ({"instances": [[]]}, "at least one frame"),
        ({"instances": [[[]]]}, "at least one pixel"),
        ({"instances": [[[[[1, 2, 3]]]] * 1025]}, "at most 1024 frames"),
        ({"instances": [[[[1, 2, 3]]]]}, "frames of rows"),
        (jpeg_body([[]]), "at least one frame"),
        (jpeg_body([[{"b64": "AAAA"}]]), "must be a JPEG or PNG"),
        (jpeg_body([["text"]]), "must be a JPEG or PNG"),
        (jpeg_body([[{"b64": "%%%"}]]), "not base64"),
        (jpeg_body([[{"b64": 5}]]), "must be an object"),
        (jpeg_body([[{"b64": "AAAA", "c": 1}]]), "must be an object"),
        (jpeg_body([B64]), "must be a list of images"),
        (jpeg_body([[5]]), "must be an object"),
        ({"signature_name": "serving_gif", "inputs": [B64]}, "must be a GIF"),
        ({"signature_name": "serving_gif", "inputs": [5]}, "must be an object"),
    ],
)
def test_a_malformed_request_is_one_sentence(server, body, words):
    status, _, found = server.predict(body)
    assert status == 400
    assert set(found) == {"error"}
    assert re.search(words, found["error"])


def test_one_bad_clip_is_no_answer_for_all(server):
    good, bad = [B64], [{"b64": "AAAA"}]
    assert server.predict(jpeg_body([good, bad]))[0] == 400
    assert server.predict(jpeg_body([good, good]))[0] == 200


def test_pixels_are_read_as_numpy_reads_them(server):
    clips = random_clips(2, 4, 32, 32, 3)
    np.testing.assert_array_equal(rest._pixels(clips[0].tolist()), clips[0])
    sent = [
        {"inputs": {"clips": clips.tolist()}},
        {"inputs": clips.tolist()},
        {"instances": clips.tolist()},
        {"instances": [{"clips": x} for x in clips.tolist()]},
    ]
    for body in sent:
        call = rest.read_predict(json.dumps(body).encode(), 8)
        found = call.clips(server.state.repository.get("har").info.clip)
        np.testing.assert_array_equal(found, clips)
    nonsense = {"signature_name": "serving_jpeg", "inputs": clips.tolist()}
    status, _, found = server.predict(nonsense)
    assert (status, "list of images" in found["error"]) == (400, True)


# Limits, keys, hosts.


@pytest.fixture(scope="module")
def small(exported_run):
    """A server with tight limits."""
    with served(
        exported_run, runtime="onnx", max_request_megabytes=0.1,
        max_instances=2, max_megabytes=0.05, max_seconds=2.0,
    ) as server:  # fmt: skip
        yield server


def test_limits_of_a_request(small):
    assert small.predict(b"x" * 200_000)[0] == 413
    status, _, found = small.predict(jpeg_body([[B64]] * 3))
    assert status == 413
    assert "at most 2 clips. Received: 3" in found["error"]
    status, _, _ = small.predict(b"{}", **{"Content-Encoding": "gzip"})
    assert status == 415


def test_a_body_of_unknown_length_is_bounded(small):
    connection = http.client.HTTPConnection(small.host, timeout=30)
    chunks = (b"x" * 10_000 for _ in range(50))
    connection.request("POST", PREDICT, chunks, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_the_client_says_what_to_do_about_a_large_request(small):
    with (
        ServingClient(small.url(), frames="raw") as client,
        pytest.raises(DataError, match="Send fewer clips per request"),
    ):
        client.predict(random_clips(2, 8, 64, 64, 3))


def test_clips_of_a_request_take_bounded_memory(monkeypatch, server):
    monkeypatch.setattr(rest, "_MAX_INPUT_BYTES", 2 * 4 * 32 * 32 * 3)
    assert server.predict(jpeg_body([[B64]] * 2))[0] == 200
    assert server.predict(jpeg_body([[B64]] * 3))[0] == 413


@pytest.fixture(scope="module")
def locked(exported_run, tmp_path_factory):
    """A server with a key."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# of the tests\n{KEY}\nanother-key-of-the-tests\n")
    with served(exported_run, runtime="onnx", api_key_file=file) as server:
        yield server


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"Authorization": "Basic " + KEY}, 401),
        ({"X-API-Key": KEY}, 200),
        ({"X-API-Key": "another-key-of-the-tests"}, 200),
        ({"Authorization": "Bearer " + KEY}, 200),
        ({"authorization": "bearer " + KEY}, 200),
    ],
)
def test_a_key_is_asked_for(locked, headers, status):
    for path in ("/v1/models/har", "/metrics"):
        found = locked.get(path, **headers)
        assert found[0] == status
        if status == 401:
            assert found[1]["WWW-Authenticate"] == "Bearer"
            assert KEY not in str(found[2])
    for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
        assert locked.get(path)[0] == 200


def test_the_client_sends_the_key_of_its_environment(locked, monkeypatch):
    with ServingClient(locked.url()) as client:
        with pytest.raises(UsageError, match="set the environment variable"):
            client.predict(smooth_clips(1))
        monkeypatch.setenv("HAR_KERAS_API_KEY", KEY)
        assert len(client.predict(smooth_clips(1)).probabilities) == 1


def test_keys_come_from_the_environment_too(monkeypatch):
    monkeypatch.setenv("HAR_KERAS_API_KEYS", f"{KEY} and-another-long-key")
    keys = Keys.read(None)
    assert keys.allows(KEY)
    assert keys.allows("and-another-long-key")
    assert not keys.allows("")
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "can't be read"),
        ("# none\n", "has no key"),
        ("abc", "at least 16"),
    ],
)
def test_a_file_without_a_good_key_is_refused(tmp_path, text, words):
    file = tmp_path / "keys"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=words):
        Keys.read(file)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example.com"}, 400),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8501"}, 200),
        ({"Host": "127.0.0.1.evil.com"}, 400),
        ({"Host": "a b"}, 400),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ({"Origin": "http://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_pages_of_other_sites_are_kept_out(server, headers, status):
    assert server.get("/v1/models/har", **headers)[0] == status


def test_a_public_address_needs_keys(exported_run, capsys, monkeypatch):
    flags = [str(exported_run), "--host", "0.0.0.0", "--port", "0"]
    assert verb.main(flags) == 2
    assert "needs keys: give --api-key-file" in capsys.readouterr().err
    monkeypatch.setattr(repository.Repository, "load", stop)
    assert verb.main([*flags, "--allow-no-keys"]) == 3
    assert "Anyone who reaches 0.0.0.0" in capsys.readouterr().err


def stop(_):
    raise DataError("Far enough.")


# Batches, queues, time limits.


def means(clips):
    return clips.reshape(len(clips), -1).mean(1, keepdims=True)


def test_every_request_gets_its_own_rows():
    sizes = []

    def predict(clips):
        sizes.append(len(clips))
        time.sleep(0.005)
        return means(clips)

    batcher = Batcher(predict, max_batch=8, max_delay_seconds=0.01)
    rng = np.random.default_rng(0)
    jobs = [
        rng.integers(0, 256, (rng.integers(1, 5), 2, 2, 2, 3), np.uint8)
        for _ in range(100)
    ]
    futures = [batcher.submit(clips) for clips in jobs]
    for clips, future in zip(jobs, futures, strict=True):
        np.testing.assert_allclose(future.result(), means(clips), rtol=1e-6)
    batcher.close()
    assert max(sizes) <= 8
    assert len(sizes) < 60


def test_a_request_that_fails_leaves_the_others_alone():
    started = threading.Event()

    def predict(clips):
        started.wait()
        if (clips == 13).all((1, 2, 3, 4)).any():
            raise RuntimeError("13")
        return means(clips)

    batcher = Batcher(predict, max_batch=8, max_delay_seconds=0)
    clips = [np.full((1, 1, 1, 1, 3), x, np.uint8) for x in (0, 5, 13, 7)]
    futures = [batcher.submit(x) for x in clips]
    started.set()
    assert [f.result().item() for f in futures[:2]] == [0, 5]
    with pytest.raises(RuntimeError, match="13"):
        futures[2].result()
    assert futures[3].result().item() == 7
    batcher.close()


def test_what_nobody_waits_for_is_not_run_and_the_rest_is_at_the_end():
    seen, go = [], threading.Event()

    def predict(clips):
        go.wait()
        seen.extend(clips[:, 0, 0, 0, 0].tolist())
        return means(clips)

    batcher = Batcher(predict, max_batch=1, max_delay_seconds=0)
    futures = [
        batcher.submit(np.full((1, 1, 1, 1, 3), x, np.uint8)) for x in range(4)
    ]
    wait_for(futures[0].running)
    assert futures[2].cancel()
    go.set()
    batcher.close()
    assert seen == [0, 1, 3]
    assert all(f.done() for f in futures)
    with pytest.raises(Closed):
        batcher.submit(np.zeros((1, 1, 1, 1, 3), np.uint8))


def test_a_batch_waits_only_while_requests_are_on_their_way():
    expecting = [False]
    batcher = Batcher(
        means, max_batch=8, max_delay_seconds=0.5,
        is_expecting=lambda: expecting[0],
    )  # fmt: skip
    clip = np.zeros((1, 1, 1, 1, 3), np.uint8)
    began = time.monotonic()
    batcher.submit(clip).result()
    assert time.monotonic() - began < 0.3
    expecting[0], began = True, time.monotonic()
    batcher.submit(clip).result()
    assert time.monotonic() - began >= 0.45
    batcher.close()


class Slow:
    """A runtime that answers when it is let."""

    def __init__(self, runtime, gate):
        self.class_names, self.info = runtime.class_names, runtime.info
        self._runtime, self._gate = runtime, gate

    def predict_on_batch(self, clips):
        assert self._gate.wait(30)
        if getattr(self._gate, "broken", False):
            raise RuntimeError("a word of the inside")
        return self._runtime.predict_on_batch(clips)


@pytest.fixture
def gate(monkeypatch):
    """Opens and closes the model of servers that start from now on."""
    gate = threading.Event()
    gate.set()
    opened = trial.open_exported
    monkeypatch.setattr(
        trial,
        "open_exported",
        lambda path, **options: Slow(opened(path, **options), gate),
    )
    yield gate
    gate.set()


def in_background(function, *arguments):
    found = []
    thread = threading.Thread(target=lambda: found.append(function(*arguments)))
    thread.start()

    def result():
        thread.join(60)
        return found[0]

    return result


BODY = clips_json(smooth_clips(1))


def test_a_full_queue_is_429_and_says_when_to_come_back(exported_run, gate):
    with served(exported_run, runtime="onnx", max_queue=2) as server:
        gate.clear()
        waiting = [in_background(server.predict, BODY) for _ in range(2)]
        wait_for(lambda: server.state.in_flight == 2)
        status, headers, found = server.predict(BODY)
        assert status == 429
        assert int(headers["Retry-After"]) >= 1
        assert "queue is full" in found["error"]
        assert server.get("/healthz")[0] == 200
        gate.set()
        assert [result()[0] for result in waiting] == [200, 200]
        assert server.predict(BODY)[0] == 200


def test_a_request_that_takes_too_long_is_504(exported_run, gate):
    with served(exported_run, runtime="onnx", timeout_seconds=0.3) as server:
        gate.clear()
        status, _, found = server.predict(BODY)
        assert status == 504
        assert "more than 0.3 s" in found["error"]
        gate.set()
        wait_for(lambda: server.predict(BODY)[0] == 200)


def test_a_stop_answers_what_was_accepted_and_refuses_the_rest(
    exported_run, gate
):
    with served(exported_run, runtime="onnx") as server:
        gate.clear()
        waiting = in_background(server.predict, BODY)
        wait_for(lambda: server.state.in_flight == 1)
        server.server.handle_exit(15, None)
        server.server._captured_signals.clear()  # not for this process
        status, headers, found = server.predict(BODY)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "shutting down" in found["error"]
        assert server.get("/readyz")[0] == 503
        assert server.get("/healthz")[0] == 200
        gate.set()
        assert waiting()[0] == 200
        wait_for(lambda: server.server.should_exit, 5)


def test_a_failure_of_the_model_is_500_and_not_the_end(
    exported_run, gate, caplog
):
    with served(exported_run, runtime="onnx") as server:
        gate.broken = True
        status, _, found = server.predict(BODY)
        assert status == 500
        assert "inside" not in found["error"]
        assert "a word of the inside" in caplog.text
        gate.broken = False
        assert server.predict(BODY)[0] == 200


# Videos.


def test_a_video_is_answered_as_predict_does(server, exported_run, video):
    from har_keras.inference.load import load

    expected = load(exported_run / "formats" / "onnx" / "model.onnx").predict(
        video
    )
    status, _, found = server.video(video.read_bytes())
    assert status == 200
    assert found["label"] == expected.label
    assert found["probabilities"] == pytest.approx(
        expected.probabilities, abs=1e-5
    )
    assert found["confidence"] == pytest.approx(expected.confidence, abs=1e-5)
    assert (found["video"], found["model"]) == ("a.mp4", "har")
    assert found["seconds"] == expected.seconds
    assert (found["segments"], found["note"]) == (None, "")


def test_a_timeline_comes_when_asked_for_or_the_video_is_long(
    exported_run, server, video
):
    from har_keras.inference.load import load

    model = load(exported_run / "formats" / "onnx" / "model.onnx")
    expected = model.predict(video, timeline=True)
    _, _, found = server.video(video.read_bytes(), "?timeline=true")
    assert len(found["segments"]) == len(expected.segments)
    for segment, known in zip(
        found["segments"], expected.segments, strict=True
    ):
        assert segment["label"] == known.label
        assert segment["end_seconds"] == pytest.approx(known.end_seconds)
    with served(exported_run, runtime="onnx", timeline_seconds=2.0) as other:
        assert other.video(video.read_bytes())[2]["segments"]
        assert not other.video(video.read_bytes(), "?timeline=no")[2][
            "segments"
        ]


def test_what_is_wrong_with_a_video_is_said(server, video, tmp_path):
    cut = truncate(video, tmp_path / "cut.mp4", share=0.8)
    status, _, found = server.video(cut.read_bytes())
    assert (status, found["note"][:12]) == (200, "truncated at")
    for data in (b"no video", b"\0" * 5000, video.read_bytes()[:300]):
        status, _, found = server.video(data, name="../../evil/b.mp4")
        assert status == 422
        assert found["error"].startswith("'b.mp4' can't be used: ")
        assert str(server.state.uploads.path) not in found["error"]


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("video/mp4", b"abc", 415, "must be sent as multipart"),
        ("multipart/form-data", b"abc", 415, "must be sent as multipart"),
        (
            f"multipart/form-data; boundary={'b' * 71}",
            b"--",
            415,
            "must be sent as multipart",
        ),
        ("multipart/form-data; boundary=x", b"abc", 400, "not valid"),
        ("multipart/form-data; boundary=x", b"", 400, "no field 'video'"),
        (
            "multipart/form-data; boundary=x",
            b"--x--\r\n",
            400,
            "no field|not v",
        ),
        (*form(b"abc", field="file"), 400, "Received: 'file'"),
        (*form(b""), 400, "empty"),
        ("multipart/form-data; boundary=x", form(b"a")[1][:-9], 400, "not v"),
    ],
)
def test_a_form_without_a_video_is_refused(server, kind, body, status, words):
    found = server.ask("POST", "/v1/videos", body, {"Content-Type": kind})
    assert found[0] == status
    assert re.search(words, found[2]["error"])
    assert_no_uploads(server)


def assert_no_uploads(server):
    names = {path.name for path in server.state.uploads.path.iterdir()}
    assert names == {"lock"}


def test_half_a_form_and_two_videos_are_refused(server, video):
    kind, body = form(video.read_bytes())
    half = body[: len(body) // 2]
    found = server.ask("POST", "/v1/videos", half, {"Content-Type": kind})
    assert (found[0], found[2]["error"]) == (400, "The form ends too early.")
    boundary = kind.rpartition("=")[2].encode()
    part = body.removesuffix(b"--" + boundary + b"--\r\n")
    found = server.ask(
        "POST", "/v1/videos", part + body, {"Content-Type": kind}
    )
    assert found[0] == 400
    assert_no_uploads(server)


def test_a_video_that_is_too_large_or_too_long_is_413(small, video):
    status, _, found = small.video(b"\0" * 300_000)
    assert (status, "at most" in found["error"]) == (413, True)
    status, _, found = small.video(video.read_bytes())
    assert status == 413
    assert "2 seconds. Received: 0 MB and 3" in found["error"]
    assert_no_uploads(small)


def test_a_header_that_lies_about_the_length_does_not_help(
    small, video, monkeypatch
):
    monkeypatch.setattr(videos, "require_within", lambda *_: None)
    for query in ("?timeline=false", "?timeline=true"):
        status, _, found = small.video(video.read_bytes(), query)
        assert status == 413
        assert "Received: a longer one" in found["error"]
    assert_no_uploads(small)


def test_a_video_that_takes_too_long_is_504_and_given_up(
    exported_run, video, gate
):
    with served(
        exported_run, runtime="onnx", video_timeout_seconds=0.5, max_videos=1
    ) as server:
        gate.clear()
        waiting = in_background(server.video, video.read_bytes())
        wait_for(lambda: server.state.num_videos == 1)
        status, headers, found = server.video(video.read_bytes())
        assert (status, headers["Retry-After"]) == (429, "5")
        status, _, found = waiting()
        assert status == 504
        assert "more than 0.5 s" in found["error"]
        assert_no_uploads(server)
        gate.set()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?model=other", 404),
        ("?version=9", 404),
        ("?version=x", 400),
        ("?timeline=x", 400),
        ("?model=har&version=1", 200),
    ],
)
def test_options_of_a_video(server, video, query, status):
    assert server.video(video.read_bytes(), query)[0] == status


def test_uploads_of_a_server_that_was_killed_are_removed(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from har_keras.web.uploads import UploadFolder;"
        "f = UploadFolder('serve', Path(sys.argv[1]));"
        "f.new_file().write_bytes(b'video');"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    (left,) = tmp_path.iterdir()
    assert len(list(left.iterdir())) == 2
    mine = UploadFolder("serve", tmp_path)
    assert [*tmp_path.iterdir()] == [mine.path]
    remove_abandoned(tmp_path, "har_keras-serve-")  # as a second server does
    assert mine.path.is_dir()
    mine.close()
    assert not mine.path.exists()


# Versions and runtimes.


def version_of(server, rest=""):
    states = server.get(f"/v1/models/har{rest}")[2]["model_version_status"]
    return [int(x["version"]) for x in states if x["state"] == "AVAILABLE"]


def test_a_new_version_is_served_without_a_restart(run_copy, caplog):
    caplog.set_level(logging.INFO, "har_keras")
    with served(run_copy / "saved_model") as server:
        assert version_of(server) == [1]
        copy_version(run_copy, 3)
        server.wait_for(lambda: version_of(server) == [3])
        assert server.predict(BODY)[0] == 200
        old = "/v1/models/har/versions/1:predict"
        assert server.predict(BODY, old)[0] == 404
    assert "Version 3 of 'har' is served now (saved_model)." in caplog.text


def test_several_versions_and_labels_are_kept(run_copy):
    with served(
        run_copy / "saved_model", num_versions=2, labels="first=1"
    ) as server:
        for number in (2, 3, 4):
            copy_version(run_copy, number)
            server.wait_for(lambda n=number: version_of(server)[0] == n)
        assert version_of(server) == [4, 3, 1]
        assert version_of(server, "/labels/first") == [1]


@pytest.mark.parametrize("damage", ["altered", "cut", "emptied"])
def test_a_damaged_version_is_refused_and_the_old_one_goes_on(
    run_copy, damage, caplog
):
    with served(run_copy / "saved_model") as server:
        base = run_copy / "saved_model"
        shutil.copytree(base / "1", base / ".new")
        graph = base / ".new" / "saved_model.pb"
        data = graph.read_bytes()
        graph.write_bytes(
            {"altered": data + b"\0", "cut": data[:99], "emptied": b""}[damage]
        )
        (base / ".new").rename(base / "2")
        server.wait_for(lambda: "Version 2 of 'har'" in caplog.text)
        assert server.predict(BODY)[0] == 200
        assert version_of(server) == [1]
        (bad,) = [
            x
            for x in server.get("/v1/models/har")[2]["model_version_status"]
            if x["state"] == "END"
        ]
        assert "was changed since its export" in bad["status"]["error_message"]
        time.sleep(0.3)  # several looks
        assert caplog.text.count("Version 2 of 'har'") == 1
        copy_version(run_copy, 3)
        server.wait_for(lambda: version_of(server) == [3])


def test_a_version_of_the_same_runtime_is_waited_for(
    run_copy, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "har_keras")
    with served(run_copy) as server:
        runtime = server.state.repository.servables[0].export.runtime
        assert runtime in ("onnx", "openvino")
        assert "Clips per second here: " in caplog.text
        copy_version(run_copy, 2)
        server.wait_for(lambda: "waiting for it" in caplog.text)
        assert version_of(server) == [1]
        republish(run_copy, runtime, 2)
        server.wait_for(lambda: version_of(server) == [2])
        (servable,) = server.state.repository.servables
        assert servable.export.runtime == runtime
        monkeypatch.setattr(repository, "_WAIT_FOR_FORMATS_SECONDS", 0.2)
        copy_version(run_copy, 3)
        server.wait_for(lambda: version_of(server) == [3])
        (servable,) = server.state.repository.servables
        assert servable.export.runtime == "saved_model"


def loaded(run_copy, **options):
    made = Repository(
        find_sources([str(run_copy)]),
        lambda source, export, runtime, plan: Batcher(
            runtime.predict_on_batch, max_batch=1, max_delay_seconds=0
        ),
        **options,
    )
    try:
        made.load()
        return [(x.version, x.export.runtime) for x in made.servables]
    finally:
        made.close()


def test_what_is_damaged_leaves_the_next_best(run_copy, caplog):
    (run_copy / "formats" / "openvino" / "model.bin").write_bytes(b"")
    assert loaded(run_copy) == [(1, "onnx")]
    words = r"\(openvino\) is not served, version 1 \(onnx\) is: .*damaged"
    assert re.search(words, caplog.text)
    (run_copy / "formats" / "onnx" / "model.onnx").write_bytes(b"nonsense")
    assert loaded(run_copy) == [(1, "saved_model")]
    (run_copy / "saved_model" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(DataError, match=r"No version of .* can be served"):
        loaded(run_copy)


def test_what_is_not_installed_is_not_taken(run_copy, monkeypatch):
    known = repository.Export.is_installed.fget
    absent = {"openvino"}
    monkeypatch.setattr(
        repository.Export,
        "is_installed",
        property(lambda self: self.runtime not in absent and known(self)),
    )
    assert loaded(run_copy) == [(1, "onnx")]
    absent |= {"onnx", "saved_model"}
    with pytest.raises(EnvironmentFault, match=r"har_keras\[export\]"):
        loaded(run_copy)


def test_an_export_that_names_no_version_is_not_served(run_copy):
    for runtime in ("onnx", "openvino"):
        (run_copy / "formats" / runtime / "VERSION").unlink()
    assert loaded(run_copy) == [(1, "saved_model")]
    with pytest.raises(DataError, match="no export for --runtime onnx"):
        loaded(run_copy, runtime="onnx")


def test_a_version_a_file_and_several_models_are_served(exported_run, tmp_path):
    from har_keras.inference.load import load

    onnx = exported_run / "formats" / "onnx" / "model.onnx"
    assert loaded(exported_run / "saved_model" / "1") == [(1, "saved_model")]
    with served(f"b={onnx}", f"a={exported_run}", runtime="onnx") as server:
        for name in "ab":
            path = f"/v1/models/{name}:predict"
            assert server.predict(BODY, path)[0] == 200
        assert server.predict(BODY)[0] == 404
        found = load(f"{server.server.url}/v1/models/a")
        assert found.class_names == load(onnx).class_names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["no-such-run"], "does not exist"),
        ([__file__], "can't be served"),
        (["{run}", "{run}"], "Two models have the name 'run'"),
        (["a b={run}"], "can't be the name of a model"),
        (["{empty}"], "neither a run nor an exported model"),
        (["{tiny}"], "not exported yet. Export it with: har-keras"),
    ],
)
def test_what_can_not_be_served_is_named(
    exported_run, tiny_run, tmp_path, names, words
):
    names = [
        x.format(run=exported_run, empty=tmp_path, tiny=tiny_run.path)
        for x in names
    ]
    with pytest.raises((UsageError, DataError), match=words):
        find_sources(names)


@pytest.mark.parametrize(
    "text", ["x", "a=b", "har/a=1,other/b=2", "=1", "a=\u0661"]
)
def test_labels_that_mean_nothing_are_refused(exported_run, text):
    with pytest.raises(UsageError, match="--labels must be"):
        read_labels(text, find_sources([str(exported_run)]))


@pytest.mark.parametrize("text", ["stable=99", "har/first=1,har/new=2", "x=0"])
def test_a_label_of_no_version_is_refused(exported_run, text):
    sources = find_sources([str(exported_run)])
    assert read_labels("stable=1", sources) == {"har": {"stable": 1}}
    with pytest.raises(UsageError, match="the latest of 'har' is 1") as e:
        read_labels(text, sources)
    assert e.value.exit_code == 2
    assert str(e.value).endswith(f"Received: {text.split(',')[-1]}.")


@pytest.mark.skipif(
    sys.platform != "linux", reason="other names are Linux's alone"
)
def test_a_run_whose_name_is_no_utf8_is_read(exported_run, tmp_path):
    from har_keras.serving.tensorflow_serving import write_warm_up

    run = tmp_path / os.fsdecode(b"\xff")
    shutil.copytree(exported_run, run)
    names = open_exported(exported_run / "formats/onnx/model.onnx").class_names
    version = run / "saved_model" / "1"
    write_warm_up(version, Run(exported_run).config().clip)
    for path in (
        run / "formats/onnx/model.onnx",
        run / "formats/openvino/model.xml",
        version,
    ):
        assert open_exported(path).class_names == names


# The program.


def test_without_its_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert verb.main(["no-run-is-opened"]) == 4
    assert 'pip install "har_keras[serve]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "70000"], "--port must be a port"),
        (["--max-batch", "0"], "--max-batch must be at least 1"),
        (["--max-seconds", "0"], "--max-seconds must be above 0"),
        (["--labels", "x"], "--labels must be"),
        (["--upload-dir", "/dev/null/x"], "can't be used"),
        (["--host", "192.0.2.1", "--allow-no-keys"], "can't listen on"),
    ],
)
def test_flags_out_of_range_are_usage_errors(
    exported_run, flags, words, capsys
):
    assert verb.main([str(exported_run), "--port", "0", *flags]) == 2
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(server, exported_run, capsys):
    port = server.host.rpartition(":")[2]
    assert verb.main([str(exported_run), "--port", port]) == 2
    assert f"port {port}: the port is taken" in capsys.readouterr().err


def test_tensorflow_is_not_imported_for_another_runtime(exported_run):
    code = (
        "import sys; from har_keras.serve.options import ServeOptions;"
        "from har_keras.serve.server import running\n"
        "with running(ServeOptions((sys.argv[1],), port=0)) as server:\n"
        "    heavy = {'tensorflow', 'keras', 'jax', 'torch'}\n"
        "    print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported_run)],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_a_saved_model_is_loaded_without_words_of_tensorflow(exported_run):
    code = (
        "import sys; from pathlib import Path;"
        "from har_keras.serving.runtimes import open_exported\n"
        "open_exported(Path(sys.argv[1]))"
    )
    bare = {k: v for k, v in os.environ.items() if "TF_CPP" not in k}
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported_run / "saved_model/1")],
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_a_run_with_a_saved_model_alone_is_told_how_to_start_faster(
    exported_run, tmp_path, caplog
):
    caplog.set_level("INFO", "har_keras")
    run = tmp_path / "run"
    shutil.copytree(exported_run, run, ignore=shutil.ignore_patterns("formats"))
    with running(ServeOptions((str(run),), port=0)):
        pass
    assert f"har-keras export {run} --formats onnx,openvino" in caplog.text


def test_metrics_say_what_happened(exported_run, video):
    with served(exported_run, runtime="onnx") as server:
        server.predict(BODY)
        server.predict(b"{")
        server.video(video.read_bytes())
        status, headers, text = server.get("/metrics")
        assert (status, headers["Content-Type"][:10]) == (200, "text/plain")
        text = text.decode()
        for line in (
            'route="/v1/models/{name}:predict",status="200"} 1.0',
            'route="/v1/models/{name}:predict",status="400"} 1.0',
            'har_refused_total{reason="invalid"} 1.0',
            'har_videos_total{outcome="classified"} 1.0',
            'loaded{model="har",runtime="onnx",version="1"} 1.0',
            "process_resident_memory_bytes",
        ):
            assert line in text
        clips = re.search(r"har_clips_total\{.*\} (\d+)", text)
        assert int(clips[1]) > 1


def test_addresses_of_clients_make_no_series(server):
    def series():
        text = server.get("/metrics")[2].decode()
        return [x.rpartition(" ")[0] for x in text.splitlines() if x[0] != "#"]

    server.get("/no/such/page")
    server.ask("METHOD", "/v1/models/x")
    series()  # is one of a route itself
    before = series()
    for number in range(3):
        server.get(f"/no/such/page/{number}")
        server.ask(f"METHOD{number}", f"/v1/models/{number}")
    assert {x for x in series() if "no/such" in x or "METHOD" in x} == set()
    assert series() == before


def test_the_page_describes_it_and_loads_nothing(server):
    status, headers, text = server.get("/docs")
    assert (status, headers["Content-Type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    text = text.decode()
    assert not re.search(r"<script|<link|src=", text)
    for words in (
        "/v1/models/{name}:predict", "/v1/videos", "serving_jpeg",
        f"{server.server.url}/v1/models/har", "probabilities",
    ):  # fmt: skip
        assert words in text
    _, _, schema = server.get("/openapi.json")
    assert schema["openapi"].startswith("3.1")
    assert len(schema["paths"]) >= 10
    assert "HTTPValidationError" not in json.dumps(schema)


def test_the_example_of_the_page_works(server):
    _, _, schema = server.get("/openapi.json")
    (kind,) = schema["paths"]["/v1/models/{name}:predict"]["post"][
        "requestBody"
    ]["content"].values()
    status, _, found = server.predict(kind["example"])
    assert status == 200
    answer = schema["paths"]["/v1/models/{name}:predict"]["post"]["responses"][
        "200"
    ]["content"]["application/json"]["example"]
    assert found.keys() == answer.keys()
    assert found["predictions"][0].keys() == answer["predictions"][0].keys()


def test_refusals_name_what_they_need():
    refusal = Refusal(429, "Later.", retry_seconds=3)
    assert refusal.headers() == {"Retry-After": "3"}
    assert "Bearer" in Refusal(401, "Who?").headers()["WWW-Authenticate"]


def test_png_frames_are_taken(server, model):
    clips = smooth_clips(2)
    sent = as_json(np.array([pngs(x) for x in clips], dtype=object))
    _, _, found = server.predict(jpeg_body(sent))
    np.testing.assert_allclose(
        found["outputs"]["probabilities"],
        model.predict_on_batch(clips),
        atol=1e-5,
    )


# The container.

DOCKER = Path(__file__).parents[1] / "docker"


def test_the_image_is_pinned_and_another_users_than_roots():
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    bases = [x.split()[1] for x in lines if x.startswith("FROM ")]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", bases[0])
    last = "\n".join(lines[lines.index(f"FROM {bases[0]}") :])
    assert re.search(r"^USER [1-9]\d*:", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    (entry,) = [x for x in lines if x.startswith("ENTRYPOINT ")]
    program, dash, module, *flags = json.loads(entry.split(" ", 1)[1])
    assert (program, dash, module) == ("python", "-m", "har_keras.serve")
    cli.parse(ServeOptions, ["har=/models/har", *flags], verb="serve")


def plain(need):
    return canonicalize_name(Requirement(need).name)


def test_the_image_has_what_the_server_needs_in_versions_that_work():
    text = (DOCKER / "requirements.txt").read_text()
    lines = [x for x in text.splitlines() if not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines)
    pinned = {plain(x): x.split("==")[1] for x in lines}
    project = tomllib.loads((DOCKER.parent / "pyproject.toml").read_text())
    extra = project["project"]["optional-dependencies"]["serve"]
    for need in map(Requirement, extra):
        assert need.specifier.contains(pinned[plain(need.name)])
    assert "tensorflow" not in pinned


def test_the_container_is_confined():
    yaml = pytest.importorskip("yaml", reason="needs pip install pyyaml")
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    (service,) = compose["services"].values()
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(x.startswith("127.0.0.1:") for x in service["ports"])
    assert all(x.endswith(":ro") for x in service["volumes"])
    assert {"mem_limit", "pids_limit", "cpus"} <= set(service)
    options = cli.parse(ServeOptions, service["command"], verb="serve")
    assert options.api_key_file
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert grace > options.grace_seconds
