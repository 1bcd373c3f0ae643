import keras
import numpy as np
import pytest
from keras import ops
from test_weights import CLIPS, SMALL, peer_pixels

from har_keras.model.mae import MaskedAutoencoder, normalized
from har_keras.model.vit import VideoViT
from har_keras.model.weights import block_weights, load_weights


def autoencoder(mask_ratio=0.5, **changes):
    options = SMALL | {"num_classes": 2, "seed": 0} | changes
    model = MaskedAutoencoder(
        VideoViT(**options),
        mask_ratio=mask_ratio,
        decoder_dim=8,
        decoder_heads=2,
        decoder_layers=2,
        seed=0,
    )
    model.build()
    return model


def places_of(model, num_clips=2, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack(
        [rng.permutation(model.num_places) for _ in range(num_clips)]
    ).astype("int32")


def test_only_visible_tubelets_are_seen():
    """Other pixels in the hidden places change the target, not the guess."""
    model = autoencoder()
    places = places_of(model)
    guess, masked = model.guess(CLIPS, places)
    masked = ops.convert_to_numpy(masked)
    changed = CLIPS.copy()
    for clip, hidden in zip(changed, masked, strict=True):
        for token in hidden:
            time, row, column = np.unravel_index(token, model.encoder.grid)
            clip[
                2 * time : 2 * time + 2,
                16 * row : 16 * row + 16,
                16 * column : 16 * column + 16,
            ] = 7
    again, _ = model.guess(changed, places)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(guess), ops.convert_to_numpy(again)
    )
    other, _ = model.guess(255 - CLIPS, places)
    assert np.abs(ops.convert_to_numpy(other - guess)).max() > 1e-3


def test_the_same_places_are_hidden_in_all_frames():
    model = autoencoder(mask_ratio=0.75)
    places = places_of(model)
    _, masked = model.guess(CLIPS, places)
    masked = ops.convert_to_numpy(masked)
    assert model.num_visible == 1
    for clip, order in zip(masked, places, strict=True):
        by_time = clip.reshape(model.encoder.grid[0], -1)
        np.testing.assert_array_equal(by_time % 4, [order[1:]] * 2)
        np.testing.assert_array_equal(by_time // 4, [[0] * 3, [1] * 3])


@pytest.mark.parametrize(("ratio", "shown"), [(0.01, 3), (0.5, 2), (0.99, 1)])
def test_something_is_hidden_and_something_shown(ratio, shown):
    assert autoencoder(mask_ratio=ratio).num_visible == shown


def test_targets_have_no_mean_and_unit_variance():
    tubelets = np.random.default_rng(0).integers(
        90, 120, (2, 3, 2 * 16 * 16 * 3), dtype="uint8"
    )
    found = ops.convert_to_numpy(normalized(tubelets)).reshape(2, 3, -1, 3)
    np.testing.assert_allclose(found.mean(2), 0, atol=1e-4)
    np.testing.assert_allclose(found.std(2, ddof=1), 1, atol=1e-3)
    flat = ops.convert_to_numpy(normalized(np.full((1, 1, 1536), 9, "uint8")))
    assert np.abs(flat).max() < 0.2


def test_a_model_that_cannot_be_masked_is_refused():
    for changes in (
        {"attention": "factorised"},
        {"pooling": "class_token"},
        {"stem": "gradients"},
    ):
        with pytest.raises(ValueError, match="and no class token"):
            autoencoder(**changes)


def test_it_is_saved_and_loaded(tmp_path):
    model = autoencoder()
    places = places_of(model)
    before = ops.convert_to_numpy(model((CLIPS, places)))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    after = ops.convert_to_numpy(loaded((CLIPS, places)))
    np.testing.assert_array_equal(before, after)
    assert not loaded.encoder.head.trainable


@pytest.mark.parametrize("mean_pooling", [True, False])
def test_the_loss_is_the_published_model_s(tmp_path, mean_pooling):
    """Same weights, clip and mask: transformers' loss, to rounding."""
    torch = pytest.importorskip("torch", reason="needs the extra peers")
    transformers = pytest.importorskip(
        "transformers", reason="needs the extra peers"
    )
    config = transformers.VideoMAEConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, image_size=32, patch_size=16, num_frames=4,
        tubelet_size=2, decoder_hidden_size=8, decoder_num_hidden_layers=2,
        decoder_num_attention_heads=2, decoder_intermediate_size=32,
        use_mean_pooling=mean_pooling,
    )  # fmt: skip
    torch.manual_seed(0)
    peer = transformers.VideoMAEForPreTraining(config).eval()
    with torch.no_grad():
        for weight in peer.parameters():
            weight += torch.randn_like(weight) * 0.05
    peer.save_pretrained(tmp_path)

    model = autoencoder(
        pooling="mean_norm" if mean_pooling else "mean",
        positions="sinusoid",
        key_bias=False,
        norm_epsilon=1e-12,
    )
    load_weights(model.encoder, tmp_path / "model.safetensors")
    arrays = {k: v.numpy() for k, v in peer.state_dict().items()}
    assign_decoder(model, arrays)
    if not mean_pooling:
        model.encoder.norm.gamma.assign(arrays["videomae.layernorm.weight"])
        model.encoder.norm.beta.assign(arrays["videomae.layernorm.bias"])

    places = np.sort(places_of(model).reshape(2, 2, 2), axis=2).reshape(2, 4)
    masked = np.zeros((2, 2, 4), bool)  # clips, times, places
    for clip, order in enumerate(places):
        masked[clip, :, order[model.num_visible :]] = True
    with torch.no_grad():
        expected = peer(
            peer_pixels("videomae", CLIPS),
            bool_masked_pos=torch.tensor(masked.reshape(2, -1)),
        )
    losses = ops.convert_to_numpy(model((CLIPS, places)))
    assert losses.mean() == pytest.approx(float(expected.loss), abs=1e-4)
    guess, _ = model.guess(CLIPS, places)
    np.testing.assert_allclose(
        ops.convert_to_numpy(guess), expected.logits.numpy(), atol=1e-4
    )


def assign_decoder(model, arrays):
    """Puts transformers' decoder into ours."""
    layers = {
        name.replace("decoder.decoder_layers.", "videomae.encoder.layer."): x
        for name, x in arrays.items()
        if name.startswith("decoder.decoder_layers.")
    }
    found = {
        name.replace("block_", "decoder_"): value
        for name, value in block_weights(layers, "videomae", 2).items()
    }
    found["bridge/kernel"] = arrays["encoder_to_decoder.weight"].T
    found["mask_token"] = arrays["mask_token"].reshape(-1)
    found["decoder_norm/gamma"] = arrays["decoder.norm.weight"]
    found["decoder_norm/beta"] = arrays["decoder.norm.bias"]
    found["pixels/kernel"] = arrays["decoder.head.weight"].T
    found["pixels/bias"] = arrays["decoder.head.bias"]
    weights = {
        weight.path.split("/", 1)[1]: weight
        for weight in model.weights
        if "decoder" in weight.path
        or weight.path.split("/")[1] in ("bridge", "mask_token", "pixels")
    }
    assert weights.keys() == found.keys()
    for name, value in found.items():
        weights[name].assign(value)
