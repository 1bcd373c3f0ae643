import errno
import io
import os
import signal
import subprocess
import sys
import time

import pytest

from har_keras import __main__, cli
from har_keras.check import CheckOptions
from har_keras.config import Config
from har_keras.environment import (
    PROGRAM_BYTES,
    require_address_space,
    start_backend,
)
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.files import whole_file
from har_keras.run import Run
from har_keras.train import TrainOptions


def raising(error):
    def verb():
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("a slip"), 2),
        (DataError("no videos"), 3),
        (EnvironmentFault("no disk"), 4),
        (KeyboardInterrupt(), 130),
        (cli.Interrupted(signal.SIGTERM), 143),
    ],
)
def test_exit_codes(error, code):
    assert cli.run_verb(raising(error)) == code


def test_an_error_is_one_line_without_a_traceback(capsys):
    cli.run_verb(raising(UsageError("--epochs must be at least 1.")))
    assert capsys.readouterr().err == "Error: --epochs must be at least 1.\n"


def test_what_was_refused_has_its_final_name(tmp_path, capsys):
    def verb():
        with whole_file(tmp_path / "a.csv") as file:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))

    assert cli.run_verb(verb) == 4
    place = tmp_path / "a.csv"
    said = f"Error: The system refused '{place}': Permission denied.\n"
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run_verb(lambda: 1 / 0)


def test_flags_go_into_their_section():
    options = cli.parse(
        TrainOptions,
        ["clips", "--epochs", "5", "--crop-size", "224", "--no-flip"],
        verb="train",
    )
    assert str(options.videos) == "clips"
    assert options.settings.training.epochs == 5
    assert options.settings.clip.crop_size == 224
    assert not options.settings.training.flip


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("[training]\nepochs = 7\nseed = 3\n")
    options = cli.parse(
        TrainOptions, ["--config", str(file), "--epochs", "9"], verb="train"
    )
    assert options.settings.training.epochs == 9
    assert options.settings.training.seed == 3
    assert options.settings.training.batch_size == 128


def test_an_unknown_flag_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.parse(TrainOptions, ["--epoch", "5"], verb="train")
    assert exit_info.value.code == 2
    assert "--epochs" in capsys.readouterr().err


