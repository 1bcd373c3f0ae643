"""What is printed: names that steer nothing, streams that fail."""

import io
import logging
import os
import shlex
import signal
import subprocess
import sys

import pytest

from har_keras import cli
from har_keras.config import Config
from har_keras.errors import DataError
from har_keras.run import Run
from har_keras.terminal import log_file, printable, shell_word

HOSTILE = "a\x1b]0;PWNED\x07\nError: forged\r\x9b31m\u202e"
UNIX = pytest.mark.skipif(os.name == "nt", reason="closes numbered streams")


def run_verb(body, redirection="", **variables):
    """Runs a verb in a shell; returns its exit code and standard error."""
    code = (
        f"import sys; from har_keras import cli; sys.exit(cli.run_verb({body}))"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$CODE" {redirection}'],
        env=os.environ | {"CODE": code} | variables,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "name",
    ["walk", "ходьба", "歩く", "مشي", "नमस्ते", "\U0001f3cb\u200d♂️", "a b"],
)
def test_names_of_any_script_are_printed_as_they_are(name):
    assert printable(name) == name


def test_a_name_adds_no_line_and_steers_nothing():
    found = printable(HOSTILE)
    assert found.isprintable()
    assert found.startswith("a\\x1b]0;PWNED")
    assert printable("\udcff") == "\\udcff"  # no UTF-8 on the disk


@UNIX
@pytest.mark.parametrize(
    "name",
    ["videos", "my videos", "a; touch b", "$HOME `id`", 'it\'s "q"', "*"],
)
def test_a_command_that_is_printed_does_what_it_says(name, tmp_path):
    run = Run(tmp_path / name)
    run.create(Config())
    assert shlex.split(run.resume_command) == [
        *("har-keras", "train", "--resume"),
        str(run.path),
    ]
    assert shlex.split(shell_word(f"-{name}")) == [f"./-{name}"]


def test_messages_and_errors_pass_one_door(capsys, tmp_path):
    def verb():
        logging.getLogger("har_keras").warning("Bad: '%s'.", HOSTILE)
        raise DataError(f"No video: '{HOSTILE}'.")

    with log_file(tmp_path / "run.log"):
        assert cli.run_verb(verb) == 3
    said = capsys.readouterr().err
    logged = (tmp_path / "run.log").read_text("utf-8")
    assert [line.partition(":")[0] for line in said.splitlines()] == [
        "Warning",
        "Error",
    ]
    assert len(logged.splitlines()) == 1
    for text in (said, logged):
        assert "\\x1b]0;PWNED" in text
        assert text.replace("\n", "").isprintable()


def test_a_long_name_leaves_the_rest_of_a_message(capsys):
    def verb():
        raise DataError(f"There is no '{'x' * 10**6}'. Give another one.")

    assert cli.run_verb(verb) == 3
    said = capsys.readouterr().err
    assert said.startswith("Error: There is no 'xx")
    assert said.endswith("xx'. Give another one.\n")
    assert len(said) < 1100


@UNIX
@pytest.mark.parametrize(
    ("redirection", "exit_code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        ("<&- >&- 2>&-", 0),
        ("2>/dev/full", 0),
        (">/dev/full", 4),
        (">/dev/full 2>&1", 4),
        ("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", 0),
    ],
)
def test_streams_that_fail_end_as_they_should(redirection, exit_code):
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    code, said = run_verb("lambda: print('x' * 1_000_000)", redirection)
    assert code == exit_code
    assert "Traceback" not in said
    assert ("No space left" in said) == (redirection == ">/dev/full")


@UNIX
def test_a_closed_stream_is_no_file_of_ours(tmp_path):
    body = f"lambda: open(r'{tmp_path / 'data'}', 'w').close() or print(1)"
    assert run_verb(body, ">&- 2>&-")[0] == 0
    assert (tmp_path / "data").read_bytes() == b""


@UNIX
def test_names_that_are_no_utf_8_are_read_from_a_list():
    body = "lambda: sys.exit(sys.stdin.read() != '\\udcff')"
    code, said = run_verb(
        body, r"< <(printf '\xff')", PYTHONIOENCODING="utf-8:strict"
    )
    assert (code, said) == (0, "")


@UNIX
def test_a_terminal_of_ascii_gets_escapes():
    code, said = run_verb(
        "lambda: print(chr(176))", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
        LC_ALL="C",
    )  # fmt: skip
    assert (code, said) == (0, "")


def test_what_the_system_refuses_is_a_sentence(capsys, tmp_path):
    assert cli.run_verb(lambda: open(tmp_path / "none")) == 4
    said = capsys.readouterr().err
    assert said.startswith("Error: The system refused '")
    assert said.endswith("none': No such file or directory.\n")

    def verb():
        raise MemoryError

    assert cli.run_verb(verb) == 4
    assert "memory is used up" in capsys.readouterr().err


@UNIX
@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_in_the_first_moment_ends_without_a_traceback(
    number, exit_code, tmp_path
):
    program = tmp_path / "har-keras"
    program.write_text(
        "import os, signal, sys\n"
        "sys.argv[0] = '-m'\n"  # while Python looks for the module
        "import har_keras\n"
        f"os.kill(os.getpid(), {int(number)})\n"
        "signal.pause()\n"
    )
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True
    )
    assert done.returncode == exit_code
    assert "Traceback" not in done.stderr


def test_importing_the_package_takes_no_signal_over():
    code = (
        "import signal, har_keras; "
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "True\n"


def test_standard_streams_of_a_notebook_are_left_alone(monkeypatch):
    stream = io.StringIO()  # has neither a number nor an encoding
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.run_verb(lambda: print("x")) == 0
    assert stream.getvalue() == "x\n"
