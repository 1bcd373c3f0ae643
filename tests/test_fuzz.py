"""Random and damaged input: it is understood, or refused in one sentence."""

import json
import struct

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tiny_serving import smooth_clips
from support.videos import draw_video

from har_keras.config import Config
from har_keras.damaged import read_json
from har_keras.errors import HarError
from har_keras.inference.calibration import Calibration
from har_keras.manifest.manifest import Manifest
from har_keras.model.weights import read_safetensors
from har_keras.run import Run
from har_keras.serving.client import ServingClient
from har_keras.serving.model_info import INFO, ModelInfo
from har_keras.serving.transports import RestTransport
from har_keras.toml import read_toml
from har_keras.video.ffmpeg import read_frames

# Fixtures are made once for all examples: each writes all of its files.
BOUNDED = settings(
    max_examples=80, deadline=None, derandomize=True, database=None,
    suppress_health_check=[*HealthCheck],
)  # fmt: skip
FEW = settings(BOUNDED, max_examples=25)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 10**9, 1e300])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
OPTIONS = {
    name: value for name, value in Config().flat().items() if value is not None
}


def outcome(read, *arguments):
    """Returns what is read, or None if it is refused in one sentence."""
    try:
        return read(*arguments)
    except HarError as error:
        words = str(error)
        assert words.strip()
        assert "Traceback" not in words
        return None


@BOUNDED
@given(name=st.sampled_from(sorted(OPTIONS)), value=VALUES)
def test_any_value_of_an_option_is_typed_or_refused(name, value, tmp_path):
    file = tmp_path / "config.toml"
    try:
        text = tomli_w.dumps({name: value})
    except (TypeError, ValueError, AttributeError, UnicodeError):
        return  # TOML has no such value
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    found = outcome(lambda: Config().replace(**read_toml(file)).validated())
    if found is not None:
        assert isinstance(found.flat()[name], type(OPTIONS[name]) | str)


@BOUNDED
@given(content=st.binary(max_size=200) | st.text(max_size=200))
def test_any_config_file_is_read_or_refused(content, tmp_path):
    file = tmp_path / "config.toml"
    raw = content if isinstance(content, bytes) else content.encode("utf-8")
    file.write_bytes(raw)
    outcome(read_toml, file)


@BOUNDED
@given(
    content=st.binary(max_size=100)
    | VALUES.map(lambda value: json.dumps(value).encode())
)
def test_any_json_of_a_run_is_read_or_refused(content, tmp_path):
    run = Run(tmp_path)
    run.calibration_file.write_bytes(content)
    found = outcome(Calibration.read, run)
    assert found is None or 0 < found.temperature < 100
    assert outcome(read_json, run.calibration_file) is None or found is None


@BOUNDED
@given(content=st.binary(max_size=300) | st.text(max_size=300))
def test_any_manifest_of_a_run_is_read_or_refused(content, tmp_path):
    file = tmp_path / "manifest.csv"
    header = b"file,class,split,group,sha256,kept_frames,reason,root\n"
    raw = content if isinstance(content, bytes) else content.encode("utf-8")
    for begin in (b"", header):
        file.write_bytes(begin + raw)
        outcome(Manifest.read, file)


@BOUNDED
@given(
    name=st.sampled_from(["probabilities", "class_names", INFO]), value=VALUES
)
def test_any_output_of_a_server_is_a_prediction_or_refused(name, value):
    outputs = {
        "probabilities": [[0.25, 0.75]],
        "class_names": [["down", "up"]],
        INFO: [ModelInfo().text()],
    }
    body = json.dumps({"outputs": outputs | {name: value}}).encode()

    class Transport(RestTransport):
        def _post(self, request, seconds):
            return 200, body

    with ServingClient("http://localhost:1/v1/models/har") as client:
        client._transport = Transport(client.address)
        found = outcome(client.predict, smooth_clips(1))
    if found is not None:
        assert found.probabilities.shape == (1, len(found.class_names))
        assert np.isfinite(found.probabilities).all()
        outcome(ModelInfo.read, found.info, "the server")


@BOUNDED
@given(
    shape=st.lists(NUMBERS, max_size=3) | VALUES,
    offsets=st.lists(NUMBERS, min_size=2, max_size=2) | VALUES,
    dtype=st.sampled_from(["F32", "F16", "BF16", "I64", "PICKLE"]) | VALUES,
    extra=st.binary(max_size=16),
)
def test_any_safetensors_header_is_read_or_refused(
    shape, offsets, dtype, extra, tmp_path
):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    header = json.dumps({"a": entry, "b": entry}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + extra)
    found = outcome(read_safetensors, file)
    total = sum(array.nbytes for array in (found or {}).values())
    assert total <= len(extra)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a.mp4"
    return draw_video(path, num_frames=24).read_bytes()


@FEW
@given(
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)),
        min_size=1,
        max_size=8,
    ),
    kept=st.floats(0.2, 1),
)
def test_any_damage_to_a_video_is_read_or_refused(flips, kept, video, tmp_path):
    damaged = bytearray(video)
    for place, bits in flips:
        damaged[int(place * len(damaged))] ^= bits
    file = tmp_path / "a.mp4"
    file.write_bytes(damaged[: int(kept * len(damaged))])

    def frames():
        with read_frames(
            file, fps=8.0, short_side=32, timeout_seconds=20
        ) as reader:
            return sum(1 for _ in reader)

    found = outcome(frames)
    # A flipped time stamp makes a gap, which is filled up to a limit.
    assert found is None or found < 100_000
