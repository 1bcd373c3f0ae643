"""Initial weights by their name on a hub, from a stand-in for it."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from support.moving_squares import SquaresStore, squares_manifest
from support.stand_in_hub import (
    Model,
    StandInHub,
    config_of,
    model_files,
)

from har_keras import cli, pretrain, train
from har_keras.config import Config
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.hub import HubName, hub_name
from har_keras.hub_config import options_of
from har_keras.model.build import build_model
from har_keras.model.options import transformer_options
from har_keras.pretrain import PretrainOptions
from har_keras.recipes import PRESETS
from har_keras.run import Run, with_model_of_weights
from har_keras.train import TrainOptions
from har_keras.training.fit import fit
from har_keras.training.initial_weights import (
    exact_weights,
    initialize_weights,
    require_weights,
)

huggingface_hub = pytest.importorskip(
    "huggingface_hub", reason="needs the extra hub"
)

FAMILIES = ("vivit", "videomae", "timesformer", "vit")
BASE = {
    "vivit": "vivit-b-16x2",
    "videomae": "videomae-b",
    "timesformer": "timesformer-b",
    "vit": "tiny",
}
ALLOWED = {"config.json", "preprocessor_config.json", "model.safetensors"}
NOWHERE = "http://127.0.0.1:9"  # the port of "discard", where nothing listens


@pytest.fixture
def server():
    server = StandInHub()
    server.models |= {f"lab/{x}": Model.of(model_files(x)) for x in FAMILIES}
    yield server
    server.close()


@pytest.fixture
def cache(server, point_to):
    return point_to(server.endpoint)


def in_cache(cache):
    """Returns the names of the files in the cache that hold content."""
    return {file.name for file in cache.glob("models--*/snapshots/*/*")}


def started(weights, **options):
    """Returns the model that training with these options starts from."""
    options = with_model_of_weights({"weights": weights, **options})
    config = Config().replace(**options)
    model = build_model(config.model, config.clip, num_classes=3, seed=0)
    initialize_weights(model, config.model.weights)
    return model


def assert_same(model, expected):
    values = zip(model.weights, expected.weights, strict=True)
    for one, other in values:
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one.value),
            keras.ops.convert_to_numpy(other.value),
            err_msg=one.path,
        )


def from_file(family, folder):
    """Returns the same model as people make it from downloaded files."""
    folder.mkdir()
    for name, data in model_files(family).items():
        (folder / name).write_bytes(data)
    options = {
        "preset": BASE[family], "hidden_dim": 16, "num_layers": 2,
        "num_heads": 2, "mlp_dim": 32, "crop_size": 32,
    }  # fmt: skip
    if family == "vit":
        options |= {"pooling": "class_token"}
    else:
        options |= {"num_frames": 4}
    return started(str(folder / "model.safetensors"), **options)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_and_its_file_give_the_same_model(family, tmp_path):
    model = started(f"lab/{family}")
    expected = from_file(family, tmp_path / "files")
    assert_same(model, expected)
    for name in ("activation", "position_kind", "key_bias", "norm_epsilon"):
        assert getattr(model, name) == getattr(expected, name)
    shape = (1, model.num_frames, 32, 32, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    logits, wanted = (
        keras.ops.convert_to_numpy(x.logits(clips)) for x in (model, expected)
    )
    assert np.ptp(logits) > 0
    np.testing.assert_array_equal(logits, wanted)


def test_only_json_and_safetensors_are_asked_for(server, cache):
    for family in FAMILIES:
        started(f"lab/{family}")
    assert server.files_asked == ALLOWED
    assert in_cache(cache) == ALLOWED
    places = {path.split("/")[1] for path in server.log}
    assert places == {"api", "lab", "content"}
    apis = [path for path in server.log if path.startswith("/api/")]
    assert all(path.startswith("/api/models/lab/") for path in apis)


# Those of which transformers has a model.
@pytest.mark.parametrize(
    "preset", sorted({*PRESETS} - {"tiny", "vivit-b-16x2-fe"})
)
def test_a_published_model_has_the_options_of_its_preset(preset):
    config = Config().replace(preset=preset)
    dims, family = config.model, preset.partition("-")[0]
    settings = config_of(
        family, hidden_size=dims.hidden_dim, num_hidden_layers=dims.num_layers,
        num_attention_heads=dims.num_heads, intermediate_size=dims.mlp_dim,
        image_size=224, num_frames=config.clip.num_frames,
    )  # fmt: skip
    assert Config().replace(**options_of(settings, "owner/name")) == config


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_config_leaves_out_is_that_of_its_family(family):
    found = options_of({"model_type": family}, "owner/name")
    assert found["preset"] == BASE[family]
    assert (found["hidden_dim"], found["crop_size"]) == (768, 224)
    # Trained on images, it says nothing about time.
    assert ("fps" in found) == ("num_frames" in found) == (family != "vit")


def test_a_model_of_another_size_keeps_the_settings_of_its_family():
    settings = config_of("videomae", hidden_size=1280, num_attention_heads=16)
    config = Config().replace(**options_of(settings, "owner/huge"))
    assert config.model.hidden_dim == 1280
    assert config.clip.fps == 6.25
    options = transformer_options(config.model)
    assert options["positions"] == "sinusoid"
    assert not options["key_bias"]


@pytest.mark.parametrize(
    ("family", "changes", "error", "words"),
    [
        ("vit", {"hidden_act": "relu"}, UsageError, "hidden_act relu"),
        ("vivit", {"hidden_act": "gelu"}, UsageError, "must be gelu_fast"),
        ("vit", {"num_channels": 1}, UsageError, "num_channels 1, .* be 3"),
        ("vit", {"layer_norm_eps": 0.1}, UsageError, "layer_norm_eps 0.1"),
        ("vivit", {"tubelet_size": [2, 16, 8]}, UsageError, "the last two"),
        (
            "timesformer",
            {"attention_type": "space_only"},
            UsageError,
            "attention_type space_only, .* divided_space_time",
        ),
        (
            "vit",
            {"hidden_size": "16"},
            DataError,
            "hidden_size must be a whole",
        ),
        (
            "vit",
            {"image_size": [8, 8]},
            DataError,
            "image_size must be a whole",
        ),
        ("vit", {"num_hidden_layers": 0}, DataError, "at least 1. Received: 0"),
    ],
)
def test_a_setting_that_the_model_lacks_is_named(family, changes, error, words):
    with pytest.raises(error, match=words):
        options_of(config_of(family, **changes), "owner/name")


@pytest.mark.usefixtures("cache")
def test_options_that_are_given_take_precedence():
    model = started("lab/vivit", num_frames=8, crop_size=64, fps=5.0)
    assert model.position_grid == (4, 4, 4)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("options", "verb"),
    [(TrainOptions, "train"), (PretrainOptions, "pretrain")],
)
def test_flags_have_the_model_of_the_name(options, verb):
    flags = ["videos", "--weights", "lab/videomae", "--num-frames", "8"]
    if verb == "train":
        flags += ["--recipe", "small-data"]
    config = cli.parse(options, flags, verb=verb).settings
    assert config.model.preset.startswith("videomae-")
    assert (config.model.hidden_dim, config.model.stem) == (16, "pixels")
    assert (config.clip.num_frames, config.clip.fps) == (8, 6.25)
    assert config.training.epochs > 0


@pytest.mark.usefixtures("cache")
def test_a_run_records_the_commit(server, few_videos, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_train_and_test", lambda run, *_: run)
    monkeypatch.setattr(pretrain, "_pretrain", lambda run, *_: run)
    options = with_model_of_weights({"weights": "lab/vivit@main"})
    options |= {"cache": "jpeg", "store_dir": tmp_path / "store"}
    run = train.train(few_videos, "run", Config().replace(**options))
    commit = server.models["lab/vivit"].refs["main"]
    assert run.config().model.weights == f"lab/vivit@{commit}"

    config = Config().replace(recipe="pretrain", **options)
    run = pretrain.pretrain(few_videos, "pretrained", config)
    assert run.config().model.weights == f"lab/vivit@{commit}"


@pytest.mark.usefixtures("cache")
def test_branches_and_tags_name_a_commit_that_stays(server):
    vit = server.models["lab/vit"]
    first = exact_weights("lab/vit")
    vit.refs["v1"] = vit.refs["main"]
    vit.push(model_files("vit", seed=1))
    second = exact_weights("lab/vit")
    assert first != second == f"lab/vit@{vit.refs['main']}"
    assert exact_weights("lab/vit@v1") == first
    before = len(server.log)
    assert exact_weights(first) == first
    assert_same(started(first), started("lab/vit@v1"))
    assert set(server.log[before:]) == {
        "/api/models/lab/vit/revision/v1",
        "/lab/vit/resolve/v1/config.json",
    }


@pytest.mark.usefixtures("without_xla")
def test_a_run_resumes_without_the_hub(server, cache, point_to, tmp_path):
    name = exact_weights("lab/vivit")
    config = Config().replace(
        **with_model_of_weights({"weights": name}), batch_size=8, epochs=1,
        wandb="off",
    )  # fmt: skip
    run = Run.new(tmp_path / "run")
    run.create(config)
    manifest = squares_manifest(run.path, num_videos=8, splits=("train",))
    fit(run, config, SquaresStore(config.clip), manifest)
    server.log.clear()
    cache.rename(tmp_path / "elsewhere")
    point_to(server.endpoint)
    flags = ["--resume", str(run.path)]
    assert cli.parse(TrainOptions, flags, verb="train").settings == config
    fit(run, config, SquaresStore(config.clip), manifest)
    assert server.log == []


def test_offline_the_cache_is_enough(server, cache, point_to, caplog):
    online = started("lab/videomae")
    server.log.clear()
    point_to(server.endpoint, offline=True)
    assert require_weights("lab/videomae") == "hub"
    assert_same(started("lab/videomae"), online)
    assert server.log == []
    assert "is taken from the cache" not in caplog.text


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("is_down", [False, True])
def test_without_an_answer_the_cache_is_used_and_it_is_said(
    is_down, server, point_to, caplog
):
    expected = exact_weights("lab/vit")
    server.down = True
    point_to(server.endpoint if is_down else NOWHERE)
    with caplog.at_level(logging.WARNING):
        assert exact_weights("lab/vit") == expected
    assert "'lab/vit' is taken from the cache, as the hub" in caplog.text


def test_a_model_without_scaling_has_that_of_its_family(
    server, cache, point_to
):
    files = model_files("vit")
    del files["preprocessor_config.json"]
    server.models["lab/plain"] = Model.of(files)
    online = started("lab/plain")
    point_to(server.endpoint, offline=True)  # It is known that there is none.
    assert_same(started("lab/plain"), online)
    kernels = [
        keras.ops.convert_to_numpy(x.embedding.kernel.value)
        for x in (online, started("lab/plain", preset="tiny"))
    ]
    np.testing.assert_array_equal(*kernels)
    # 1 / 0.5 / 2, the middle frame of a tubelet of two.
    patch = safetensors.numpy.load(files["model.safetensors"])[
        "vit.embeddings.patch_embeddings.projection.weight"
    ]
    np.testing.assert_allclose(
        kernels[0][1], patch.transpose(2, 3, 1, 0), rtol=1e-6
    )


@pytest.mark.usefixtures("cache")
def test_the_encoder_of_a_masked_autoencoder(server):
    """It has a decoder, no head, and a norm that fine-tuning leaves out."""
    files = model_files("videomae", use_mean_pooling=False)
    weights = safetensors.numpy.load(files["model.safetensors"])
    for name in ("fc_norm", "classifier"):
        del weights[f"{name}.weight"], weights[f"{name}.bias"]
    weights["decoder.norm.weight"] = np.zeros(8, "float32")
    weights["videomae.layernorm.weight"] = np.zeros(16, "float32")
    files["model.safetensors"] = safetensors.numpy.save(weights)
    server.models["lab/mae"] = Model.of(files)
    mae, whole = started("lab/mae"), started("lab/videomae")
    assert mae.pooling == "mean_norm"
    for one, other in zip(mae.blocks, whole.blocks, strict=True):
        assert_same(one, other)
    norm = keras.ops.convert_to_numpy(mae.norm.gamma.value)
    np.testing.assert_array_equal(norm, np.ones(16))


def test_offline_scaling_that_was_never_asked_for_is_missed(
    server, cache, point_to
):
    """Another program's cache may lack the file that the pixels need."""
    exact_weights("lab/vit")
    (scaling,) = cache.rglob("preprocessor_config.json")
    scaling.unlink()
    point_to(server.endpoint, offline=True)
    with pytest.raises(EnvironmentFault, match="Unset HF_HUB_OFFLINE"):
        require_weights("lab/vit")


