"""What a server reads, against the messages that the server's makers publish.

The real ones come from `pip install --no-deps tensorflow-serving-api`.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from support.tiny_serving import (
    NAMES,
    gif,
    jpegs,
    random_clips,
    signatures_of,
    smooth_clips,
    tiny_model,
)
from support.videos import saved_model_cli

from har_keras.errors import DataError
from har_keras.serving import messages, tensorflow_serving
from har_keras.serving.checksums import require_checksums

_WITHOUT = "needs `pip install --no-deps tensorflow-serving-api`"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def version(tiny_version):
    return tiny_version


@pytest.fixture
def apis():
    """The published messages."""
    pytest.importorskip("tensorflow_serving", reason=_WITHOUT)
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    return predict_pb2, prediction_log_pb2


def test_a_request_is_what_the_published_message_reads(apis):
    clips = random_clips(1, 2, 3, 4, 3)
    ours = messages.predict_request(
        "har", "serving_default", {"clips": clips}, version=7, outputs=["p"]
    )
    theirs = apis[0].PredictRequest.FromString(ours.SerializeToString())
    assert theirs.model_spec.name == "har"
    assert theirs.model_spec.signature_name == "serving_default"
    assert theirs.model_spec.version.value == 7
    assert list(theirs.output_filter) == ["p"]
    np.testing.assert_array_equal(
        tf.make_ndarray(theirs.inputs["clips"]), clips
    )


def test_texts_and_a_version_label_are_read_too(apis):
    sent = np.array([[b"\xff\xd8", b""]], dtype=object)
    ours = messages.predict_request(
        "har", "serving_jpeg", {"frames_bytes": sent}, version_label="stable"
    )
    theirs = apis[0].PredictRequest.FromString(ours.SerializeToString())
    assert theirs.model_spec.version_label == "stable"
    found = tf.make_ndarray(theirs.inputs["frames_bytes"])
    assert found.tolist() == [[b"\xff\xd8", b""]]


def test_an_answer_of_the_published_message_is_read(apis):
    theirs = apis[0].PredictResponse()
    floats = np.array([[0.25, 0.75]], "float32")
    theirs.outputs["packed"].CopyFrom(tf.make_tensor_proto(floats))
    theirs.outputs["listed"].dtype = tf.float32.as_datatype_enum
    theirs.outputs["listed"].tensor_shape.dim.add(size=2)
    theirs.outputs["listed"].float_val.extend([0.5, 0.5])
    theirs.outputs["names"].CopyFrom(tf.make_tensor_proto([["gym", "é"]]))
    truth = np.array([True, False])
    theirs.outputs["truth"].CopyFrom(tf.make_tensor_proto(truth))
    theirs.outputs["bytes"].dtype = tf.bool.as_datatype_enum
    theirs.outputs["bytes"].tensor_shape.dim.add(size=2)
    theirs.outputs["bytes"].tensor_content = truth.tobytes()
    found = messages.read_outputs(theirs.SerializeToString())
    np.testing.assert_array_equal(found["packed"], floats)
    assert found["listed"].tolist() == [0.5, 0.5]
    assert found["names"].tolist() == [["gym", "é"]]
    for name in ("truth", "bytes"):
        assert found[name].dtype == bool
        assert found[name].tolist() == [True, False]


def test_an_answer_of_another_type_is_refused():
    response = messages.PredictResponse()
    response.outputs.add(key="x").value.dtype = 9
    with pytest.raises(ValueError, match="data type 9"):
        messages.read_outputs(response.SerializeToString())


def test_each_warm_up_record_runs(apis, version):
    served = tf.saved_model.load(str(version)).signatures
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = apis[1].PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        inputs = {
            name: tf.constant(tf.make_ndarray(tensor))
            for name, tensor in request.inputs.items()
        }
        found = served[request.model_spec.signature_name](**inputs)
        assert found["probabilities"].shape == (1, len(NAMES))
        asked.append(request.model_spec.signature_name)
    assert sorted(asked) == ["serving_default", "serving_gif", "serving_jpeg"]


def test_checksums_are_those_of_sha256sum(version):
    lines = (version / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 5  # Graph, fingerprint, two of weights, warm-up.
    for line in lines:
        checksum, name = line.split("  ")
        content = (version / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == checksum
    require_checksums(version)


@pytest.mark.parametrize("change", ["altered", "missing", "added"])
def test_a_changed_version_is_named(tiny_version, tmp_path, change):
    version = shutil.copytree(tiny_version, tmp_path / "1")
    graph = version / "saved_model.pb"
    if change == "altered":
        graph.write_bytes(graph.read_bytes() + b"\0")
    elif change == "missing":
        graph.unlink()
    else:
        (version / "assets.extra" / "more").write_text("")
    name = "more" if change == "added" else r"saved_model\.pb"
    with pytest.raises(DataError, match=f"{name}' differs"):
        require_checksums(version)


def test_the_model_list_is_what_the_server_reads():
    pytest.importorskip("tensorflow_serving", reason=_WITHOUT)
    from tensorflow_serving.config import model_server_config_pb2

    text = tensorflow_serving.serving_texts("saved_model")["models.config"]
    found = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = found.model_config_list.config
    assert (model.name, model.base_path) == ("har", "/models/har")
    assert model.model_version_policy.latest.num_versions == 2


# Not among the published messages; the names, numbers and types of the fields
# that are used, from session_bundle_config.proto and monitoring_config.proto.
WRAPPED = "google.protobuf.Int64Value"
SERVER_MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": (1, WRAPPED),
        "batch_timeout_micros": (2, WRAPPED),
        "max_enqueued_batches": (3, WRAPPED),
        "num_batch_threads": (4, WRAPPED),
    },
    "PrometheusConfig": {"enable": (1, "BOOL"), "path": (2, "STRING")},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
}


def server_message(name):
    """Returns an empty message of the server's own."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="server.proto", package="server", syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )  # fmt: skip
    for message, fields in SERVER_MESSAGES.items():
        made = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            added = made.field.add(
                name=field, number=number, label=kinds.LABEL_OPTIONAL
            )
            if kind in ("BOOL", "STRING"):
                added.type = kinds.Type.Value(f"TYPE_{kind}")
                continue
            added.type = kinds.TYPE_MESSAGE
            added.type_name = f".{kind}" if "." in kind else f".server.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"server.{name}")
    return message_factory.GetMessageClass(found)()


