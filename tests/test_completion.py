import shutil
import subprocess

import pytest

from har_keras import __main__

TRY = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
_har_keras
echo "${COMPREPLY[*]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "har-keras.bash"
    path.write_text(__main__.completion("bash"))
    return path


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["tr"], "train"),
        (["train", "--epo"], "--epochs"),
        (["train", "videos", "--cro"], "--crop-size"),
        (["train", "--backend", "t"], "tensorflow torch"),
        (["benchmark", "in"], "input"),
        (["train", "vid"], ""),  # the shell's own: names of files
    ],
    ids=str,
)
def test_bash_completes(script, words, answer):
    done = subprocess.run(
        ["bash", "-c", TRY, "bash", str(script), "har-keras", *words],
        capture_output=True,
        text=True,
    )
    assert sorted(done.stdout.split()) == answer.split(), done.stderr


def test_zsh_has_a_script():
    script = __main__.completion("zsh")
    assert "har-keras" in script
    assert "--learning-rate" in script


def test_tyros_own_flag_works(capsys):
    assert __main__.main(["--tyro-print-completion", "bash"]) == 0
    assert "complete -o default -F _har_keras" in capsys.readouterr().out
