"""Equivalents of our model in PyTorch, for `benchmark step --peers`."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from har_keras.config import Config

Train = Callable[[int], None]
Tensor = Any  # torch is imported only where it is installed
Forward = Callable[[Tensor], Tensor]


def torch_twin(config: Config, clips: np.ndarray, labels: np.ndarray) -> Train:
    """Returns the training function of the same network in PyTorch.

    It has the weights of a `VideoViT` with joint attention and mean pooling,
    PyTorch's fused attention and fused AdamW, and reads float32 pixels that
    were rescaled beforehand.
    """
    import torch

    forward, weights = _twin(config)
    return _training(forward, weights, torch.tensor(clips) / 127.5 - 1, labels)


def hugging_face_vivit(
    config: Config, clips: np.ndarray, labels: np.ndarray
) -> Train:
    """Returns the training function of transformers' ViViT, same dimensions."""
    import torch
    import transformers

    dims, clip = config.model, config.clip
    settings = transformers.VivitConfig(
        image_size=clip.crop_size,
        num_frames=clip.num_frames,
        tubelet_size=[dims.tubelet_frames, *[dims.patch_size] * 2],
        hidden_size=dims.hidden_dim,
        num_hidden_layers=dims.num_layers,
        num_attention_heads=dims.num_heads,
        intermediate_size=dims.mlp_dim,
        num_labels=3,
        attn_implementation="sdpa",
    )
    network = transformers.VivitForVideoClassification(settings).train()
    pixels = torch.tensor(clips).permute(0, 1, 4, 2, 3) / 127.5 - 1
    return _training(
        lambda values: network(pixel_values=values).logits,
        network.parameters(),
        pixels.contiguous(),
        labels,
    )


def _training(
    forward: Forward,
    weights: Iterable[Tensor],
    clips: Tensor,
    labels: np.ndarray,
) -> Train:
    import torch
    from torch.nn import functional

    optimizer = torch.optim.AdamW(weights, lr=1e-3, fused=True)
    targets = torch.tensor(labels).long()

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(forward(clips), targets)
            loss.backward()
            optimizer.step()
        loss.item()

    return train


def _twin(config: Config) -> tuple[Forward, list[Tensor]]:
    """Returns the forward pass of the network and its weights."""
    import torch
    from torch import nn

    dims, clip = config.model, config.clip
    depth, side, width = dims.tubelet_frames, dims.patch_size, dims.hidden_dim
    time, rows = clip.num_frames // depth, clip.crop_size // side
    pixels = depth * side * side * 3
    embedding = nn.Linear(pixels, width)
    positions = nn.Parameter(torch.randn(time * rows * rows, width) * 0.02)
    blocks = [
        _block(dims.num_heads, width, dims.mlp_dim)
        for _ in range(dims.num_layers)
    ]
    norm, head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(clips: Tensor) -> Tensor:
        x = clips.view(-1, time, depth, rows, side, rows, side * 3)
        x = x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, len(positions), pixels)
        x = embedding(x) + positions
        for block, _ in blocks:
            x = block(x)
        return head(norm(x).mean(1))

    modules = [embedding, norm, head, *(m for _, ms in blocks for m in ms)]
    return forward, [positions, *(w for m in modules for w in m.parameters())]


def _block(
    num_heads: int, width: int, mlp_dim: int
) -> tuple[Forward, list[Any]]:
    """Returns an encoder block and the modules that hold its weights."""
    from torch import nn
    from torch.nn import functional

    query_key_value = nn.Linear(width, 3 * width)
    output, hidden = nn.Linear(width, width), nn.Linear(width, mlp_dim)
    back = nn.Linear(mlp_dim, width)
    attention_norm, mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def block(x: Tensor) -> Tensor:
        y = query_key_value(attention_norm(x))
        y = y.view(*x.shape[:2], 3, num_heads, width // num_heads)
        query, key, value = y.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value)
        x = x + output(y.transpose(1, 2).reshape(x.shape))
        return x + back(functional.gelu(hidden(mlp_norm(x))))

    modules = [query_key_value, output, hidden, back, attention_norm, mlp_norm]
    return block, modules
