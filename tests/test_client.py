"""The client against a stand-in server that speaks the published messages."""

import csv
import dataclasses
import http.client
import http.server
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from support.tiny_serving import (
    INFO,
    NAMES,
    huge_gif,
    huge_png,
    jpegs,
    pngs,
    random_clips,
    smooth_clips,
    tiny_model,
)
from support.videos import draw_folder

from har_keras.benchmark.__main__ import main as benchmark
from har_keras.benchmark.server import measure_load
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.serving import messages
from har_keras.serving.address import Address
from har_keras.serving.signatures import export_saved_model
from har_keras.serving.transports import as_json

pytest.importorskip(
    "tensorflow_serving",
    reason="needs `pip install --no-deps tensorflow-serving-api`",
)
grpc = pytest.importorskip("grpc", reason="needs `pip install grpcio`")
from support.stand_in_server import StandIn  # noqa: E402

# Some clips are above it, some below.
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("run") / "saved_model"
    info = dataclasses.replace(INFO, threshold=THRESHOLD, accept_errors=0.05)
    export_saved_model(model, NAMES, info, base)
    return base


@pytest.fixture(scope="module")
def server(base):
    server = StandIn(base, labels={"stable": 1})
    yield server
    server.close()


def answers_of(model, clips):
    return keras.ops.convert_to_numpy(model(clips, training=False))


@pytest.mark.parametrize("way", ["rest", "grpc"])
@pytest.mark.parametrize(
    ("frames", "tolerance"), [("raw", 1e-5), ("png", 1e-5), ("jpeg", 0.02)]
)
def test_answers_are_the_models(
    model, server, way, frames, tolerance, client_of
):
    clips = smooth_clips(4)
    client = client_of(getattr(server, way), frames=frames)
    found = client.predict(clips)
    expected = answers_of(model, clips)
    np.testing.assert_allclose(found.probabilities, expected, atol=tolerance)
    assert (found.probabilities.argmax(1) == expected.argmax(1)).all()
    assert found.class_names == NAMES


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_what_is_accepted_is_told(model, server, way, client_of):
    clips = random_clips(12, 4, 32, 32, 3)
    client = client_of(getattr(server, way), frames="raw")
    found = client.predict(clips).accepted
    expected = answers_of(model, clips).max(1) >= THRESHOLD
    assert found.dtype == bool
    assert found.tolist() == expected.tolist()
    assert 0 < expected.sum() < len(clips)


@pytest.mark.parametrize("way", ["rest", "grpc"])
@pytest.mark.parametrize("which", ["/versions/1", "/labels/stable"])
def test_versions_and_labels_are_asked_for(
    model, server, way, which, client_of
):
    clips = smooth_clips(1)
    found = client_of(getattr(server, way) + which).predict(clips)
    np.testing.assert_allclose(
        found.probabilities, answers_of(model, clips), atol=0.02
    )


@pytest.mark.parametrize("way", ["rest", "grpc"])
@pytest.mark.parametrize(
    ("which", "named"),
    [("/versions/9", "version 9 of 'har'"), ("/labels/new", "'new' of 'har'")],
)
def test_a_version_that_is_not_there_is_named(
    server, way, which, named, client_of
):
    client = client_of(getattr(server, way) + which)
    with pytest.raises(UsageError, match=f"doesn't serve {named}"):
        client.predict(smooth_clips(1))


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_what_the_graph_refuses_is_passed_on_in_its_words(
    server, way, client_of
):
    client = client_of(getattr(server, way), frames="raw")
    with pytest.raises(DataError, match=r"rejected the clips: A clip may have"):
        client.predict(np.zeros((1, 1025, 1, 1, 3), "uint8"))


@pytest.mark.parametrize(("way", "side"), [("rest", 192), ("grpc", 300)])
def test_a_request_that_is_too_large_says_what_to_do(
    server, way, side, client_of
):
    client = client_of(getattr(server, way), frames="raw")
    with pytest.raises(
        DataError, match="Send fewer clips per request, or JPEG"
    ):
        client.predict(np.full((1, 16, side, side, 3), 200, "uint8"))


@pytest.mark.parametrize(
    "clips",
    [
        np.zeros((4, 32, 32, 3), "uint8"),
        np.zeros((1, 4, 32, 32, 3), "float32"),
        np.zeros((1, 4, 32, 32, 1), "uint8"),
    ],
)
def test_what_are_no_clips_is_not_sent(server, clips, client_of):
    with pytest.raises(UsageError, match="shape \\(B, T, H, W, 3\\)"):
        client_of(server.rest).predict(clips)


