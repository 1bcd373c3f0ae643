import http.server
import json
import threading
import time

import numpy as np
import pytest
from support.videos import X264, ffmpeg, moving_square, write_video

from har_keras.config import ClipConfig, Config
from har_keras.errors import DataError
from har_keras.inference.classifier import Classifier
from har_keras.inference.live import watch
from har_keras.inference.timeline import TimelineConfig
from har_keras.predict import predict
from har_keras.report.predictions import PredictRequest
from har_keras.report.printing import JsonLines, Table
from har_keras.run import Run
from har_keras.video.live import LiveReader, live_command
from har_keras.video.sources import Source

CLIP = ClipConfig(num_frames=4, crop_size=56)  # short side 64


class Streams(http.server.ThreadingHTTPServer):
    """Sends the next of its contents to each who asks, then hangs up."""

    daemon_threads = True

    def __init__(self, *contents, hold=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents = list(contents)
        self.hold = hold
        self.num_asked = 0
        self.done = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def source(self):
        address = f"http://127.0.0.1:{self.server_port}/live"
        return Source(address, "live", address)

    def __exit__(self, *exception):
        self.done.set()
        self.shutdown()
        super().__exit__(*exception)


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def do_GET(self):
        server = self.server
        server.num_asked += 1
        if not server.contents:
            self.send_error(503)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(server.contents.pop(0))
        if server.hold:
            server.done.wait(20)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Four seconds of MPEG-TS, as a camera sends it."""
    folder = tmp_path_factory.mktemp("stream")
    video = write_video(
        folder / "a.mp4", moving_square(100, height=64, width=96), fps=25
    )
    ffmpeg("-i", video, "-c", "copy", folder / "a.ts")
    return (folder / "a.ts").read_bytes()


def read(server, **options):
    return LiveReader(
        server.source, num_frames=4, fps=8.0, short_side=64, **options
    )


def wait_until(holds, seconds=15.0):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    assert holds()


def test_it_keeps_the_newest_frames(stream):
    with Streams(stream, hold=True) as server, read(server) as reader:
        wait_until(lambda: reader.num_frames >= 12)
        number, frames, arrived = reader.newest(after=0, timeout_seconds=5)
        assert frames.shape == (4, 64, 96, 3)
        assert number >= 12
        assert 0 <= time.monotonic() - arrived < 15
        assert reader.newest(after=10**6, timeout_seconds=0.05) is None


def test_it_comes_back_after_a_break(stream, caplog):
    caplog.set_level("INFO", "har_keras")
    with Streams(stream, stream) as server, read(server) as reader:
        wait_until(lambda: reader.num_connections == 2)
    assert "was lost" in caplog.text
    assert "Reconnected to" in caplog.text


def test_a_source_that_sends_nothing_is_opened_again():
    with (
        Streams(b"", b"", hold=True) as server,
        read(server, stalled_seconds=0.5) as reader,
    ):
        wait_until(lambda: server.num_asked >= 2)
        assert reader.num_frames == 0


def test_a_list_of_other_files_is_not_followed(tmp_path, stream):
    (tmp_path / "secret.ts").write_bytes(stream)
    playlist = f"#EXTM3U\n#EXTINF:2,\nfile://{tmp_path}/secret.ts\n".encode()
    with Streams(playlist) as server, read(server) as reader:
        wait_until(lambda: server.num_asked >= 2)
        assert reader.num_frames == 0


def test_a_file_at_an_address_is_not_taken_for_live(tmp_path):
    video = write_video(
        tmp_path / "a.mp4",
        moving_square(50, height=64, width=96),
        fps=25,
        options=(*X264, "-movflags", "+faststart"),
    )
    classifier = Classifier(
        MeanModel(), ("bright", "dark"), Config(clip=CLIP), form="raw"
    )
    with Streams(video.read_bytes()) as server:
        answers = watch(classifier, server.source, TimelineConfig())
        with pytest.raises(DataError, match="file of 2 s and not live"):
            list(answers)


def test_a_source_that_never_sent_a_frame_is_a_fault():
    classifier = Classifier(
        MeanModel(), ("bright", "dark"), Config(clip=CLIP), form="raw"
    )
    source = Source("http://127.0.0.1:1/a", "live", "http://127.0.0.1:1/a")
    answers = watch(classifier, source, TimelineConfig(), max_seconds=1.0)
    with pytest.raises(DataError, match=r"sent no frames in 1 s: .+refused"):
        list(answers)


def test_leaving_ends_ffmpeg(stream):
    with Streams(stream, hold=True) as server:
        reader = read(server)
        wait_until(lambda: reader.num_frames > 0)
        began = time.monotonic()
        reader.close()
        assert time.monotonic() - began < 3
        assert not reader._reader.running


def test_commands_open_no_files():
    for address in ("http://a/b", "rtsp://a/b", "camera:0"):
        command = live_command(address)
        assert "file" not in ",".join(command).split(",")
    assert "tcp" in live_command("rtsp://a/b")
    assert "-protocol_whitelist" in live_command("http://a/b")


class MeanModel:
    """Answers "bright" or "dark"."""

    def predict_on_batch(self, clips):
        share = clips.mean((1, 2, 3, 4)) / 255
        return np.stack([share, 1 - share], 1).astype("float32")


def test_answers_about_a_stream_say_how_late_they_are(stream, capsys):
    classifier = Classifier(
        MeanModel(), ("bright", "dark"), Config(clip=CLIP), form="raw"
    )
    with Streams(stream, hold=True) as server:
        answers = list(
            watch(
                classifier,
                server.source,
                TimelineConfig(hop_seconds=0.125),
                max_seconds=3.0,
            )
        )
        name = server.source.name
    assert answers
    for found in answers:
        assert found.label == "dark"
        assert 0 <= found.delay_seconds < 3
        assert sum(found.probabilities.values()) == pytest.approx(1)
    JsonLines(("bright", "dark"))(answers[0])
    Table(("bright", "dark"))(answers[0])
    said, row = capsys.readouterr().out.splitlines()
    assert json.loads(said)["delay_seconds"] == answers[0].delay_seconds
    assert name in row
    assert "s behind" in row


def test_who_watches_is_told_when_the_first_answer_comes(tiny_run, caplog):
    caplog.set_level("INFO", "har_keras")
    where = "http://127.0.0.1:9/live"
    predict(PredictRequest(str(tiny_run.path)), [where], allow_network=True)
    span = Run(tiny_run.path).config().clip.span_seconds
    told = (
        f"Watching '{where}': the first answer comes when a clip of {span:g} s"
    )
    assert told in caplog.text
