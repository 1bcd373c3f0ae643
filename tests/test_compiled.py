"""What XLA compiled is kept, found again, checked and bounded."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from har_keras import cache, compiled

COMPILES = """
import sys
from har_keras.environment import start_backend
start_backend("tensorflow")
import tensorflow as tf
@tf.function(jit_compile=True)
def wave(x):
    return tf.reduce_sum(tf.sin(x @ x) + tf.tanh(x))
print(float(wave(tf.reshape(tf.range(64.0), (8, 8)) / 50)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(compiled.VARIABLE, str(tmp_path / "kept"))
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    return tmp_path / "kept"


@pytest.fixture
def process(folder, monkeypatch):
    """Plays a process: what it finds, after it has compiled something."""
    at_end = []
    monkeypatch.setattr(
        compiled.atexit, "register", lambda *x: at_end.append(x)
    )
    monkeypatch.setitem(sys.modules, "net", SimpleNamespace(__version__="1.0"))

    def run(compiles=(), num_cores=2):
        shared = folder / compiled._fingerprint("net", num_cores)
        compiled._borrow(shared, lambda own: True)
        function, own, *rest = at_end.pop()
        found = {file.name: file.read_bytes() for file in own.iterdir()}
        for name, program in dict(compiles).items():
            (own / name).write_bytes(program)
        function(own, *rest)
        assert not own.exists()
        return found

    return run


def files_of(folder):
    return sorted(x for x in folder.rglob("*") if x.is_file())


def test_the_next_process_finds_what_one_compiled(process, folder):
    programs = {"xla_a.pb": b"one", "jit_b-cache": b"two"}
    assert process(programs) == {}
    assert process() == programs
    assert process({"xla_a.pb": b"other"}) == programs
    assert len(files_of(folder)) == 2
    assert compiled.compiled_bytes() == 6


def test_what_changes_a_program_has_a_folder_of_its_own(process, monkeypatch):
    process({"xla_a.pb": b"one"})
    assert process(num_cores=3) == {}
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_other")
        assert process() == {}
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["net"], "__version__", "1.1")
        assert process() == {}
    with monkeypatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
        assert list(process()) == ["xla_a.pb"]


@pytest.mark.parametrize("damage", [b"", b"on", b"onE", b"one!"])
def test_a_damaged_program_is_compiled_again(damage, process, folder):
    process({"xla_a.pb": b"one"})
    (file,) = files_of(folder)
    file.write_bytes(damage)
    assert process({"xla_a.pb": b"one"}) == {}
    assert process() == {"xla_a.pb": b"one"}


def test_the_oldest_go_beyond_the_bound(process, folder, monkeypatch):
    monkeypatch.setattr(compiled, "_MOST_BYTES", 10)
    for number in range(5):
        process({f"xla_{number}.pb": bytes(4)})
        for file in folder.rglob(f"*xla_{number}.pb"):
            os.utime(file, (1000 + number, 1000 + number))
    assert sorted(process()) == ["xla_3.pb", "xla_4.pb"]


def test_a_fork_hands_nothing_over(tmp_path, folder):
    own = tmp_path / "own"
    own.mkdir()
    (own / "xla_a.pb").write_bytes(b"one")
    compiled._hand_over(own, set(), folder, os.getpid() + 1)
    assert own.exists()
    assert not folder.exists()


def test_only_programs_are_cleared(process, folder, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    process({"xla_a.pb": b"one"})
    (folder / "notes.txt").write_text("mine")
    assert cache.main(["--clear", "--store-dir", str(folder.parent)]) == 0
    assert compiled.compiled_bytes() == 3
    assert cache.main([]) == 0
    assert "What XLA compiled takes 0.0 MiB." in capsys.readouterr().out
    assert cache.main(["--clear"]) == 0
    assert files_of(folder) == [folder / "notes.txt"]


@pytest.mark.parametrize("chosen", ["off", "their own"])
def test_the_word_of_the_user_holds(chosen, folder, monkeypatch):
    flags = "--tf_xla_persistent_cache_directory=/their/own"
    if chosen == "off":
        monkeypatch.setenv(compiled.VARIABLE, "off")
        flags = ""
    monkeypatch.setenv("TF_XLA_FLAGS", flags)
    monkeypatch.setattr(compiled.atexit, "register", lambda *x: 1 / 0)
    monkeypatch.setitem(
        sys.modules, "tensorflow", SimpleNamespace(__version__="2.20.0")
    )
    compiled.keep_compiled.__wrapped__("tensorflow", 2)
    assert os.environ["TF_XLA_FLAGS"] == flags
    assert not folder.exists()


def test_a_full_disk_keeps_nothing(folder, monkeypatch):
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(compiled.shutil, "disk_usage", lambda _: full)
    compiled.keep_compiled.__wrapped__("tensorflow", 2)
    assert "TF_XLA_FLAGS" not in os.environ


@pytest.mark.slow
def test_tensorflow_reads_what_it_compiled(folder, tmp_path):
    """Also in a folder with a space, and it says nothing."""
    temporary = tmp_path / "a folder"
    temporary.mkdir()
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TF_")
    } | {"KERAS_BACKEND": "tensorflow", "TMPDIR": str(temporary)}

    def answer():
        done = subprocess.run(
            [sys.executable, "-c", COMPILES], env=variables,
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        assert done.stderr == ""
        assert not files_of(temporary)
        return json.loads(done.stdout)

    first = answer()
    (file,) = files_of(folder)
    kept = file.stat()
    assert answer() == first
    assert files_of(folder) == [file]
    assert file.stat().st_mtime_ns == kept.st_mtime_ns
