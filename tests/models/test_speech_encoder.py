"""The conformer blocks, against a plain restatement."""

import pytest
import torch

from nerfad.models.speech_encoder import ConformerBlock, SpeechEncoder


@pytest.mark.parametrize(("n_rows", "n_tokens"), [(1, 1), (2, 1), (99, 50), (100, 50)])
def test_a_token_for_every_other_row(n_rows, n_tokens):
    assert SpeechEncoder(n_blocks=1)(torch.zeros(2, n_rows, 80)).shape == (2, n_tokens, 144)


def test_stretches_do_not_hear_each_other():
    encoder = SpeechEncoder()
    mel = torch.rand(3, 40, 80)
    together = encoder(mel)
    torch.testing.assert_close(encoder(mel[1:2]), together[1:2], atol=1e-5, rtol=1e-4)


def test_attention_is_softmax_over_tokens():
    block = ConformerBlock(8, 2, 3)
    x = torch.randn(1, 5, 8)
    q, k, v = block.to_qkv(x)[0].chunk(3, -1)
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        weights = torch.softmax(q[:, h] @ k[:, h].T / 4**0.5, -1)
        heads.append(weights @ v[:, h])
    expected = block.from_heads(torch.cat(heads, -1))
    torch.testing.assert_close(block._attend(x)[0], expected)


def test_convolution_is_gated_and_depthwise():
    block = ConformerBlock(4, 2, 3)
    x = torch.randn(1, 6, 4)
    h = x @ block.pointwise1.weight[:, :, 0].T + block.pointwise1.bias
    gated = h[..., :4] * torch.sigmoid(h[..., 4:])
    padded = torch.nn.functional.pad(gated, (0, 0, 1, 1))
    kernel = block.depthwise.weight[:, 0]  # [4, 3]
    mixed = sum(padded[:, i : i + 6] * kernel[:, i] for i in range(3)) + block.depthwise.bias
    expected = torch.nn.functional.silu(mixed) @ block.pointwise2.weight[:, :, 0].T + block.pointwise2.bias
    torch.testing.assert_close(block._convolve(x), expected)


def test_weights_are_frozen():
    assert not any(parameter.requires_grad for parameter in SpeechEncoder().parameters())
