"""Files of a TensorFlow Serving deployment: warm-up and configuration."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from har_keras.config import ClipConfig
from har_keras.files import whole_file
from har_keras.serving.messages import PredictionLog, predict_request
from har_keras.serving.model_info import MODEL_NAME

# Size limit of a request; a clip of 16 JPEG frames takes 0.1 MB.
MAX_REQUEST_BYTES = 8 * 2**20

_WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
# A gray GIF of one pixel: warm-up depends on the ops, not on the content.
_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x80\x80\x80\x00\x00\x00"
    b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b"
)


def warm_up_inputs(clip: ClipConfig) -> dict[str, dict[str, Any]]:
    """Returns an example input for each signature."""
    size = clip.crop_size
    frame = np.full((size, size, 3), 128, np.uint8)
    jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
    frames = np.stack([frame] * clip.num_frames)
    return {
        "serving_default": {"clips": frames[None]},
        "serving_jpeg": {
            "frames_bytes": np.array([[jpeg] * clip.num_frames], dtype=object)
        },
        "serving_gif": {"gif_bytes": np.array([_GIF], dtype=object)},
    }


def write_warm_up(version: Path, clip: ClipConfig) -> Path:
    """Writes the warm-up requests, which a server runs when it loads a model.

    Without them the first request to each signature is slow.

    Args:
        version: Path. Folder of a SavedModel.
        clip: ClipConfig. Clip geometry of the model.

    Returns:
        The file, TFRecords of `PredictionLog`.
    """
    path = version / _WARM_UP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(os.fsencode(path)) as writer:
        for signature, inputs in warm_up_inputs(clip).items():
            record = PredictionLog()
            record.predict_log.request.CopyFrom(
                predict_request(MODEL_NAME, signature, inputs)
            )
            writer.write(record.SerializeToString())
    return path


def write_serving_files(folder: Path, saved_model_dir: Path) -> None:
    """Writes the configuration of a server for a run's SavedModel.

    Args:
        folder: Path. `RUN/serving`.
        saved_model_dir: Path. `RUN/saved_model`, a sibling of `folder`.
    """
    for name, text in serving_texts(saved_model_dir.name).items():
        with whole_file(folder / name) as file:
            file.write_text(text, "utf-8")


def serving_texts(saved_model_name: str) -> Mapping[str, str]:
    """Returns the content of each file in `RUN/serving` by name."""
    return {
        "models.config": _MODELS,
        "batching_parameters.txt": _BATCHING,
        "monitoring.config": _MONITORING,
        "proxy.conf": _PROXY,
        "compose.yaml": _COMPOSE.replace("SAVED_MODEL", saved_model_name),
    }


_GRPC_LIMIT = f"grpc.max_receive_message_length={MAX_REQUEST_BYTES}"
_MODELS = f"""\
# The two latest versions are loaded, so that a rollback needs no restart: name
# the older version in the request. A label is a stable name of a version, which
# must be loaded:
#   version_labels {{ key: "stable" value: 1 }}
model_config_list {{
  config {{
    name: "{MODEL_NAME}"
    base_path: "/models/{MODEL_NAME}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
}}
"""
_BATCHING = """\
# Requests that arrive within 2 ms are batched if their clips have the same
# number of frames (and, if sent raw, the same frame size).
max_batch_size { value: 32 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
"""
_MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
_PROXY = f"""\
# Limits size, time and number of requests, which the server's ports do not.
limit_conn_zone $binary_remote_addr zone=clients:1m;
server {{
  listen 8501;
  client_max_body_size {MAX_REQUEST_BYTES};
  client_body_timeout 30s;
  limit_conn clients 32;
  location /v1/models/{MODEL_NAME} {{
    proxy_pass http://server:8501;
    proxy_read_timeout 60s;
  }}
}}
server {{
  listen 8500;
  http2 on;
  client_max_body_size {MAX_REQUEST_BYTES};
  client_body_timeout 30s;
  limit_conn clients 32;
  location /tensorflow.serving.PredictionService/ {{
    grpc_pass grpc://server:8500;
    grpc_read_timeout 60s;
  }}
}}
"""
_COMPOSE = f"""\
# Start with `docker compose up` in this folder. Listens on this machine only:
#   REST  http://127.0.0.1:8501/v1/models/{MODEL_NAME}
#   gRPC  127.0.0.1:8500
# There is no authentication and no encryption: add a proxy with both before
# exposing it to a network.
services:
  server:
    image: tensorflow/serving:2.19.1
    command:
      - --model_config_file=/config/models.config
      - --model_config_file_poll_wait_seconds=60
      - --enable_batching=true
      - --batching_parameters_file=/config/batching_parameters.txt
      - --monitoring_config_file=/config/monitoring.config
      - --grpc_channel_arguments={_GRPC_LIMIT}
      - --grpc_max_threads=16
      - --rest_api_num_threads=16
      - --rest_api_timeout_in_ms=60000
      - --tensorflow_session_parallelism=2
    environment:
      MODEL_NAME: {MODEL_NAME}
    volumes:
      - ../SAVED_MODEL:/models/{MODEL_NAME}:ro
      - .:/config:ro
    networks: [inside]
    cpus: 2
    mem_limit: 2g
    pids_limit: 256
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    restart: unless-stopped
  proxy:
    # Runs as user 101, on ports above 1024.
    image: nginxinc/nginx-unprivileged:1.28
    volumes:
      - ./proxy.conf:/etc/nginx/conf.d/default.conf:ro
    tmpfs:
      - /tmp:size=512m,noexec,nosuid,nodev
    ports:
      - 127.0.0.1:8500:8500
      - 127.0.0.1:8501:8501
    networks: [inside, outside]
    cpus: 1
    mem_limit: 640m
    pids_limit: 64
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    depends_on: [server]
    restart: unless-stopped
networks:
  inside:
    internal: true  # the server reaches nothing
  outside: {{}}
"""