@pytest.mark.parametrize(
    "url",
    [
        "har",
        "http://host:8501/har",
        "ftp://host/har",
        "grpc://host:8500/",
        "",
        "http://host:port/v1/models/har",
        "http://host:99999/v1/models/har",
        "http://[::1/v1/models/har",
        f"http://{'a' * 64}/v1/models/har",
        "http://a\nb/v1/models/har",
        "http://host:1\r\nX: y/v1/models/har",
        "grpc://a b/har",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UsageError, match="is not the address of a model"):
        Address.read(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/v1/models/har", "grpc://127.0.0.1:9/har"]
)
def test_nobody_there_is_one_sentence(url, client_of):
    client = client_of(url, attempts=2)
    with pytest.raises(EnvironmentFault, match="did not respond in 2 attempts"):
        client.predict(smooth_clips(1))


@pytest.mark.parametrize(("frames", "part"), [("jpeg", 0.25), ("png", 0.8)])
def test_pictures_are_smaller_than_raw_frames(client_of, frames, part):
    client = client_of("http://host:8501/v1/models/har", frames=frames)
    clips = smooth_clips(1, num_frames=16, height=112, width=112)
    _, inputs = client.request(clips)
    size = sum(len(picture) for picture in inputs["frames_bytes"].ravel())
    assert size < clips.nbytes * part


def rest_post(server, body, path="/v1/models/har:predict"):
    connection = http.client.HTTPConnection(server.host, timeout=30)
    connection.request("POST", path, body)
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def test_rows_and_columns_say_the_same(model, server):
    clips = smooth_clips(3)
    frames = as_json(np.array([jpegs(clip) for clip in clips], dtype=object))
    rows = [{"frames_bytes": clip} for clip in frames]
    signature = {"signature_name": "serving_jpeg"}
    _, by_row = rest_post(server, json.dumps(signature | {"instances": rows}))
    _, by_column = rest_post(server, json.dumps(signature | {"inputs": frames}))
    assert [row["probabilities"] for row in by_row["predictions"]] == (
        by_column["outputs"]["probabilities"]
    )
    assert by_row["predictions"][0]["class_names"] == list(NAMES)


def noise_png():
    return pngs(random_clips(1, 32, 32, 3))[0]


def malformed_requests():
    """Bodies that are wrong in some way, one after the other, for ever."""
    good = as_json(np.array([jpegs(smooth_clips(1)[0])], dtype=object))
    picture = good[0][0]
    cut = {"b64": picture["b64"][: len(picture["b64"]) // 8 * 4]}
    cut_png, wide_png = as_json(np.array([noise_png()[:40], huge_png()], "O"))
    huge = as_json(np.array([huge_gif(65535, 65535)], dtype=object))
    empty = as_json(np.array([huge_gif(0, 0)], dtype=object))
    jpeg = {"signature_name": "serving_jpeg"}
    whole = [
        {"inputs": [[[0]]]},
        {"inputs": [[[[[0.5, 0.5, 0.5]]]]]},
        {"inputs": [[[[[256, 0, 0]]]]]},
        {"inputs": [[[[[0, 0]]]]]},
        {"inputs": [[[[["a", "b", "c"]]]]]},
        {"inputs": [[[[]]]]},
        {"inputs": [[[[[0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]]]},
        {"inputs": None},
        {"inputs": [], "instances": []},
        {},
        [],
        {"instances": [{"clips": [[[[0, 0, 0]]]]}, {}]},
        jpeg | {"inputs": [[]]},
        jpeg | {"inputs": [[cut] * 4]},
        jpeg | {"inputs": [[{"b64": "%%%"}]]},
        jpeg | {"inputs": [[{"b65": "aaaa"}]]},
        jpeg | {"inputs": [[{"b64": ""}]]},
        jpeg | {"inputs": [[cut_png] * 4]},
        jpeg | {"inputs": [[wide_png] * 4]},
        jpeg | {"inputs": [["plain text"]]},
        jpeg | {"inputs": good[0]},
        jpeg | {"inputs": {"gif_bytes": huge}},
        jpeg | {"inputs": [[{"b64": "/9j/"}] * 20000]},
        {"signature_name": "serving_gif", "inputs": huge},
        {"signature_name": "serving_gif", "inputs": empty},
        {"signature_name": "serving_gif", "inputs": [picture]},
        {"signature_name": "serving_mp4", "inputs": good},
        {"signature_name": "serving_default", "inputs": good},
    ]
    texts = [json.dumps(body).encode() for body in whole]
    texts += [b"", b"{", b"\xff\xfe", b"null", texts[13][:-40]]
    while True:
        yield from texts


def test_two_hundred_malformed_requests_and_then_a_good_one(
    model, server, client_of
):
    clips = smooth_clips(1)
    client = client_of(server.rest)
    expected = client.predict(clips).probabilities
    before = peak_mebibytes()
    for number, body in zip(range(200), malformed_requests(), strict=False):
        status, answer = rest_post(server, body)
        assert status == 400, (number, body[:100], answer)
        assert answer["error"]
        if number % 20 == 0:
            found = client.predict(clips).probabilities
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(client.predict(clips).probabilities, expected)
    assert peak_mebibytes() - before < 200


def malformed_messages():
    """gRPC requests that are wrong in some way, one after the other."""
    picture = jpegs(smooth_clips(1)[0])[0]

    def texts(*rows):
        return np.array(rows, dtype=object)

    jpeg, gif = "serving_jpeg", "serving_gif"
    whole = [
        ("serving_default", {"clips": random_clips(4, 32, 32, 3)}),
        ("serving_default", {"clips": random_clips(1, 4, 32, 32, 1)}),
        ("serving_default", {"clips": random_clips(1, 0, 32, 32, 3)}),
        ("serving_default", {"clips": random_clips(1, 4, 0, 0, 3)}),
        ("serving_default", {"clips": random_clips(1, 20000, 1, 1, 3)}),
        ("serving_default", {"clips": texts([picture])}),
        ("serving_default", {"frames": random_clips(1, 4, 32, 32, 3)}),
        ("serving_default", {}),
        (jpeg, {"frames_bytes": texts(picture)}),
        (jpeg, {"frames_bytes": texts([])}),
        (jpeg, {"frames_bytes": texts([picture[: len(picture) // 2]] * 4)}),
        (jpeg, {"frames_bytes": texts([b""])}),
        (jpeg, {"frames_bytes": texts([noise_png()[:10]] * 4)}),
        (jpeg, {"frames_bytes": texts([noise_png()[:-40]] * 4)}),
        (jpeg, {"frames_bytes": texts([huge_png()] * 4)}),
        (jpeg, {"frames_bytes": texts([b"\xff\xd8\xff"] * 20000)}),
        (jpeg, {"frames_bytes": random_clips(1, 4)}),
        (gif, {"gif_bytes": texts(huge_gif(65535, 65535))}),
        (gif, {"gif_bytes": texts(huge_gif(0, 0))}),
        (gif, {"gif_bytes": texts(huge_gif(8, 8, num_frames=20000))}),
        (gif, {"gif_bytes": texts(picture)}),
        (gif, {"gif_bytes": texts([huge_gif(8, 8)])}),
        ("serving_mp4", {"frames_bytes": texts([picture])}),
    ]
    while True:
        for signature, inputs in whole:
            yield messages.predict_request("har", signature, inputs)


def test_two_hundred_malformed_messages_and_then_a_good_one(server, client_of):
    clips = smooth_clips(1)
    client = client_of(server.grpc)
    expected = client.predict(clips).probabilities
    before = peak_mebibytes()
    channel = grpc.insecure_channel(server.grpc.split("/")[2])
    call = channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict",
        request_serializer=messages.PredictRequest.SerializeToString,
    )
    for number, sent in zip(range(200), malformed_messages(), strict=False):
        with pytest.raises(grpc.RpcError) as raised:
            call(sent, timeout=20)
        code = raised.value.code()
        assert code == grpc.StatusCode.INVALID_ARGUMENT, (number, code)
        assert raised.value.details()
        if number % 20 == 0:
            found = client.predict(clips).probabilities
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(client.predict(clips).probabilities, expected)
    assert peak_mebibytes() - before < 200
    channel.close()


def peak_mebibytes():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_broken_message_is_an_error_of_its_sender(server):
    channel = grpc.insecure_channel(server.grpc.split("/")[2])
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    good = messages.predict_request(
        "har", "serving_default", {"clips": random_clips(1, 4, 32, 32, 3)}
    )
    broken = messages.PredictRequest()
    broken.CopyFrom(good)
    broken.inputs[0].value.tensor_shape.dim[0].size = 1000
    for body in (b"\xff\xff\xff", broken.SerializeToString(), b""):
        with pytest.raises(grpc.RpcError):
            call(body, timeout=20)
    found = messages.read_outputs(call(good.SerializeToString(), timeout=20))
    assert found["probabilities"].shape == (1, 3)
    channel.close()


def response_with(dtype, sizes, **values):
    """A response whose tensor is not what it says it is."""
    response = messages.PredictResponse()
    tensor = response.outputs.add(key="probabilities").value
    tensor.dtype = dtype
    tensor.tensor_content = values.get("content", b"")
    tensor.float_val.extend(values.get("floats", []))
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    return response.SerializeToString()


@pytest.mark.parametrize(
    "content",
    [
        response_with(3, (1, 3)),
        response_with(99, (1, 3)),
        response_with(1, (-7, 3), floats=[0.5]),
        response_with(1, (2**62, 4), floats=[0.5]),
        response_with(1, (1,) * 99, floats=[0.5]),
        response_with(1, (1, 3), content=b"abc"),
        b"\xff" * 99,
    ],
)
def test_a_message_that_is_no_answer_is_one_sentence(content, client_of, capfd):
    def answer(request, context):
        return content

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = client_of(f"grpc://127.0.0.1:{port}/har")
    with pytest.raises(DataError, match="its tensors are none"):
        client.predict(smooth_clips(1))
    assert "Traceback" not in capfd.readouterr().err
    server.stop(0).wait()


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_many_clients_each_get_their_own_answers(model, server, way, client_of):
    clips = smooth_clips(16)
    client = client_of(getattr(server, way))
    expected = client.predict(clips).probabilities
    rows = {tuple(row.round(4)) for row in expected}
    assert len(rows) == 16  # So that a mixed-up answer would be seen.

    def check(index, answer):
        np.testing.assert_allclose(
            answer.probabilities[0], expected[index], atol=1e-5
        )

    found = measure_load(client, clips, num_requests=1000, check=check)
    assert (found.num_requests, found.num_failed) == (1000, 0)
    assert found.num_clients == 8
    assert found.p50_ms <= found.p95_ms <= found.p99_ms


def test_versions_are_swapped_while_requests_run(model, tmp_path, client_of):
    export_saved_model(model, NAMES, INFO, tmp_path)
    server = StandIn(tmp_path)
    clips = smooth_clips(4)
    answered, counting = [], threading.Lock()

    def check(_, answer):
        assert answer.class_names == NAMES
        with counting:
            answered.append(answer)
            if len(answered) in (50, 100, 150):
                export_saved_model(model, NAMES, INFO, tmp_path)
                server.models.reload()

    try:
        found = measure_load(
            client_of(server.rest), clips, num_requests=200,
            num_clients=4, check=check,
        )  # fmt: skip
        assert (found.num_requests, found.num_failed) == (200, 0)
        assert max(server.models.loaded) == 4
        assert len(server.models.loaded) == 2
    finally:
        server.close()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return draw_folder(tmp_path_factory.mktemp("videos"), per_class=4)


def benchmarked(capsys, server, videos, *options):
    """Runs `benchmark server` and returns what it prints."""
    words = ("server", server.rest, videos, "--requests", 40, "--clients", 4)
    code = benchmark([str(word) for word in (*words, *options)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_load_is_printed_for_people_and_programs(server, videos, capsys):
    table = benchmarked(capsys, server, videos)
    assert "40 succeeded, 0 failed, 4 clients" in table
    assert "clips/s" in table
    found = json.loads(benchmarked(capsys, server, videos, "--format", "json"))
    assert (found["num_requests"], found["num_failed"]) == (40, 0)
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"]
    assert found["clips_per_second"] > 0
    lines = benchmarked(capsys, server, videos, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(lines))
    assert row["num_requests"] == "40"


def test_load_without_a_readable_video_has_nothing_to_send(
    server, tmp_path, capsys
):
    (tmp_path / "bad.mp4").write_text("this is no video at all")
    words = [server.rest, str(tmp_path / "bad.mp4"), "--requests", "5"]
    assert benchmark(["server", *words]) == 3
    assert "not a video" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["http://me:secret@h/v1/models/a", "grpc://me:secret@h/a/b"]
)
def test_a_password_in_an_address_is_refused_and_not_printed(url):
    with pytest.raises(UsageError, match="no user or password") as error:
        Address.read(url)
    assert "secret" not in str(error.value)
