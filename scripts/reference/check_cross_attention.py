"""Checks mm1.py's layers of Flamingo against those of transformers' Idefics, an open Flamingo.

    pip install transformers && python3 scripts/reference/check_cross_attention.py

Idefics has other MLPs (a ReLU without biases in the resampler, SwiGLU in the decoder) and RMSNorm before the
gated attention. So the MLPs are shut on both sides, and what goes into the gated layers has mean 0, where
both norms are the same.
"""

import torch
from transformers import IdeficsConfig
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer
from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

from mm1 import CrossAttention, sees

DIM, OUT, HEADS, LATENTS, DEPTH, EPS = 16, 24, 2, 5, 3, 1e-5


def apart(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def resampler(ours, config):
    theirs = IdeficsPerceiverResampler(config, DIM, DEPTH, HEADS, DIM // HEADS, LATENTS)
    theirs.latents.data = ours.queries.data
    theirs.layer_norm.weight.data, theirs.layer_norm.bias.data = ours.norm.gamma.data, ours.norm.beta.data
    for (attention, mlp), layer in zip(theirs.blocks, ours.resampler, strict=True):
        keys, values = layer.kv.data.chunk(2, dim=-1)
        for module, weight in [("q_proj", layer.q), ("k_proj", keys), ("v_proj", values), ("output_proj", layer.out)]:
            getattr(attention, module).weight.data = weight.data.t()
        for module, norm in [("context_layer_norm", layer.media_norm), ("latents_layer_norm", layer.norm)]:
            getattr(attention, module).weight.data = norm.gamma.data
            getattr(attention, module).bias.data = norm.beta.data
        mlp.c_proj.weight.data.zero_()
        layer.mlp.down.data.zero_()
        layer.mlp.down_bias.data.zero_()
    features = torch.randn(3, 9, DIM)
    return apart(ours(features), theirs(features))


def gated(layer, config):
    theirs = IdeficsGatedCrossAttentionLayer(config, layer_idx=0).eval()
    theirs.cross_attn.is_causal = False
    keys, values = layer.kv.data.chunk(2, dim=-1)
    for module, weight in [("q_proj", layer.q), ("k_proj", keys), ("v_proj", values), ("o_proj", layer.out)]:
        getattr(theirs.cross_attn, module).weight.data = weight.data.t()
    theirs.input_layernorm.weight.data = layer.norm.gamma.data
    layer.norm.beta.data.zero_()
    theirs.alpha_cross_attn.data = layer.attention_gate.data
    theirs.alpha_dense.data.zero_()
    layer.mlp_gate.data.zero_()
    # Pictures at places 2 and 5 of the first row of 8 positions, and 3 of the second.
    rows, length, slots = 2, 8, [2, 5, 11]
    x = torch.randn(rows, length, OUT)
    x = x - x.mean(-1, keepdim=True)
    latents = torch.randn(len(slots), LATENTS, DIM)
    causal = torch.ones(length, length, dtype=torch.bool).tril().expand(rows, 1, length, length)
    looks = sees(causal, torch.tensor(slots))
    mask = torch.zeros(looks.shape).masked_fill(~looks, torch.finfo(torch.float32).min)
    expected = theirs(
        x,
        image_hidden_states=latents.flatten(0, 1).expand(rows, -1, -1),
        image_attention_mask=mask.repeat_interleave(LATENTS, dim=-1)[:, None],
        cross_attention_gate=looks.any(-1).float(),
    )
    return apart(layer(x, latents, looks), expected)


@torch.no_grad()
def main():
    torch.manual_seed(0)
    config = IdeficsConfig(
        **{"hidden_size": OUT, "num_attention_heads": HEADS, "intermediate_size": OUT, "rms_norm_eps": EPS},
        **{"alpha_type": "float", "qk_layer_norms": False, "vision_config": {"embed_dim": DIM}},
        perceiver_config={"qk_layer_norms_perceiver": False},
    )
    config._attn_implementation = "eager"
    settings = {"latents": LATENTS, "depth": DEPTH, "heads": HEADS, "every": 1}
    ours = CrossAttention(settings, {"dim": DIM, "norm_eps": EPS}, {"dim": OUT, "layers": 1})
    for parameter in ours.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    found = {"resampler": resampler(ours, config), "gated layer": gated(ours.gated[0], config)}
    for name, difference in found.items():
        print(f"{name}: largest relative difference {difference:.1e}")
        assert difference < 1e-6


if __name__ == "__main__":
    main()
