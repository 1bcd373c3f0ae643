"""The client over REST, against servers that answer as they are told."""

import contextlib
import http.server
import json
import socket
import threading
import time

import pytest
from support.tiny_serving import smooth_clips

from har_keras.errors import DataError, EnvironmentFault, UsageError


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers with what it is told, one after the other."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        status, content = self.server.script.pop(0)
        self.server.seen += 1
        if status is None:
            self.connection.close()
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def scripted():
    server = http.server.HTTPServer(("127.0.0.1", 0), Scripted)
    server.seen = 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1/models/har"
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


GOOD = json.dumps(
    {"outputs": {"probabilities": [[1.0]], "class_names": [["gym"]]}}
).encode()


def test_what_passes_is_tried_again(scripted, client_of):
    scripted.script = [(503, b"{}"), (429, b"no json"), (200, GOOD)]
    found = client_of(scripted.url).predict(smooth_clips(1))
    assert found.class_names == ("gym",)
    assert scripted.seen == 3


@pytest.mark.parametrize(
    ("status", "error", "sentence"),
    [
        (400, DataError, "rejected the clips: bad"),
        (404, UsageError, "doesn't serve"),
        (413, DataError, "exceeds the size limit"),
        (500, EnvironmentFault, "failed"),
        (504, EnvironmentFault, "timed out"),
    ],
)
def test_what_does_not_pass_is_not_tried_again(
    scripted, status, error, sentence, client_of
):
    scripted.script = [(status, b'{"error": "bad"}'), (200, GOOD)]
    with pytest.raises(error, match=sentence):
        client_of(scripted.url).predict(smooth_clips(1))
    assert scripted.seen == 1


def good(**outputs):
    """The response to one clip, with some outputs in place of the right."""
    right = {
        "probabilities": [[0.2, 0.3, 0.5]],
        "class_names": [["gym", "walk", "work"]],
    }
    return json.dumps({"outputs": right | outputs}).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "it has no outputs"),
        (b"5", "it has no outputs"),
        (b"null", "it has no outputs"),
        (b'{"outputs": {}}', "it has no output '"),
        (good(probabilities=[[0.1], [0.2, 0.3]]), "its tensors are none"),
        (good(probabilities={"a": 1}), "its tensors are none"),
        (good(probabilities=[[10**400, 0, 0]]), "its tensors are none"),
        (good(probabilities=[["a", "b", "c"]]), "are not numbers"),
        (good(probabilities=0.5), "have the shape"),
        (good(probabilities=[[0.5, 0.5]]), "have the shape"),
        (good(probabilities=[[0.2, 0.3, 0.5]] * 3), "have the shape"),
        (good(probabilities=[[float("nan")] * 3]), "not finite"),
        (good(probabilities=[[float("inf"), 0, 0]]), "not finite"),
        (good(probabilities=[[-5, 3, 3]]), "negative"),
        (good(probabilities=[[0.1, 0.1, 0.1]]), "do not sum to 1"),
        (good(class_names=[[1, 2, 3]]), "not a row of texts"),
        (good(class_names=[["a", 2, True]]), "not a row of texts"),
        (good(class_names=[[["a"], ["b"], ["c"]]]), "not a row of texts"),
        (good(class_names=["a", "b", "c"]), "not a row of texts"),
        (good(class_names=[["gym", "gym", "gym"]]), "are the same"),
        (good(class_names=[["x" * 1001, "b", "c"]]), "more than 1000"),
        (good(accepted=[0.5]), "'accepted' is not a truth value"),
        (good(accepted=[True, False]), "'accepted' is not a truth value"),
        (good(accepted=True), "'accepted' is not a truth value"),
    ],
)
def test_a_response_that_is_no_prediction_is_refused(
    content, reason, scripted, client_of
):
    scripted.script = [(200, content)]
    with pytest.raises(DataError, match=reason):
        client_of(scripted.url).predict(smooth_clips(1))


@pytest.mark.parametrize("key", ["of two\r\nlines", "☃"])
def test_a_key_that_can_not_be_sent_is_refused_and_not_shown(
    key, scripted, client_of, monkeypatch
):
    monkeypatch.setenv("HAR_KERAS_API_KEY", key)
    with pytest.raises(UsageError, match="in one line") as refused:
        client_of(scripted.url).predict(smooth_clips(1))
    assert key not in str(refused.value)


def test_a_chunk_of_a_negative_length_is_one_sentence(client_of):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"

    def serve(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(2**16)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/har"
        with pytest.raises(EnvironmentFault, match="did not respond"):
            client_of(url, attempts=1).predict(smooth_clips(1))
        thread.join()


def test_a_model_of_before_thresholds_accepts_everything(scripted, client_of):
    scripted.script = [(200, good()), (200, good(accepted=[False]))]
    client = client_of(scripted.url)
    assert client.predict(smooth_clips(1)).accepted.tolist() == [True]
    assert client.predict(smooth_clips(1)).accepted.tolist() == [False]


def test_nested_json_is_one_sentence(scripted, client_of):
    scripted.script = [(200, b"[" * 1_000_000)]
    with pytest.raises(EnvironmentFault, match="failed"):
        client_of(scripted.url).predict(smooth_clips(1))


@pytest.mark.parametrize(
    "header",
    [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"],
)
def test_a_byte_now_and_then_does_not_hold_the_time_limit_up(header, client_of):
    ended = threading.Event()

    def trickle(listening):
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(header)
            while not ended.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/har"
        client = client_of(url, timeout_seconds=1.0)
        began = time.monotonic()
        with pytest.raises(EnvironmentFault, match="timed out"):
            client.predict(smooth_clips(1))
        assert time.monotonic() - began < 10
        ended.set()
        thread.join()
