import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from keras import ops

from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.model.build import build_model
from har_keras.model.initializers import interpolate
from har_keras.model.options import transformer_options
from har_keras.model.vit import VideoViT
from har_keras.model.weights import (
    copy_weights,
    load_weights,
    read_safetensors,
)

SMALL = {
    "hidden_dim": 16, "num_layers": 2, "num_heads": 2, "mlp_dim": 32,
    "crop_size": 32, "num_frames": 4,
}  # fmt: skip
CLIPS = np.random.default_rng(0).integers(
    0, 256, (2, 4, 32, 32, 3), dtype="uint8"
)
PRESETS = {
    "vivit": "vivit-b-16x2",
    "videomae": "videomae-b",
    "timesformer": "timesformer-b",
}


def write_safetensors(file, arrays, dtypes=None):
    """Writes the format by its description; `arrays` hold the raw numbers."""
    names = {"float32": "F32", "float16": "F16", "uint16": "BF16"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        header[name] = {
            "dtype": names[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def small_model(preset="vivit-b-16x2", num_classes=3, **changes):
    config = Config().replace(preset=preset, **SMALL | changes)
    return build_model(config.model, config.clip, num_classes)


def image_weights(rng, layers=2, dim=16):
    """Returns arrays as an image ViT of Hugging Face has them."""
    shapes = {
        "embeddings.cls_token": (1, 1, dim),
        "embeddings.position_embeddings": (1, 5, dim),
        "embeddings.patch_embeddings.projection.weight": (dim, 3, 16, 16),
        "embeddings.patch_embeddings.projection.bias": (dim,),
        "layernorm.weight": (dim,),
        "layernorm.bias": (dim,),
    }
    dense = {
        "attention.attention.query": (dim, dim),
        "attention.attention.key": (dim, dim),
        "attention.attention.value": (dim, dim),
        "attention.output.dense": (dim, dim),
        "intermediate.dense": (2 * dim, dim),
        "output.dense": (dim, 2 * dim),
        "layernorm_before": (dim,),
        "layernorm_after": (dim,),
    }
    for layer in range(layers):
        for name, shape in dense.items():
            prefix = f"encoder.layer.{layer}.{name}"
            shapes[f"{prefix}.weight"] = shape
            shapes[f"{prefix}.bias"] = shape[:1]
    return {
        f"vit.{name}": rng.normal(scale=0.1, size=shape).astype("float32")
        for name, shape in shapes.items()
    }


@pytest.fixture
def image_file(tmp_path):
    file = tmp_path / "model.safetensors"
    write_safetensors(file, image_weights(np.random.default_rng(1)))
    return file


def logits(model, clips=CLIPS):
    return ops.convert_to_numpy(model.logits(clips))


def peer(family, tmp_path, num_classes=3, **changes):
    """Returns a model of transformers with random weights, and its file."""
    torch = pytest.importorskip("torch", reason="needs the extra peers")
    transformers = pytest.importorskip(
        "transformers", reason="needs the extra peers"
    )
    dims = SMALL | changes
    options = {
        "hidden_size": dims["hidden_dim"],
        "num_hidden_layers": dims["num_layers"],
        "num_attention_heads": dims["num_heads"],
        "intermediate_size": dims["mlp_dim"],
        "image_size": dims["crop_size"],
        "patch_size": 16,
        "num_labels": num_classes,
    }
    classes = {
        "vivit": ("Vivit", {"tubelet_size": [2, 16, 16]}),
        "videomae": ("VideoMAE", {"tubelet_size": 2}),
        "timesformer": ("Timesformer", {}),
        "vit": ("ViT", {}),
    }
    name, more = classes[family]
    if family != "vit":
        options["num_frames"] = dims["num_frames"]
    config = getattr(transformers, f"{name}Config")(**options | more)
    kind = "Image" if family == "vit" else "Video"
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}For{kind}Classification")(config)
    with torch.no_grad():  # biases, tokens and positions start at zero
        for weight in model.parameters():
            weight += torch.randn_like(weight) * 0.05
    model.eval().save_pretrained(tmp_path)
    return model, tmp_path / "model.safetensors"


def peer_pixels(family, clips):
    """Returns clips as a model of transformers wants them."""
    import torch

    from har_keras.model.weights import FAMILIES

    scaling = FAMILIES[family]
    pixels = (clips / 255 - scaling.mean) / scaling.std
    axes = (0, 3, 1, 2) if family == "vit" else (0, 1, 4, 2, 3)
    return torch.tensor(pixels.transpose(axes), dtype=torch.float32)


def peer_logits(model, family, clips=CLIPS):
    import torch

    with torch.no_grad():
        return model(pixel_values=peer_pixels(family, clips)).logits.numpy()


@pytest.mark.parametrize("family", PRESETS)
def test_logits_equal_those_of_transformers(family, tmp_path):
    theirs, file = peer(family, tmp_path)
    ours = small_model(PRESETS[family])
    assert load_weights(ours, file) == []
    expected = peer_logits(theirs, family)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(logits(ours), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("without_waves")
@pytest.mark.parametrize("family", PRESETS)
def test_logits_equal_at_full_size(family, tmp_path):
    config = Config().replace(preset=PRESETS[family])
    dims = {name: config.flat()[name] for name in SMALL}
    theirs, file = peer(family, tmp_path, num_classes=400, **dims)
    ours = build_model(config.model, config.clip, 400)
    load_weights(ours, file)
    shape = (1, config.clip.num_frames, 224, 224, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")
    expected = peer_logits(theirs, family, clips)
    np.testing.assert_allclose(logits(ours, clips), expected, atol=1e-4)


@pytest.mark.parametrize("inflation", ["central", "average"])
def test_a_still_clip_gets_the_logits_of_its_image(inflation, tmp_path):
    """One tubelet in time: the inflated model is the image's own."""
    theirs, file = peer("vit", tmp_path)
    ours = small_model(
        num_frames=2, preset="tiny", pooling="class_token", tubelet_frames=2
    )
    assert load_weights(ours, file, inflation=inflation) == []
    images = CLIPS[:, 0]
    still = np.repeat(images[:, None], 2, axis=1)
    expected = peer_logits(theirs, "vit", images)
    np.testing.assert_allclose(logits(ours, still), expected, atol=1e-4)


# Published: ViViT table 2a (millions), and what transformers counts.
@pytest.mark.usefixtures("without_waves")
@pytest.mark.parametrize(
    ("preset", "num_classes", "millions"),
    [("vivit-b-16x2", 400, 88.9), ("vivit-b-16x2-fe", 400, 115.1)],
)
def test_parameters_of_the_papers(preset, num_classes, millions):
    assert abs(count(preset, num_classes) / 1e6 - millions) < 0.1


def count(preset, num_classes):
    """Returns the weights of a preset; one layer is built, not all."""
    totals = []
    for layers in (1, 2):
        config = Config().replace(preset=preset)
        options = transformer_options(config.model) | {"num_layers": layers}
        model = VideoViT(
            num_classes,
            config.clip.num_frames,
            config.clip.crop_size,
            **options,
        )
        model.build()
        totals.append(model.count_params())
    layer = totals[1] - totals[0]
    return totals[0] + (config.model.num_layers - 1) * layer


@pytest.mark.usefixtures("without_waves")
@pytest.mark.parametrize(
    ("preset", "name", "dims"),
    [
        ("vivit-b-16x2", "Vivit", {}),
        ("videomae-s", "VideoMAE", (384, 12, 6, 1536)),
        ("videomae-b", "VideoMAE", {}),
        ("videomae-l", "VideoMAE", (1024, 24, 16, 4096)),
        ("timesformer-b", "Timesformer", {}),
    ],
)
def test_parameters_of_transformers(preset, name, dims):
    torch = pytest.importorskip("torch", reason="needs the extra peers")
    transformers = pytest.importorskip(
        "transformers", reason="needs the extra peers"
    )
    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads",
        "intermediate_size",
    )  # fmt: skip
    options = dict(zip(names, dims, strict=True)) if dims else {}
    config = getattr(transformers, f"{name}Config")(num_labels=400, **options)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}ForVideoClassification")(config)
    theirs = sum(weight.numel() for weight in model.parameters())
    assert count(preset, 400) == theirs


def test_an_image_is_inflated_into_the_middle_frame(image_file):
    arrays = read_safetensors(image_file)
    patch = arrays["vit.embeddings.patch_embeddings.projection.weight"]
    model = small_model(num_frames=8, tubelet_frames=4)
    missing = load_weights(model, image_file)
    assert missing == ["head/bias", "head/kernel"]
    kernel = ops.convert_to_numpy(model.embedding.kernel.value)
    # Row, column and channel of one pixel; pixels are scaled by 1 / 0.5 / 2.
    assert kernel[2, 3, 5, 1, 7] == pytest.approx(patch[7, 1, 3, 5])
    assert not kernel[[0, 1, 3]].any()

    load_weights(model, image_file, inflation="average")
    kernel = ops.convert_to_numpy(model.embedding.kernel.value)
    for frame in range(4):
        np.testing.assert_allclose(
            kernel[frame, 3, 5, 1, 7], patch[7, 1, 3, 5] / 4, rtol=1e-5
        )


def test_positions_of_an_image_are_those_of_every_frame(image_file):
    model = small_model()
    load_weights(model, image_file)
    theirs = read_safetensors(image_file)["vit.embeddings.position_embeddings"]
    ours = ops.convert_to_numpy(model.positions.positions.value)
    np.testing.assert_array_equal(ours[0], theirs[0, 0])
    for frame in range(2):
        part = ours[1 + 4 * frame : 5 + 4 * frame]
        np.testing.assert_array_equal(part, theirs[0, 1:])


def test_divided_attention_begins_as_the_image_transformer(image_file):
    joint = small_model(num_frames=2)
    divided = small_model("timesformer-b", num_frames=2, tubelet_frames=2)
    load_weights(joint, image_file)
    missing = load_weights(divided, image_file)
    assert "temporal_positions/positions" in missing
    divided.temporal_positions.positions.assign(np.zeros((1, 16)))
    divided.head.set_weights(joint.head.get_weights())
    np.testing.assert_allclose(
        logits(divided, CLIPS[:, :2]), logits(joint, CLIPS[:, :2]), atol=0.02
    )  # tanh against erf
    block = divided.blocks[1]
    for ours, theirs in (
        (block.temporal_attention, block.attention),
        (block.temporal_norm, block.attention_norm),
    ):
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("attention", ["joint", "factorised", "divided"])
@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_positions_follow_a_larger_and_longer_clip(attention, pooling):
    options = SMALL | {"attention": attention, "pooling": pooling}
    small = VideoViT(3, **options, seed=1)
    large = VideoViT(5, **options | {"crop_size": 64, "num_frames": 8}, seed=2)
    small.build()
    large.build()
    assert copy_weights(small, large) == ["head/bias", "head/kernel"]
    first = int(pooling == "class_token")
    old = ops.convert_to_numpy(small.positions.positions.value)[first:]
    new = ops.convert_to_numpy(large.positions.positions.value)[first:]
    time = 2 if attention == "joint" else 1
    old = old.reshape(time, 2, 2, 16)
    new = new.reshape(-1, 4, 4, 16)
    np.testing.assert_allclose(new[0, 0, 0], old[0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(new[-1, -1, -1], old[-1, -1, -1], atol=1e-6)
    np.testing.assert_allclose(
        new[0, 0, 1], 0.75 * old[0, 0, 0] + 0.25 * old[0, 0, 1], atol=1e-6
    )


def test_interpolation_keeps_a_grid_that_fits():
    grid = np.random.default_rng(0).normal(size=(2, 3, 3, 4))
    same = interpolate(grid, (2, 3, 3))
    np.testing.assert_allclose(same, grid.reshape(18, 4), atol=1e-6)


def test_half_precision_numbers(tmp_path):
    file = tmp_path / "half.safetensors"
    write_safetensors(
        file,
        {
            "f16": np.array([1.5, -2], "float16"),
            "bf16": np.array([0x3FC0, 0xC000], "uint16"),
        },
    )
    for array in read_safetensors(file).values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, [1.5, -2])


@pytest.mark.parametrize("cut", [0, 4, 50, 5000])
def test_a_file_cut_short_gives_one_sentence(cut, image_file):
    image_file.write_bytes(image_file.read_bytes()[:cut])
    with pytest.raises(UsageError, match=r"damaged or not a \.safetensors"):
        load_weights(small_model(), image_file)


@pytest.mark.parametrize(
    "content", [b"PK\3\4" + bytes(99), b"\2" + bytes(7) + b"[]", b"\xff" * 99]
)
def test_a_file_of_another_kind_gives_one_sentence(content, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match=r"damaged or not a \.safetensors"):
        read_safetensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "entries",
    [
        {"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [4, 12])},  # overlap
        {"a": ("F32", [3], [0, 8])},  # the shape has more than the bytes
        {"a": ("F32", [2], [0, 8])},  # bytes that belong to nothing
        {"a": ("F8_E4M3", [12], [0, 12])},
        {"a": ("?", [12], [0, 12])},
    ],
)
def test_a_header_that_is_wrong_gives_one_sentence(entries, tmp_path):
    names = ("dtype", "shape", "data_offsets")
    header = {k: dict(zip(names, v, strict=True)) for k, v in entries.items()}
    text = json.dumps(header).encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    with pytest.raises(UsageError, match=r"damaged or not a \.safetensors"):
        read_safetensors(file)


def test_a_missing_file_gives_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="can't be read"):
        read_safetensors(tmp_path / "none.safetensors")


@pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="needs PyTorch installed"
)
def test_reading_weights_imports_no_torch(image_file):
    code = (
        "import sys, pathlib; from har_keras.model.weights import "
        "read_safetensors; read_safetensors(pathlib.Path(sys.argv[1])); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, image_file],
        check=True,
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
    )


def test_a_preset_takes_the_weights_of_a_file(image_file):
    dims = {k: v for k, v in SMALL.items() if k != "num_frames"}
    model = VideoViT.from_preset(
        "vivit-b-16x2", num_classes=3, num_frames=4, weights=image_file, **dims
    )
    expected = small_model()
    load_weights(expected, image_file)
    for weight in (model, expected):
        weight.head.set_weights([np.ones((16, 3)), np.zeros(3)])
    np.testing.assert_array_equal(logits(model), logits(expected))


def test_a_preset_without_its_file_gives_one_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"none\.safetensors' can't be read"):
        VideoViT.from_preset(
            "tiny", num_classes=3, weights=str(tmp_path / "none.safetensors")
        )


