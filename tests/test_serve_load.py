"""The server under load, with signals, nonsense, and new versions meanwhile.

Needs the extras: pip install "har_keras[serve,export,fuzz]".
"""

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.server import copy_version, form, republish, wait_for
from support.tiny_serving import jpegs, smooth_clips
from support.videos import draw_video

from har_keras.benchmark.server import measure_load, prediction_check
from har_keras.errors import HarError
from har_keras.serving.client import ServingClient
from har_keras.serving.runtimes import open_exported
from har_keras.serving.transports import as_json

for package in ("fastapi", "uvicorn", "orjson", "onnxruntime", "openvino"):
    pytest.importorskip(
        package, reason='needs pip install "har_keras[serve,export]"'
    )


pytestmark = pytest.mark.slow


class Program:
    """`har-keras serve` as people start it."""

    def __init__(self, run, *flags, uploads=None):
        flags = [*flags, *(("--upload-dir", uploads) if uploads else ())]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "har_keras.serve", str(run)),
                *("--port", "0", "--poll-seconds", "0.1", *map(str, flags)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url, line = "", self.process.stdout.readline()
        while line and not line.startswith("Ready."):
            found = re.match(r"(http://\S+)/v1/models/har ", line)
            self.url = found[1] if found else self.url
            line = self.process.stdout.readline()
        if not line:
            pytest.fail(self.process.communicate()[1])
        self.address = f"{self.url}/v1/models/har"
        self.host = self.url.removeprefix("http://")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def rss(self):
        return psutil.Process(self.process.pid).memory_info().rss

    def stop(self, number=signal.SIGTERM):
        """Returns the exit code after a signal, and what was on stderr."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=40)
        return self.process.returncode, err

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def test_ten_thousand_requests_are_answered_each_with_its_own(exported_run):
    clips = smooth_clips(64)
    with (
        Program(exported_run) as program,
        ServingClient(program.address) as client,
    ):
        check = prediction_check(client, clips)
        first = measure_load(
            client, clips, num_requests=1000, num_clients=8, check=check
        )
        before = program.rss()
        found = measure_load(
            client, clips, num_requests=9000, num_clients=32, check=check
        )
        after = program.rss()
    assert (first.num_requests, first.num_failed) == (1000, 0)
    assert (found.num_requests, found.num_failed) == (9000, 0)
    assert after - before < 32 * 2**20, f"{before} to {after} bytes"


def test_versions_are_swapped_under_load(run_copy):
    clips = smooth_clips(8)
    model = open_exported(run_copy / "formats" / "onnx" / "model.onnx")
    expected = model.predict_on_batch(clips)
    failed, numbers, end = [], set(), threading.Event()
    with Program(run_copy, "--runtime", "onnx") as program:

        def ask(seed):
            rng = random.Random(seed)
            with ServingClient(
                program.address, frames="raw", attempts=1
            ) as client:
                while not end.is_set():
                    index = rng.randrange(len(clips))
                    try:
                        found = client.predict(clips[index : index + 1])
                    except HarError as error:
                        failed.append(str(error))
                        return
                    difference = found.probabilities[0] - expected[index]
                    if np.abs(difference).max() > 1e-4:
                        failed.append("mixed up")

        threads = [
            threading.Thread(target=ask, args=[seed]) for seed in range(8)
        ]
        for thread in threads:
            thread.start()
        for number in range(2, 8):
            copy_version(run_copy, number)
            republish(run_copy, "onnx", number)

            def newest(number=number):
                _, text = program.ask("GET", "/v1/models/har")
                states = json.loads(text)["model_version_status"]
                numbers.update(x["version"] for x in states)
                return states[0]["version"] == str(number)

            wait_for(newest)
        end.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert {"6", "7"} <= numbers


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_loses_no_request(exported_run, number, code):
    """Every request has an answer, or one that says to come again."""
    clips = smooth_clips(4)
    sent = as_json(np.array([jpegs(x) for x in clips], dtype=object))
    body = json.dumps({"signature_name": "serving_jpeg", "instances": sent})
    statuses, lost, end = [], [], threading.Event()
    with Program(exported_run) as program:

        def ask():
            while not end.is_set():
                try:
                    connection = http.client.HTTPConnection(program.host)
                    connection.connect()
                except OSError:  # nobody listens any more
                    connection.close()
                    return
                try:
                    connection.request("POST", PREDICT, body)
                    response = connection.getresponse()
                    found = json.loads(response.read())
                except (OSError, ValueError, http.client.HTTPException) as e:
                    lost.append(repr(e))
                    return
                finally:
                    connection.close()
                statuses.append(response.status)
                assert response.status == 503 or len(found["predictions"]) == 4

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(statuses) > 40)
        found, err = program.stop(number)
        end.set()
        for thread in threads:
            thread.join()
    assert found == code, err
    assert "Traceback" not in err
    assert set(statuses) == {200, 503}
    # After the last answer the port is closed; who connects at that moment is
    # reset by the system, one per client at most.
    assert len(lost) <= len(threads)
    assert statuses.index(503) > 40


PREDICT = "/v1/models/har:predict"


def test_a_killed_server_leaves_nothing_to_the_next(exported_run, tmp_path):
    video = draw_video(tmp_path / "a.mp4", seed=3, num_frames=400)
    kind, body = form(video.read_bytes())
    uploads = tmp_path / "uploads"
    with Program(exported_run, uploads=uploads) as program:
        connection = http.client.HTTPConnection(program.host)
        connection.putrequest("POST", "/v1/videos")
        connection.putheader("Content-Type", kind)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:-100])  # the end is still to come
        wait_for(lambda: len(list(uploads.glob("*/*"))) == 2)
        os.kill(program.process.pid, signal.SIGKILL)
        program.process.wait()
        connection.close()
    assert len(list(uploads.glob("*/*"))) == 2
    with Program(exported_run, uploads=uploads) as program:
        assert len(list(uploads.glob("*/*"))) == 1
        headers = {"Content-Type": kind}
        assert program.ask("POST", "/v1/videos", body, headers)[0] == 200
        assert program.stop()[0] == 143
    assert list(uploads.iterdir()) == []


def damaged(rng, body):
    """Returns a request with a few bytes changed, cut out or doubled."""
    data = bytearray(body)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(data))
        size = rng.choice([1, 1, 2, 16, 500])
        part = data[place : place + size]
        kind = rng.randrange(4)
        if kind == 0:
            data[place : place + size] = rng.randbytes(size)
        elif kind == 1:
            del data[place : place + size]
        elif kind == 2:
            data[place:place] = part
        else:
            data[place : place + size] = rng.choice(
                [b"[", b"]", b"{", b"}", b'"', b"null", b"1e999", b"-1", b"\\u"]
            )
    return bytes(data)


def test_five_hundred_malformed_requests_do_no_harm(exported_run, tmp_path):
    rng, clip = random.Random(0), smooth_clips(1)
    images = as_json(np.array([jpegs(clip[0])], dtype=object))
    good = [
        json.dumps({"signature_name": "serving_jpeg", "inputs": images}),
        json.dumps({"instances": clip.tolist()}),
    ]
    video = form(draw_video(tmp_path / "a.mp4").read_bytes())
    answers = []
    with Program(exported_run) as program:
        for number in range(500):
            if number % 5 == 4:
                path, body = "/v1/videos", damaged(rng, video[1])
                headers = {"Content-Type": video[0]}
            else:
                body = damaged(rng, rng.choice(good).encode())
                path, headers = PREDICT, {}
            status, text = program.ask("POST", path, body, headers)
            answers.append(status)
            assert status in (200, 400, 413, 415, 422), text
            found = json.loads(text)
            assert status == 200 or set(found) == {"error"}
        assert program.ask("POST", PREDICT, good[0])[0] == 200
        code, err = program.stop()
    assert code == 143
    assert "Traceback" not in err
    assert answers.count(400) > 100


@pytest.mark.parametrize(
    "request_line",
    [b"GET", b"\0" * 99, b"A" * 200_000],
    ids=["short", "binary", "long"],
)
def test_what_is_no_http_is_no_harm(exported_run, request_line):
    import socket

    with Program(exported_run) as program:
        host, _, port = program.host.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(request_line + b"\r\n\r\n")
            plain.recv(100)
        assert program.ask("GET", "/healthz")[0] == 200
        assert program.stop()[0] == 143


_CONFIG = """
[parameters]
name = "har"
model = "har"
version = 1
label = "stable"

[generation]
max-examples = 30
# The same requests each time.
deterministic = true

# A schema can say what base64 is, and not what a JPEG or a video is: what is
# no picture has status 400, and what is no video 422.
[[operations]]
include-path-regex = ":predict$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404"]

[[operations]]
include-path = "/v1/videos"
checks.positive_data_acceptance.expected-statuses = ["2xx", "404", "422"]
"""


def test_the_server_is_as_its_description_says(exported_run, tmp_path):
    pytest.importorskip("schemathesis", reason="needs pip install schemathesis")
    (tmp_path / "schemathesis.toml").write_text(_CONFIG)
    with Program(exported_run, "--labels", "stable=1") as program:
        done = subprocess.run(
            [
                *(Path(sys.executable).with_name("schemathesis"), "run"),
                *(f"{program.url}/openapi.json", "--checks", "all"),
                *("--no-color", "--workers", "1"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        code, err = program.stop()
    assert code == 143
    assert "Traceback" not in err
