import os
import re
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from har_keras.doctor import __main__ as doctor
from har_keras.doctor import backends, codecs, health, packages
from har_keras.environment import has_wandb_key
from har_keras.video.ffmpeg import VideoError


@pytest.fixture
def versions(monkeypatch):
    """Pretends that some packages are installed, or are not (None)."""
    pretended = {}
    real = metadata.version

    def version(name):
        if name not in pretended:
            return real(name)
        if pretended[name] is None:
            raise metadata.PackageNotFoundError(name)
        return pretended[name]

    monkeypatch.setattr(metadata, "version", version)
    return pretended


@pytest.fixture
def pip_says(monkeypatch):
    """Pretends the lines that `pip check` prints; none at first."""
    lines = []
    monkeypatch.setattr(health, "pip_check", lambda: lines)
    return lines


@pytest.fixture
def one_codec(monkeypatch):
    """Leaves out the videos of other codecs than H.264, a second each."""
    monkeypatch.setattr(codecs, "SAMPLES", codecs.SAMPLES[:1])


def states(findings):
    return {finding.topic: finding.state for finding in findings}


def test_this_machine_is_ready(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor.main(["--no-backends", "--run-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok    ffmpeg") for line in lines)
    assert any(line.startswith("ok    har_keras") for line in lines)
    assert not [line for line in lines if line.startswith("bad")]


def test_the_backend_of_these_tests_computes(monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", ("tensorflow",))
    calls = []
    (found,) = backends.check_backends(lambda: calls.append(1))
    assert (found.topic, found.state) == ("tensorflow", "ok")
    assert "works, on" in found.text
    assert calls == [1]


def test_a_backend_that_breaks_is_bad_if_training_stands_on_it(monkeypatch):
    program = "raise ImportError('no libcudart')"
    monkeypatch.setattr(backends, "_PROGRAM", program)
    monkeypatch.setattr(backends, "installed", lambda name: "1.0")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    found = list(backends.check_backends(lambda: None))
    assert states(found) == {
        "tensorflow": "bad",
        "jax": "look",
        "torch": "look",
    }
    assert all("no libcudart" in finding.text for finding in found)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    found = list(backends.check_backends(lambda: None))
    assert states(found)["jax"] == "bad"


def test_a_gpu_that_a_backend_does_not_see_is_said(monkeypatch):
    monkeypatch.setattr(backends, "nvidia_gpus", lambda: ("NVIDIA L4",))
    found = backends._devices("jax", "0.7", ["TFRT_CPU_0"])
    assert found.state == "look"
    assert "NVIDIA L4" in found.text
    assert backends._devices("jax", "0.7", ["CudaDevice(id=0)"]).state == "ok"


def test_two_tensorflows_are_bad(versions, pip_says):
    versions |= {"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"}
    found = {f.topic: f for f in health.software()}
    assert found["tensorflow"].state == "bad"
    assert "pip uninstall tensorflow" in found["tensorflow"].mend


def software_by_topic():
    return {finding.topic: finding for finding in health.software()}


def test_a_version_that_another_refuses_is_looked_at(versions, pip_says):
    # What installing TensorFlow 2.21 over Colab's packages leaves.
    versions |= {"tensorflow": "2.21.0", "tensorflow-cpu": None}
    pip_says.append(
        "tensorflow 2.21.0 has requirement protobuf<8.0.0,>=6.31.1, but you "
        "have protobuf 5.29.6."
    )
    found = software_by_topic()["tensorflow"]
    assert found.state == "look"
    assert found.text == (
        "requires protobuf<8.0.0,>=6.31.1, but protobuf 5.29.6 is installed"
    )
    assert 'pip install "protobuf<8.0.0,>=6.31.1"' in found.mend


def test_an_old_keras_is_not_fit(pip_says):
    pip_says.append(
        'har-keras 0.1.0 has requirement keras>=3.13.2; python_version > "3", '
        "but you have keras 3.12.0."
    )
    found = software_by_topic()["har-keras"]
    assert found.state == "look"
    assert 'pip install "keras>=3.13.2"' in found.mend


def test_any_tensorflow_will_do(versions, pip_says):
    for name in packages.TENSORFLOWS:
        versions[name] = None
    pip_says.append(
        "har-keras 0.1.0 requires tensorflow, which is not installed."
    )
    found = software_by_topic()["har-keras"]
    assert (found.state, found.mend) == ("bad", "pip install tensorflow")
    versions["tensorflow-macos"] = "2.20.0"
    assert "har-keras" not in software_by_topic()


def test_conflicts_of_other_packages_are_not_reported(pip_says):
    pip_says += [
        "google-colab 1.0 has requirement pandas==2.2.2, but you have pandas "
        "2.3.1.",
        "jax 0.7 is not supported on this platform",
    ]
    found = software_by_topic()
    assert "google-colab" not in found
    assert found["jax"].text == "0.7 is not supported on this platform"


def pip_runs(monkeypatch, code):
    """Makes `pip_check` run some code instead of pip; returns its command."""
    commands = []

    def run(command, **options):
        commands.append(command)
        return _RUN([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


_RUN = subprocess.run


def test_lines_of_pip_are_read_only_where_it_found_something(monkeypatch):
    commands = pip_runs(monkeypatch, "print('No broken requirements found.')")
    assert packages.pip_check() == []
    assert commands == [[sys.executable, "-m", "pip", "check"]]
    pip_runs(monkeypatch, "print('a line'); raise SystemExit(1)")
    assert packages.pip_check() == ["a line"]


def test_a_missing_pip_is_named(monkeypatch):
    pip_runs(monkeypatch, "import no_module_of_this_name")
    assert packages.pip_check() is None
    found = software_by_topic()["pip"]
    assert found.state == "look"
    assert "is missing" in found.text
    assert "ensurepip" in found.mend
    assert "uv pip check" in found.mend


def test_remedies_name_extras_that_exist(monkeypatch):
    monkeypatch.setattr(backends, "installed", lambda name: "")
    monkeypatch.setattr(backends, "tensorflow_packages", lambda: [])
    extras = metadata.metadata(packages.PACKAGE).get_all("Provides-Extra")
    for chosen in backends.BACKENDS:
        monkeypatch.setenv("KERAS_BACKEND", chosen)
        for finding in backends.check_backends(lambda: None):
            assert finding.state == "bad"
            for extra in re.findall(r"har_keras\[(\w+)\]", finding.mend):
                assert extra in extras


def test_the_function_does_what_the_command_does(one_codec, tmp_path):
    found = health.doctor(tmp_path, tmp_path, backends=False)
    assert {"python", "ffmpeg", "runs", "wandb"} <= states(found).keys()


def test_a_missing_extra_is_named_and_no_fault(versions, pip_says):
    versions |= {"openvino": None}
    found = {f.topic: f for f in health.software()}
    if "[export]" not in found:
        pytest.skip("har_keras is not installed here")
    assert found["[export]"].state == "ok"
    assert "openvino" in found["[export]"].text
    assert 'pip install "har_keras[export]"' in found["[export]"].mend


def test_an_ffmpeg_that_does_not_run_is_bad(monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    code = (
        "from har_keras.doctor import codecs\n"
        "(found,) = codecs.check_ffmpeg()\n"
        "print(found.state, found.mend)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"IMAGEIO_FFMPEG_EXE": str(program)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("bad "), done.stderr
    assert "IMAGEIO_FFMPEG_EXE" in done.stdout


def test_what_ffmpeg_reads_is_shown_by_videos_of_its_own():
    (found,) = codecs.check_ffmpeg()
    assert found.state == "ok"
    for sample in codecs.SAMPLES:  # the bundled ffmpeg can make them all
        assert sample.name in found.text


def test_a_codec_that_fails_is_named_with_what_is_known(monkeypatch):
    real = codecs.read_frames

    def read(path, **options):
        if path.suffix == ".ts":
            raise VideoError(path, "ffmpeg itself crashed", passing=True)
        return real(path, **options)

    monkeypatch.setattr(codecs, "read_frames", read)
    monkeypatch.setattr(
        codecs, "ffmpeg_version", lambda: "ffmpeg version 7.0.2-static https"
    )
    works, fails = codecs.check_ffmpeg()
    assert works.state == "ok"
    assert "MPEG-TS" not in works.text
    assert fails.state == "look"
    assert "MPEG-TS can't be read" in fails.text
    assert "imageio-ffmpeg 0.6 and 0.7" in fails.text
    assert "imageio-ffmpeg>=0.8" in fails.mend


def test_colors_that_come_out_wrong_are_a_fault(monkeypatch):
    real = codecs.read_frames

    def read(path, **options):
        reader = real(path, **options)
        shown = reader._shaped
        reader._shaped = lambda frame: 255 - shown(frame)
        return reader

    monkeypatch.setattr(codecs, "read_frames", read)
    found = [*codecs.check_ffmpeg()]
    assert {"bad", "look"} < {x.state for x in found}
    assert all("other colors" in x.text for x in found if x.state != "ok")


def test_an_old_version_is_named(monkeypatch):
    monkeypatch.setattr(
        codecs, "ffmpeg_version", lambda: "ffmpeg version 4.2.2-static https"
    )
    assert codecs.version() == "4.2.2"
    assert "too old" in codecs._known_fault()


@pytest.mark.parametrize(
    ("free", "state"), [(2**40, "ok"), (3 * 2**30, "look"), (2**20, "bad")]
)
def test_the_disk(free, state, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = states(health.room(tmp_path / "new" / "runs", tmp_path))
    assert found["runs"] == found["frame store"] == state


def test_a_bad_finding_ends_with_code_4(
    one_codec, monkeypatch, capsys, tmp_path
):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    arguments = ["--no-backends", "--run-dir", str(tmp_path)]
    assert doctor.main([*arguments, "--store-dir", str(tmp_path)]) == 4
    captured = capsys.readouterr()
    assert "bad   runs" in captured.out
    assert "Traceback" not in captured.err


def test_the_key_of_wandb_is_seen_and_never_shown(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not has_wandb_key()
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password sesame\n")
    netrc.chmod(0o600)
    (found,) = health.wandb()
    assert found.text.startswith("online")
    assert "sesame" not in repr(found)


def test_lines_fit_a_terminal():
    long = "a word " * 40
    text = doctor._line(health.Finding("look", "topic", long, long))
    assert max(map(len, text.splitlines())) <= 79
    path = "/a/very-long-path/" + "x" * 80
    assert path in doctor._line(health.Finding("ok", "ffmpeg", path))
    assert r"/a\x1b[2J" in doctor._line(health.Finding("ok", "x", "/a\x1b[2J"))


def test_texts_begin_in_one_column():
    topics = [
        "wandb",
        "frame store",
        *(f"[{name}]" for name in packages.extras()),
    ]
    lines = [doctor._line(health.Finding("ok", x, "·")) for x in topics]
    assert len({line.index("·") for line in lines}) == 1