def test_other_dimensions_are_named(image_file):
    with pytest.raises(UsageError, match="does not fit"):
        load_weights(small_model(hidden_dim=32), image_file)


def test_a_network_of_another_kind_is_named(tmp_path):
    file = tmp_path / "x.safetensors"
    write_safetensors(file, {"bert.pooler": np.zeros(3, "float32")})
    with pytest.raises(UsageError, match=r"bert\.pooler"):
        load_weights(small_model(), file)


PROJECTION = "vit.embeddings.patch_embeddings.projection"
POSITIONS = "vit.embeddings.position_embeddings"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{PROJECTION}.weight", (16, 16)),
        (f"{PROJECTION}.weight", (16, 4, 16, 16)),
        (f"{PROJECTION}.weight", (16, 3, 2, 2, 2, 2)),
        (f"{PROJECTION}.bias", None),
        (f"{PROJECTION}.bias", (16, 16)),
        (POSITIONS, ()),
        (POSITIONS, (1, 0, 16)),
        ("vit.encoder.layer.0.attention.attention.query.weight", (4, 7)),
        ("vit.embeddings.time_embeddings", (16,)),
        ("classifier.bias", ()),
    ],
)
def test_arrays_of_other_shapes_give_one_sentence(name, shape, tmp_path):
    arrays = image_weights(np.random.default_rng(0))
    arrays.pop(name, None)
    if shape is not None:
        arrays[name] = np.zeros(shape, "float32")
    file = tmp_path / "model.safetensors"
    write_safetensors(file, arrays)
    with pytest.raises(UsageError, match=r"model\.safetensors'"):
        load_weights(small_model(), file)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    arrays = image_weights(np.random.default_rng(0))
    arrays[f"{PROJECTION}.weight"][0] = value
    write_safetensors(tmp_path / "model.safetensors", arrays)
    with pytest.raises(UsageError, match="not finite"):
        load_weights(small_model(), tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        '{"image_std": [0, 0, 0]}', '{"image_std": "x"}',
        '{"image_std": null}', '{"image_mean": [NaN, NaN, NaN]}',
        '{"image_mean": [1, 2, 3, 4, 5]}', "[" * 100_000, "[1]",
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_hostile_scaling_beside_a_file_is_one_sentence(text, image_file):
    beside = image_file.with_name("preprocessor_config.json")
    beside.write_text(text)
    with pytest.raises(UsageError) as error:
        load_weights(small_model(), image_file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '{"num_frames": 0}', '{"num_frames": "many"}', '{"num_frames": 1e999}',
        '{"num_frames": 4, "tubelet_size": 0}', '{"num_frames": -4}',
        '{"num_frames": 4, "tubelet_size": []}', '{"num_frames": 14}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_hostile_settings_beside_a_file_are_one_sentence(text, tmp_path):
    arrays = image_weights(np.random.default_rng(0))
    arrays = {f"vi{name}": value for name, value in arrays.items()}
    arrays["vivit.embeddings.position_embeddings"] = np.zeros(
        (1, 9, 16), "float32"
    )
    write_safetensors(tmp_path / "model.safetensors", arrays)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UsageError) as error:
        load_weights(small_model(), tmp_path / "model.safetensors")
    assert "\n" not in str(error.value)


def test_positions_that_are_no_grid_ask_for_the_config(tmp_path):
    arrays = image_weights(np.random.default_rng(0))
    arrays = {f"vi{name}": value for name, value in arrays.items()}
    arrays["vivit.embeddings.position_embeddings"] = np.zeros(
        (1, 8, 16), "float32"
    )
    file = tmp_path / "model.safetensors"
    write_safetensors(file, arrays)
    with pytest.raises(UsageError, match=r"config\.json"):
        load_weights(small_model(), file)