def changed(**files):
    """Returns a model's files with some other ones; None removes one."""
    names = {"config": "config.json", "weights": "model.safetensors"}
    made = model_files("vit") | {names.get(k, k): v for k, v in files.items()}
    return {name: data for name, data in made.items() if data is not None}


def arrays(**values):
    return safetensors.numpy.save({"x": np.zeros(3, "float32")} | values)


SHARDS = {
    "model.safetensors.index.json": b"{}",
    "model-00001-of-00002.safetensors": b"",
}
WHOLE = model_files("vit")["model.safetensors"]
FAULTS = {
    "unknown": (
        None, "lab/unknown", UsageError,
        "neither a file or folder here nor a model of the hub",
    ),
    "invalid": (
        None, "lab/un--known", UsageError, "neither a file or folder here"
    ),
    "revision": (
        Model.of(model_files("vit")), "lab/x@v9", UsageError,
        r"has lab/x, but no revision 'v9' of it",
    ),
    "gated": (
        Model.of(model_files("vit"), gated=True), "lab/x", EnvironmentFault,
        r"is gated. Accept its terms on http://.*/lab/x and set HF_TOKEN",
    ),
    "bert": (
        Model.of(changed(config=b'{"model_type": "bert"}')), "lab/x",
        UsageError, "is a model of the type bert. Choose a ViViT",
    ),
    "no config": (
        Model.of(changed(config=None)), "lab/x", UsageError,
        "has no config.json, so it is no model of transformers",
    ),
    "pickle": (
        Model.of(changed(weights=None)), "lab/x", UsageError,
        r"only format that is read. It has pytorch_model.bin. Choose a",
    ),
    "shards": (
        Model.of(changed(weights=None) | SHARDS), "lab/x", UsageError,
        "has its weights in several files",
    ),
    "not json": (
        Model.of(changed(config=b"<html>")), "lab/x", DataError,
        "The config.json of .* is damaged",
    ),
    "a list": (
        Model.of(changed(config=b"[1]")), "lab/x", DataError,
        "The config.json of .* is damaged",
    ),
    "damaged": (
        Model.of(changed(weights=WHOLE[:-9])), "lab/x", DataError,
        r"The model.safetensors of .* is damaged .*the same command",
    ),
    "truncated": (
        Model.of(
            model_files("vit"), answers={"model.safetensors": WHOLE[:-9]}
        ),
        "lab/x", EnvironmentFault, "could not be downloaded .*file should be",
    ),
    "other weights": (
        Model.of(changed(weights=arrays())), "lab/x", UsageError,
        "is a vit by its config.json, but not by its weights, such as 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_one_sentence_before_a_video_is_read(
    case, server, cache, tmp_path, capsys
):
    model, name, error, words = FAULTS[case]
    if model:
        server.models["lab/x"] = model
    with pytest.raises(error, match=words) as caught:
        require_weights(name)
    assert "\n" not in str(caught.value)
    assert "model.safetensors" not in in_cache(cache) or case == "other weights"
    if huggingface_hub.__version__ >= "2":  # 1 keeps a part, to resume it.
        assert not [*cache.rglob("*.incomplete")]
    assert server.files_asked <= ALLOWED

    flags = [str(tmp_path / "no folder"), "--weights", name, "--run-dir", "run"]
    assert train.main(flags) == error.exit_code
    errors = capsys.readouterr().err.splitlines()
    assert errors[-1].startswith("Error: ")
    assert "no folder" not in errors[-1]
    assert not Path("run").exists()


def test_a_damaged_file_is_downloaded_again(server, cache):
    good = model_files("vit")
    server.models["lab/x"] = model = Model.of(good)
    model.answers["model.safetensors"] = WHOLE[:8] + bytes(len(WHOLE) - 8)
    with pytest.raises(DataError, match="removed from the cache"):
        require_weights("lab/x")
    model.answers.clear()
    assert require_weights("lab/x") == "hub"
    assert in_cache(cache) == ALLOWED


@pytest.mark.parametrize(
    ("endpoint", "offline", "words"),
    [
        (NOWHERE, False, r"could not be downloaded .*127\.0\.0\.1:9 \(.*refus"),
        (NOWHERE, True, "not in the cache .* offline. Unset HF_HUB_OFFLINE"),
    ],
)
def test_no_network_and_nothing_cached(endpoint, offline, words, point_to):
    cache = point_to(endpoint, offline=offline)
    with pytest.raises(EnvironmentFault, match=words):
        require_weights("lab/vit")
    assert not cache.exists()


def test_a_password_in_the_address_of_the_hub_is_not_printed(point_to):
    point_to(NOWHERE.replace("://", "://me:secret@"))
    with pytest.raises(EnvironmentFault, match=r"127\.0\.0\.1:9") as it:
        require_weights("lab/vit")
    assert "secret" not in str(it.value)


@pytest.mark.usefixtures("cache")
def test_a_wrong_token_is_named(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(EnvironmentFault, match=r"401 .*Check HF_TOKEN") as it:
        require_weights("lab/vit")
    assert "hf_wrong" not in str(it.value)


def test_no_answer_that_names_a_commit(server, cache):
    server.models["lab/x"] = Model({"odd": model_files("vit")}, {"main": "odd"})
    with pytest.raises(EnvironmentFault, match="names no commit of 'lab/x'"):
        require_weights("lab/x")


def test_without_the_extra_its_install_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        EnvironmentFault, match=r'pip install "har_keras\[hub\]'
    ):
        require_weights("lab/vit")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("a/b", HubName("a/b")),
        ("MCG-NJU/videomae-base", HubName("MCG-NJU/videomae-base")),
        ("a/b.c-1@refs/pr/1", HubName("a/b.c-1", "refs/pr/1")),
        ("a/b/c", None),
        ("b", None),
        ("a/b@", None),
        ("a/b@v1@v2", None),
        ("a/b@../../x", None),
        ("../b", None),
        ("./b", None),
        ("/a/b", None),
        ("~/b", None),
        ("a/b c", None),
        ("a/b\n", None),
        ("a\\b", None),
        ("models/vit.safetensors", None),
        ("runs/typo", None),  # There is a folder of runs.
        ("runs/typo@main", HubName("runs/typo", "main")),
        ("runs/first", None),
        ("runs/first@v1", None),
        ("", None),
    ],
)
def test_forms_of_names(weights, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/first").mkdir(parents=True)
    Path("runs/first@v1").mkdir()
    assert hub_name(weights) == expected


def test_a_file_or_folder_here_takes_precedence(server, cache):
    Run("lab/vit").create(Config().replace(hidden_dim=8))
    with pytest.raises(DataError, match=r"has no model\.keras yet"):
        require_weights("lab/vit")
    assert with_model_of_weights({"weights": "lab/vit"})["hidden_dim"] == 8
    with pytest.raises(UsageError, match="no file or folder of that name"):
        require_weights("lab/vitt")
    assert server.log == []


def test_the_environment_is_heard(server, tmp_path):
    """In a process of its own, as huggingface_hub reads it when it starts."""
    code = (
        "import sys; from har_keras.train import main; sys.exit(main(["
        "'no folder', '--weights', 'lab/vit', '--run-dir', 'run']))"
    )
    environment = os.environ | {
        "HF_ENDPOINT": server.endpoint,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN": "hf_secret",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    first, *_, last = done.stderr.splitlines()
    commit = server.models["lab/vit"].refs["main"]
    assert first == f"Downloading the weights of 'lab/vit@{commit}'."
    assert "no folder" in last
    assert "%|" not in done.stderr
    assert "hf_secret" not in done.stderr
    assert in_cache(tmp_path / "cache") == ALLOWED
    assert server.files_asked == ALLOWED
    # Telemetry would tell the versions of other packages.
    assert any("hf_hub/" in headers for headers in server.headers)
    assert not any("torch/" in headers for headers in server.headers)
    server.log.clear()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "no folder" in done.stderr
    assert server.log == []


def test_settings_that_are_no_json_object_are_removed_from_the_cache(
    server, cache
):
    server.models["lab/x"] = Model.of(changed(config=b"[1]"))
    with pytest.raises(DataError):
        require_weights("lab/x")
    assert "config.json" not in in_cache(cache)
    server.models["lab/x"] = Model.of(changed(config=json.dumps(
        config_of("vit")
    ).encode()))  # fmt: skip
    assert require_weights("lab/x") == "hub"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc"),
        ("HF_ENDPOINT", "http://me:secret@[31m"),
    ],
)
def test_a_variable_of_the_hub_that_is_none_is_a_sentence(name, value):
    program = (
        "from har_keras.hub import HubName, hub_name, hub_package\n"
        "hub_package(hub_name('hf://a/b'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
    )
    last = done.stderr.splitlines()[-1]
    assert "UsageError" in last
    assert "such as HF_ENDPOINT" in last
    assert "secret" not in last