def test_batching_parameters_are_those_the_server_knows():
    text = tensorflow_serving.serving_texts("x")["batching_parameters.txt"]
    found = text_format.Parse(text, server_message("BatchingParameters"))
    assert found.max_batch_size.value == 32
    assert found.batch_timeout_micros.value == 2000
    assert found.max_enqueued_batches.value == 64
    assert found.num_batch_threads.value == 2
    with pytest.raises(text_format.ParseError, match="no field named"):
        text_format.Parse(
            text + "batch_size { value: 1 }",
            server_message("BatchingParameters"),
        )


def test_monitoring_is_what_the_server_knows():
    text = tensorflow_serving.serving_texts("x")["monitoring.config"]
    found = text_format.Parse(text, server_message("MonitoringConfig"))
    assert found.prometheus_config.enable
    assert found.prometheus_config.path == "/monitoring/prometheus/metrics"


# Of tensorflow_model_server, from its main.cc.
SERVER_FLAGS = {
    "model_config_file", "model_config_file_poll_wait_seconds",
    "enable_batching", "batching_parameters_file", "monitoring_config_file",
    "grpc_channel_arguments", "grpc_max_threads", "rest_api_timeout_in_ms",
    "rest_api_num_threads", "tensorflow_session_parallelism",
}  # fmt: skip


