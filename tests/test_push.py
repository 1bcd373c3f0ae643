"""A trained run on a hub and back, by way of a stand-in for it."""

import io
import json
import logging
import shutil
import zipfile
from pathlib import Path

import pytest
from support.stand_in_hub import Model, StandInHub, model_files
from support.videos import draw_video

import har_keras
from har_keras import evaluate as evaluate_verb
from har_keras import export as export_verb
from har_keras import predict as predict_verb
from har_keras import push as verb
from har_keras.app.server import app
from har_keras.config import Config
from har_keras.damaged import read_json
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.hub_run import local_run, pinned
from har_keras.label import __main__ as label_verb
from har_keras.manifest.manifest import Manifest
from har_keras.push import push
from har_keras.run import Run
from har_keras.serve.exports import find_sources
from har_keras.toml import write_toml

huggingface_hub = pytest.importorskip(
    "huggingface_hub", reason="needs the extra hub"
)

# Of huggingface_hub 2.4, which sends a file as its HTTP library has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")
NAME = "ann/door"
PUSHED = {
    "README.md", "config.toml", "model.keras", "class_names.json",
    "calibration.json", "confusion.png",
}  # fmt: skip
NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nothing listens


@pytest.fixture
def server():
    server = StandInHub()
    yield server
    server.close()


@pytest.fixture
def point_to(point_to, monkeypatch):
    """That of every test, with a token."""
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    return point_to


