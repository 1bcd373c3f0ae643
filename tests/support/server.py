"""A server of `har_keras.serve` in this process, and requests to it."""

import contextlib
import http.client
import json
import shutil
import threading
import time

from har_keras.serving.checksums import write_checksums


class Served:
    """A server that runs in a thread, and a plain client of it."""

    def __init__(self, server):
        self.server = server
        self.state = server.state
        self.host = server.url.removeprefix("http://")

    def url(self, rest=""):
        return f"{self.server.url}/v1/models/har{rest}"

    def ask(self, method, path, body=None, headers=None):
        """Returns status, headers and JSON of a response."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        kind = response.headers["Content-Type"]
        found = json.loads(text) if kind == "application/json" else text
        return response.status, response.headers, found

    def get(self, path, **headers):
        return self.ask("GET", path, headers=headers)

    def predict(self, body, path="/v1/models/har:predict", **headers):
        return self.ask("POST", path, body, headers)

    def video(self, data, query="", field="video", name="a.mp4"):
        kind, body = form(data, field, name)
        headers = {"Content-Type": kind}
        return self.ask("POST", f"/v1/videos{query}", body, headers)

    def wait_for(self, holds, seconds=30):
        wait_for(holds, seconds)


def wait_for(holds, seconds=30):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def form(data, field="video", name="a.mp4"):
    """Returns type and body of a form with one file."""
    boundary = "the-boundary-of-a-test"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; '
        f'filename="{name}"\r\nContent-Type: video/mp4\r\n\r\n'
    )
    body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
    return f"multipart/form-data; boundary={boundary}", body


@contextlib.contextmanager
def served(*runs, **options):
    """Serves models on a free port while the context is open."""
    # They need the extra, without which the tests are skipped.
    from har_keras.serve.options import ServeOptions
    from har_keras.serve.server import running

    given = ServeOptions(tuple(map(str, runs)), port=0, poll_seconds=0.05)
    with running(given.replace(**options)) as server:
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [server.server_socket]}
        )
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield Served(server)
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()


def copy_version(run, number):
    """Publishes a copy of version 1, as an export does: by renaming."""
    base = run / "saved_model"
    shutil.copytree(base / "1", base / ".new")
    (base / ".new").rename(base / str(number))


def republish(run, runtime, version):
    """Publishes an export of another format as that of a version."""
    folder = run / "formats" / runtime
    shutil.copytree(folder, folder.with_name("new"))
    (folder.with_name("new") / "VERSION").write_text(f"{version}\n")
    write_checksums(folder.with_name("new"))
    shutil.rmtree(folder)
    folder.with_name("new").rename(folder)