def test_the_compose_file_limits_what_it_starts():
    yaml = pytest.importorskip("yaml", reason="needs pip install pyyaml")
    text = tensorflow_serving.serving_texts("saved_model")["compose.yaml"]
    services = yaml.safe_load(text)["services"]
    server, proxy = services["server"], services["proxy"]
    flags = dict(flag[2:].split("=", 1) for flag in server["command"])
    assert set(flags) == SERVER_FLAGS
    # Every configuration that is named lies in the folder that is mounted.
    for path in flags.values():
        if path.startswith("/config/"):
            assert path[8:] in tensorflow_serving.serving_texts("x")
    limit = tensorflow_serving.MAX_REQUEST_BYTES
    assert flags["grpc_channel_arguments"].endswith(f"length={limit}")
    assert (
        f"client_max_body_size {limit};"
        in (tensorflow_serving.serving_texts("x")["proxy.conf"])
    )
    threads = int(flags["grpc_max_threads"]) + int(
        flags["rest_api_num_threads"]
    )
    assert threads < server["pids_limit"] / 2
    for service in (server, proxy):
        assert {"mem_limit", "cpus", "pids_limit"} <= {*service}
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert re.fullmatch(r".+:\d[\d.]+", service["image"])  # pinned
    # Both protocols pass the limits of the proxy; the server has no port.
    assert "ports" not in server
    assert [port.rpartition(":")[2] for port in proxy["ports"]] == [
        "8500",
        "8501",
    ]
    assert all(port.startswith("127.0.0.1:") for port in proxy["ports"])
    text = tensorflow_serving.serving_texts("x")["proxy.conf"]
    assert text.count(f"client_max_body_size {limit};") == 2


def test_the_server_answers_on_this_machine_alone(tmp_path):
    folder = tmp_path / "serving"
    tensorflow_serving.write_serving_files(folder, tmp_path / "saved_model")
    compose = (folder / "compose.yaml").read_text()
    ports = [
        line.strip(" -") for line in compose.splitlines() if ":850" in line
    ]
    published = [port for port in ports if port.count(":") == 2]
    assert published
    assert all(
        port.startswith("127.0.0.1:") for port in published if "/" not in port
    )
    for name in ("models.config", "batching_parameters.txt", "proxy.conf"):
        assert (folder / name).is_file()
        assert "SAVED_MODEL" not in (folder / name).read_text()
    assert "../saved_model:/models/har:ro" in compose


@pytest.mark.slow
@pytest.mark.parametrize("signature", ["default", "jpeg", "gif"])
def test_saved_model_cli_runs_each_signature(
    model, version, tmp_path, signature
):
    clips = smooth_clips(2)
    name, sent = {
        "default": ("clips", clips),
        "jpeg": ("frames_bytes", np.array([jpegs(c) for c in clips], "O")),
        "gif": ("gif_bytes", np.array([gif(clip) for clip in clips], "O")),
    }[signature]
    np.save(tmp_path / "sent.npy", sent, allow_pickle=True)
    saved_model_cli([
        "run", "--dir", version, "--tag_set", "serve",
        "--signature_def", f"serving_{signature}",
        "--inputs", f"{name}={tmp_path / 'sent.npy'}", "--outdir", tmp_path,
    ])  # fmt: skip
    found = np.load(tmp_path / "probabilities.npy")
    expected = keras.ops.convert_to_numpy(model(clips, training=False))
    # GIF has 256 colours a frame.
    tolerance = {"default": 1e-5, "jpeg": 0.02, "gif": 0.1}[signature]
    np.testing.assert_allclose(found, expected, atol=tolerance)


C_PROGRAM = Path(__file__).parent / "programs" / "run_in_c_library.py"


def test_tensorflows_c_library_runs_it_without_python_tensorflow(
    model, version, tmp_path
):
    clips = random_clips(3, 4, 32, 32, 3, seed=5)
    np.save(tmp_path / "clips.npy", clips)
    signature = signatures_of(version)["serving_default"]
    clips_name = signature.inputs["clips"].name
    assert clips_name.startswith("serving_default")
    output = signature.outputs["probabilities"].name
    done = subprocess.run(
        [
            sys.executable, str(C_PROGRAM), str(Path(tf.__file__).parent),
            str(version), clips_name, output, str(tmp_path / "clips.npy"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["python_tensorflow"]
    expected = keras.ops.convert_to_numpy(model(clips, training=False))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