@pytest.fixture
def cache(server, point_to):
    return point_to(server.endpoint)


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of a run, with the options of somebody who has secrets."""
    run = Run(shutil.copytree(tiny_run.path, tmp_path / "clinic-17"))
    config = run.config().replace(
        weights="/home/ann/patients/first", group_by=r"patient(\d+)",
        wandb_project="secret-study", coordinator="node7.clinic:99",
    )  # fmt: skip
    write_toml(config, run.config_file)
    return run


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "new.mp4"
    draw_video(path, direction=-1, num_frames=30)
    return path


def files_of(server, name=NAME):
    model = server.models[name]
    return model.commits[model.refs["main"]]


@pytest.mark.usefixtures("cache")
def test_a_pushed_run_predicts_the_same(server, run, video, capsys, caplog):
    pushed = push(run, NAME)
    assert set(files_of(server)) == PUSHED | {".gitattributes"}
    assert pushed.name == f"hf://{NAME}@{server.models[NAME].refs['main']}"
    assert pushed.url.startswith(f"{server.endpoint}/{NAME}/commit/")
    ours = har_keras.load(run.path)
    capsys.readouterr()
    theirs = har_keras.load(f"hf://{NAME}")
    assert f"'hf://{NAME}' is now '{pushed.name}'." in capsys.readouterr().out
    assert theirs.class_names == ours.class_names == ("down", "up")
    assert theirs.predict(video) == ours.predict(video)
    assert har_keras.load(pushed.name).predict(video) == ours.predict(video)
    for use in (lambda: theirs.evaluation, theirs.export, theirs.clips):
        with pytest.raises(UsageError, match="needs the folder of a run"):
            use()


@pytest.mark.usefixtures("cache")
def test_only_what_loading_needs_is_asked_for(server, run, video):
    push(run, NAME)
    model = server.models[NAME]
    model.push(files_of(server) | {
        "pytorch_model.bin": b"a pickle", "model.pkl": b"a pickle",
        "modeling.py": b"raise SystemExit", "saved_model/1/saved_model.pb": b"",
    })  # fmt: skip
    har_keras.load(f"hf://{NAME}")
    assert server.files_asked == PUSHED - {"README.md", "confusion.png"}


def secrets_of(run):
    """Returns what nobody else should see."""
    manifest = Manifest.read(run.manifest_file)
    names = {x for v in manifest.videos for x in (v.file, Path(v.file).stem)}
    return names | {v.sha256 for v in manifest.videos} | {
        str(run.path), run.path.name, str(manifest.root), str(Path.home()),
        str(run.config().store.store_dir), "patient", "secret-study", "node7",
    }  # fmt: skip


@pytest.mark.usefixtures("cache")
def test_nothing_of_the_videos_and_of_this_machine_is_pushed(server, run):
    texts = {run.manifest_file, run.config_file}
    there = "".join(x.read_text("utf-8") for x in texts)
    assert all(x in there for x in secrets_of(run) - {str(run.path)} if "/" in x
               and x != str(Path.home()))  # fmt: skip
    push(run, NAME, saved_model=True)
    files = dict(files_of(server))
    with zipfile.ZipFile(io.BytesIO(files["model.keras"])) as archive:
        files |= {f"model/{x}": archive.read(x) for x in archive.namelist()}
    assert any(name.startswith("saved_model/1/") for name in files)
    for name, data in files.items():
        for secret in secrets_of(run):
            assert secret.encode() not in data, (secret, name)
    config = files["config.toml"].decode()
    assert 'weights = "local"' in config
    assert "store_dir" not in config


@pytest.mark.usefixtures("cache")
def test_the_name_of_a_backbone_here_stays_here(server, run, tiny_run):
    from har_keras.backbones.classifier import build_classifier

    config = Config().replace(
        backbone=str(tiny_run.path), num_frames=4, crop_size=32, hidden_dim=8,
        num_layers=1, num_heads=2, mlp_dim=8,
    )  # fmt: skip
    model = build_classifier(config, num_classes=2)
    assert str(tiny_run.path) in json.dumps(model.backbone.get_config())
    model.save(run.model_file)
    write_toml(config, run.config_file)
    figures = read_json(run.evaluation_file)
    figures["backbone"] = model.backbone.described()
    run.evaluation_file.write_text(json.dumps(figures))
    push(run, NAME)
    files = files_of(server)
    with zipfile.ZipFile(io.BytesIO(files["model.keras"])) as archive:
        files = files | {"in it": archive.read("config.json")}
    for data in files.values():
        assert str(tiny_run.path).encode() not in data
    assert b"`local`, whose weights are from a run" in files["README.md"]
    theirs = har_keras.load(f"hf://{NAME}")
    for one, other in zip(
        theirs.model.get_weights(), model.get_weights(), strict=True
    ):
        assert (one == other).all()


@pytest.mark.usefixtures("cache")
def test_the_card_says_how_to_use_it(server, run):
    base = "MCG-NJU/videomae-base@" + 40 * "a"
    write_toml(run.config().replace(weights=base), run.config_file)
    push(run, NAME, license="cc-by-4.0")
    card = files_of(server)["README.md"].decode()
    assert 'license: "cc-by-4.0"\n' in card
    assert 'base_model: "MCG-NJU/videomae-base"\n' in card
    assert "\n# door\n" in card
    assert f'har_keras.VideoClassifier.load("hf://{NAME}")' in card
    assert f"har-keras predict hf://{NAME} video.mp4" in card
    assert "manifest.csv" not in card
    assert "(confusion.png)" in card


@pytest.mark.usefixtures("cache")
def test_it_is_private_unless_said_otherwise(server, run, monkeypatch):
    assert push(run, NAME).is_private
    assert not push(run, "lab/door", public=True).is_private
    assert server.models[NAME].private
    assert not server.models["lab/door"].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UsageError, match="'hf://ann/door' is no model of the"):
        har_keras.load(f"hf://{NAME}")
    assert har_keras.load("hf://lab/door").class_names == ("down", "up")


@pytest.mark.usefixtures("cache")
def test_a_second_push_is_a_commit_on_top(server, run, video, capsys):
    first = push(run, NAME, saved_model=True)
    model = server.models[NAME]
    model.push(files_of(server) | {"LICENSE": b"mine"})
    last = model.refs["main"]
    run.calibration_file.write_text(
        '{"temperature": 3.0, "window_temperature": 3.0, "num_videos": 9}'
    )
    assert verb.main([str(run.path), NAME]) == 0
    out = capsys.readouterr().out
    assert f"Before: hf://{NAME}@{last}\n" in out
    # What the user put there stays, and no old export beside the new model.
    assert set(files_of(server)) == PUSHED | {".gitattributes", "LICENSE"}
    confidences = {
        har_keras.load(x).predict(video).confidence
        for x in (first.name, f"hf://{NAME}")
    }
    assert len(confidences) == 2
    again = push(run, NAME)
    assert again.earlier == ""
    assert again.name == f"hf://{NAME}@{model.refs['main']}"


@pytest.mark.usefixtures("cache")
def test_a_change_meanwhile_is_not_lost(server, run, monkeypatch):
    push(run, NAME)
    found = verb.Place.found

    def found_late(*args, **options):
        place = found(*args, **options)
        model = server.models[NAME]
        model.push(files_of(server) | {"LICENSE": b"mine"})
        return place

    monkeypatch.setattr(verb.Place, "found", found_late)
    with pytest.raises(EnvironmentFault, match="changed meanwhile: push again"):
        push(run, NAME)
    assert "LICENSE" in files_of(server)


def unfinished(run):
    run.model_file.unlink()


def unmeasured(run):
    run.evaluation_file.unlink()


def truncated(run):
    run.model_file.write_bytes(run.model_file.read_bytes()[:-50])


def other_figures(run):
    run.evaluation_file.write_text('{"split": "test"}')


def pretraining(run):
    write_toml(run.config().changed({"recipe": "pretrain"}), run.config_file)


def other_classes(run):
    lines = run.manifest_file.read_text().splitlines(keepends=True)
    left = [x for x in lines if ",down," not in x]
    run.manifest_file.write_text("".join(left))


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unfinished, r"has no model\.keras: it was not finished"),
        (unmeasured, r"has no evaluation\.json: it was not finished, or not"),
        (truncated, r"model\.keras' is damaged \(.*\. Copy it again"),
        (other_figures, "is damaged, or of an earlier version: it lacks"),
        (pretraining, "is a run of pretrain, which has no classes"),
        (other_classes, "does not fit the run's config.toml"),
    ],
)
def test_a_run_that_others_could_not_use_is_refused(
    change, words, server, run, capsys
):
    change(run)
    assert verb.main([str(run.path), NAME]) == 3
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("Error: ")
    with pytest.raises(DataError, match=words):
        push(run, NAME)
    assert server.writes == []


@pytest.mark.parametrize(
    ("name", "flags", "token", "code", "words"),
    [
        ("door", [], "hf_write", 2, "Expected OWNER/NAME, of letters"),
        ("a/b/c", [], "hf_write", 2, "Expected OWNER/NAME"),
        ("ann/a--b", [], "hf_write", 2, "Expected OWNER/NAME"),
        ("ann/door@v1", [], "hf_write", 2, "without a revision. Received: ann"),
        ("ann/" + 93 * "a", [], "hf_write", 2, "Expected OWNER/NAME"),
        ("ann/a b", [], "hf_write", 2, "Expected OWNER/NAME"),
        (NAME, ["--license", "My own"], "hf_write", 2, "--license must be a"),
        (NAME, [], "", 4, "needs a token with the right to write, and there"),
        (NAME, [], "hf_read", 4, "The token of 'ann' may only read."),
        (NAME, [], "hf_wrong", 4, "Check HF_TOKEN."),
        ("bob/door", [], "hf_write", 4, "no right to write to 'bob'. It has "
                                        "that for ann, lab."),
        ("school/door", [], "hf_write", 4, "no right to write to 'school'"),
        ("lab/other", [], "hf_write", 2, "is no model of har_keras: it has "
                                         "'config.json', "),
        ("lab/seen", [], "hf_write", 2, "is there and public, which a push "),
        ("lab/kept", ["--public"], "hf_write", 2, "To push to it, leave out"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("cache")
def test_a_place_that_is_wrong_is_refused_before_a_file_is_sent(
    name, flags, token, code, words, server, run, monkeypatch, capsys
):
    own = dict.fromkeys(PUSHED, b"")
    server.models |= {
        "lab/other": Model.of(model_files("vit"), private=True),
        "lab/seen": Model.of(own),
        "lab/kept": Model.of(own, private=True),
    }
    monkeypatch.setenv("HF_TOKEN", token)
    assert verb.main([str(run.path), name, *flags]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    assert "hf_" not in line.replace("hf_hub", "")
    assert server.writes == []


@pytest.mark.usefixtures("cache")
def test_what_the_hub_refuses_is_one_sentence(server, run, monkeypatch, capsys):
    assert verb.main([str(run.path), NAME, "--license", "nonsense"]) == 2
    (*_, line) = capsys.readouterr().err.splitlines()
    assert "refused the model card of" in line
    assert '"license" must be one of' in line
    monkeypatch.setenv("HF_TOKEN", "hf_fineGrained")
    assert verb.main([str(run.path), "ann/new"]) == 4
    (*_, line) = capsys.readouterr().err.splitlines()
    assert "Its token needs the right to write there" in line
    assert "ann/new" not in server.models
    # The place that was made for the refused one is empty, and can be used.
    assert push(run, NAME).name.startswith(f"hf://{NAME}@")


@pytest.mark.parametrize(
    ("endpoint", "offline", "words"),
    [
        (NOWHERE, False, "Check the network and HF_ENDPOINT"),
        (NOWHERE, True, "Unset HF_HUB_OFFLINE"),
    ],
)
def test_without_a_network_nothing_is_pushed(
    endpoint, offline, words, point_to, run
):
    point_to(endpoint, offline=offline)
    with pytest.raises(EnvironmentFault, match=words) as caught:
        push(run, NAME)
    assert "\n" not in str(caught.value)


def test_offline_and_without_an_answer_the_cache_is_enough(
    server, cache, point_to, run, video, caplog
):
    push(run, NAME)
    online = har_keras.load(f"hf://{NAME}").predict(video)
    server.log.clear()
    point_to(server.endpoint, offline=True)
    assert har_keras.load(f"hf://{NAME}").predict(video) == online
    assert server.log == []
    with pytest.raises(EnvironmentFault, match=r"^'hf://ann/x' is not in the"):
        har_keras.load("hf://ann/x")
    point_to(NOWHERE)
    with caplog.at_level(logging.WARNING):
        assert pinned(f"hf://{NAME}").startswith(f"hf://{NAME}@")
    assert "is taken from the cache, as the hub gave no answer" in caplog.text


def test_a_damaged_download_is_replaced_by_the_next(server, cache, run):
    push(run, NAME)
    good = files_of(server)["model.keras"]
    model = server.models[NAME]
    middle = len(good) // 2
    bad = good[:middle] + bytes(64) + good[middle + 64 :]
    model.answers["model.keras"] = bad
    with pytest.raises(DataError, match=r"The model\.keras of .* is damaged"):
        har_keras.load(f"hf://{NAME}")
    model.answers.clear()
    assert har_keras.load(f"hf://{NAME}").class_names == ("down", "up")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("where", "error", "words"),
    [
        ("hf://ann", UsageError, "is no address of a model. Expected hf://own"),
        ("hf://a/b/c", UsageError, "is no address of a model"),
        ("hf://ann/../x", UsageError, "is no address of a model"),
        ("hf://ann/none", UsageError, "^'hf://ann/none' is no model of the"),
        ("hf://ann/door@v9", UsageError, "has ann/door, but no revision 'v9'"),
        ("hf://lab/vit", UsageError, r"has no config\.toml, so it is no model"),
        ("hf://lab/half", DataError, r"has no model\.keras, without which it"),
    ],
)
def test_what_is_no_run_on_the_hub_is_named(where, error, words, server, run):
    push(run, NAME)
    half = {x: y for x, y in files_of(server).items() if x != "model.keras"}
    server.models["lab/vit"] = Model.of(model_files("vit"))
    server.models["lab/half"] = Model.of(half)
    with pytest.raises(error, match=words) as caught:
        har_keras.load(where)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("cache")
def test_a_list_of_classes_that_is_wrong(server, run):
    push(run, NAME)
    wrong = {"class_names.json": b'{"class_names": ["up", 3]}'}
    server.models["lab/x"] = Model.of(files_of(server) | wrong)
    with pytest.raises(DataError, match="no list of different texts"):
        har_keras.load("hf://lab/x")


@pytest.mark.usefixtures("cache")
def test_verbs_take_the_address(server, run, video, few_videos, capsys):
    push(run, NAME)
    where = f"hf://{NAME}"
    assert predict_verb.main([where, str(video), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prediction"] == har_keras.load(run.path).predict(video).label
    flags = ["--videos", str(few_videos), "--output", "figures"]
    assert evaluate_verb.main([where, *flags]) == 0
    assert read_json(Path("figures/evaluation.json"))["num_videos"] == 8
    assert evaluate_verb.main([where]) == 2
    assert "Name a folder of them with --videos." in capsys.readouterr().err
    pytest.importorskip("uvicorn", reason="needs the extra app")
    with app(where, port=0) as address:
        assert address.startswith("http://127.0.0.1:")


@pytest.mark.usefixtures("cache")
def test_verbs_that_need_a_folder_say_how_to_get_one(
    server, run, few_videos, capsys
):
    push(run, NAME)
    how = f"hf download {NAME} --local-dir FOLDER"
    where = f"hf://{NAME}@v1"
    for main, flags in (
        (export_verb.main, [where]),
        (label_verb.main, [str(few_videos), "--run", where]),
        (push_main := verb.main, [where, NAME]),
    ):
        assert main(flags) == 2
        assert how in capsys.readouterr().err, main is push_main
    with pytest.raises(UsageError, match="which predict, evaluate, app"):
        find_sources([f"door={where}"])


@pytest.mark.usefixtures("cache")
def test_a_downloaded_folder_is_exported_and_evaluated(
    server, run, few_videos, tmp_path, capsys
):
    push(run, NAME)
    folder = Path(shutil.copytree(local_run(f"hf://{NAME}"), "folder"))
    assert export_verb.main([str(folder)]) == 0
    assert har_keras.load(folder / "saved_model/1").class_names == (
        "down", "up",
    )  # fmt: skip
    assert evaluate_verb.main([str(folder)]) == 3
    assert "has no manifest.csv, as a model from a hub" in (
        capsys.readouterr().err
    )
    flags = ["--videos", str(few_videos), "--output", str(tmp_path / "out")]
    assert evaluate_verb.main([str(folder), *flags]) == 0