def test_sigterm_becomes_143():
    code = (
        "import signal, sys, time\n"
        "from har_keras import cli\n"
        "def verb():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "sys.exit(cli.run_verb(verb))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    # One that SIGTERM itself had ended would be -15.
    assert done.returncode == 143


LOSING = {
    "nothing": "raise_signal(number)",
    "exec": "exec('raise_signal(number)')",
    "except": """
    try:
        raise_signal(number)
    except BaseException:
        pass
""",
    "garbage": """
    class Last:
        def __del__(self):
            raise_signal(number)
    Last()
""",
}


@pytest.mark.parametrize("way", LOSING)
@pytest.mark.parametrize(
    ("number", "exit_code", "said"),
    [
        (signal.SIGINT, 130, "Stopped by Ctrl-C.\n"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_a_signal_that_is_swallowed_comes_again(number, exit_code, said, way):
    code = (
        "import sys, time\n"
        "from signal import raise_signal\n"
        "from har_keras import cli\n"
        f"number = {int(number)}\n"
        "def verb():\n"
        f"    {LOSING[way].strip()}\n"
        "    for _ in range(200):\n"
        "        time.sleep(0.05)\n"
        "sys.exit(cli.run_verb(verb))\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (exit_code, said)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "error",
    [
        "DataError('It is damaged.')",
        "ValueError('a bug')",
        "cli.Interrupted(2)",  # as where a process would be started
    ],
)
@pytest.mark.parametrize(
    ("number", "exit_code", "said"),
    [
        (signal.SIGINT, 130, "Stopped by Ctrl-C.\n"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_what_a_library_makes_of_a_signal_is_no_error(
    number, exit_code, said, error
):
    code = (
        "import signal, sys\n"
        "from har_keras import cli\n"
        "from har_keras.errors import DataError\n"
        "def verb():\n"
        "    try:\n"
        f"        signal.raise_signal({int(number)})\n"
        "    except BaseException:\n"
        "        pass\n"
        f"    raise {error}\n"
        "sys.exit(cli.run_verb(verb))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (exit_code, said)


def test_messages_are_printed_once_though_others_set_logging_up():
    code = (
        "import logging\n"
        "from har_keras import cli\n"
        "def verb():\n"
        "    logging.getLogger('other').warning('theirs')\n"
        "    logging.basicConfig(level=logging.INFO)\n"
        "    logging.getLogger('har_keras.room').info('ours')\n"
        "    logging.getLogger('har_keras.room').warning('of ours')\n"
        "cli.run_verb(verb)\n"
        "print(logging.root.handlers)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stderr.splitlines() == ["theirs", "ours", "Warning: of ours"]
    assert done.stdout.strip() == "[]"


def test_the_verbs_are_listed():
    done = subprocess.run(
        [sys.executable, "-m", "har_keras"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "train" in done.stdout
    full = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -m har_keras > /dev/full'],
        capture_output=True,
        text=True,
    )
    assert full.returncode == 4
    assert full.stderr.startswith("Error: ")
    wrong = subprocess.run(
        [sys.executable, "-m", "har_keras", "trian"],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2
    assert "no verb 'trian'" in wrong.stderr


def test_help_for_a_column_ends():
    done = subprocess.run(
        [sys.executable, "-m", "har_keras.cache", "--help"],
        env=os.environ | {"COLUMNS": "1"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert b"--unused-days" in done.stdout


def test_a_resumed_run_keeps_its_options_but_for_those_given(tmp_path):
    run = Run(tmp_path / "run")
    run.create(Config().replace(epochs=7, crop_size=32, backend="jax"))
    arguments = ["--resume", str(run.path), "--wandb", "off"]
    settings = cli.parse(TrainOptions, arguments, verb="train").settings
    assert settings == run.config().replace(wandb="off")


def help_of(capsys, options, verb, flag):
    with pytest.raises(SystemExit) as exit_info:
        cli.parse(options, [flag], verb=verb)
    assert exit_info.value.code == 0
    return capsys.readouterr().out


def test_an_option_that_means_nothing_to_a_verb_is_refused(capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.parse(CheckOptions, ["--learning-rate", "3"], verb="check")
    assert exit_info.value.code == 2
    assert "--learning-rate" in capsys.readouterr().err


def test_help_shows_the_common_options_and_help_all_every_one(capsys):
    few = help_of(capsys, TrainOptions, "train", "--help")
    everything = help_of(capsys, TrainOptions, "train", "--help-all")
    assert "--help-all" in few
    assert "--epochs" in few
    assert "--weight-decay" not in few
    for name in Config().flat():
        if name not in vars(Config().masking):
            assert f"--{name.replace('_', '-')}" in everything


@pytest.mark.parametrize("verb", __main__.VERBS)
def test_help_fits_a_terminal_and_says_a_word_of_everything(
    verb, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    for options in __main__.options_of(verb).values():
        text = help_of(capsys, options, verb, "--help-all")
        body = text.splitlines()[1:]  # the terminal wraps the line of usage
        assert max(map(len, body)) <= 80
        for riddle in ("{None}", "(default: None)", "STR", "INT", "FLOAT"):
            assert riddle not in text
        made = cli.command(options, cli.default_settings(options))
        assert cli.field_docs(options).keys() >= {
            name for name in made.__dataclass_fields__ if name in vars(options)
        }


def test_a_run_gives_its_dimensions_to_what_starts_from_it(tmp_path):
    run = Run(tmp_path / "run")
    run.create(Config().replace(hidden_dim=96, crop_size=64))
    arguments = ["--weights", str(run.path), "--crop-size", "32"]
    settings = cli.parse(TrainOptions, arguments, verb="train").settings
    assert settings.model.hidden_dim == 96
    assert settings.clip.crop_size == 32
    assert settings.model.weights == str(run.path)


def test_names_that_are_no_text_are_printed(monkeypatch):
    """A UTF-8 terminal is strict, and a file's name may be any bytes."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.run_verb(lambda: print("a\udce9.mp4")) == 0
    out.flush()
    assert out.buffer.getvalue() == b"a\\udce9.mp4\n"


SLOW_TO_END = """
import atexit, signal, sys, threading
from har_keras import cli

class Slow:
    def __del__(self):
        import time
        time.sleep(30)

def verb():
    sys.kept = Slow()
    atexit.register(print, "tidied")
    threading.Thread(target=threading.Event().wait).start()
    {last}

sys.exit(cli.run_verb(verb))
"""


@pytest.mark.parametrize(
    ("last", "exit_code", "said"),
    [
        ("signal.raise_signal(signal.SIGINT)", 130, "Stopped by Ctrl-C.\n"),
        ("signal.raise_signal(signal.SIGTERM)", 143, ""),
        ("pass", 0, ""),
        # After the last line, while the program ends.
        (
            "atexit.register(signal.raise_signal, signal.SIGINT)",
            130,
            "Stopped by Ctrl-C.\n",
        ),
    ],
)
def test_at_the_end_nothing_is_waited_for(tmp_path, last, exit_code, said):
    program = tmp_path / "har-keras"
    program.write_text(SLOW_TO_END.format(last=last))
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stderr) == (exit_code, said)
    # One that comes later still ends the program where it is.
    assert done.stdout == ("" if "atexit" in last else "tidied\n")


def test_a_kernel_lives_on_after_a_verb():
    """Of `%run -m har_keras.models` in a notebook."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['models']\n"
        "for sys.argv[1:] in (['--help'], ['efficientnet-lite0']):\n"
        "    try:\n"
        "        runpy.run_module('har_keras.models', None, '__main__', True)\n"
        "    except SystemExit as end:\n"
        "        print('lives on after', end.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    lines = [x for x in done.stdout.splitlines() if x.startswith("lives")]
    assert lines == ["lives on after 0"] * 2


def verb_that_starts_a_backend():
    require_address_space(PROGRAM_BYTES, "har-keras")
    start_backend()


@pytest.mark.parametrize(
    ("limit", "needs"),
    [(4 * 10**8, "1.0 GB"), (2 * 10**9, "3.0 GB")],
)
def test_a_limit_at_which_libraries_crash_is_refused(limit, needs, monkeypatch):
    resource = pytest.importorskip("resource", reason="Windows has no limits")
    before = resource.getrlimit
    monkeypatch.setattr(
        resource,
        "getrlimit",
        lambda kind: (
            (limit, limit) if kind == resource.RLIMIT_AS else before(kind)
        ),
    )
    words = f"needs {needs} of address space.* may have {limit / 1e9:.1f}"
    with pytest.raises(EnvironmentFault, match=words):
        verb_that_starts_a_backend()
