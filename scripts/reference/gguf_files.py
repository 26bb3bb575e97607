"""Language models and blocks as GGUF: makes testdata/import/gguf, and bench/parity/gguf takes its files from
here.

    python3 scripts/reference/gguf_files.py [--out testdata/import/gguf]

Makes `blocks.gguf`, a tensor of every type, and `blocks.safetensors`, what PyPI's `gguf` makes of them;
`llama.gguf` (Q8_0 and Q4_1, Llama 3's angles), `qwen2.gguf` (F16, a tied head) and `qwen3.gguf` (BF16), and
for each `*.golden.safetensors` as scripts/reference/llms.py has them, of the weights as they are in the file;
`words.gguf` and `pieces.gguf`, small tokenizers.

Needs: pip install torch transformers gguf
"""

import argparse
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

import llms

# The types that are read; PyPI's `gguf` has no formula for the last.
TYPES = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
TYPES += [Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.Q8_K]
# The bytes of a block at which f16 scales are.
SCALES = {
    **{Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0]},
    **{Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]},
}
# In llama.cpp's words. Mistral is a llama there.
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def dequantize(data, kind):
    """The floats of blocks; shapes of bytes in, shapes of values out."""
    if kind == Type.Q8_K:
        blocks = data.reshape(-1, 292)
        values = blocks[:, 4:260].view(np.int8).astype(np.float32) * blocks[:, :4].view(np.float32)
        return values.reshape(*data.shape[:-1], -1)
    return gguf.quants.dequantize(data, kind).astype(np.float32)


def random_blocks(rows, width, kind, rng, scale=1.0):
    """Bytes of `rows` rows of `width` values: any bits, but that the scales are numbers of a usual size."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    bits = rng.integers(0, 256, (rows, width // block, size), np.uint8)
    if kind in (Type.F32, Type.F16, Type.BF16):
        values = rng.standard_normal((rows, width), np.float32) * scale
        return gguf.quants.quantize(values, kind).view(np.uint8).reshape(rows, -1)
    if kind == Type.Q8_K:
        bits[..., :4] = (rng.standard_normal((rows, width // block, 1), np.float32) * scale / 80).view(np.uint8)
    for at in SCALES.get(kind, []):
        d = rng.standard_normal((rows, width // block, 1), np.float32) * scale / 10
        bits[..., at : at + 2] = d.astype(np.float16).view(np.uint8)
    return bits.reshape(rows, -1)


def tensor_name(name):
    """llama.cpp's name of a tensor of transformers."""
    if name in NAMES:
        return NAMES[name]
    _, _, layer, part, end = name.replace("self_attn.", "self_attn-").replace("mlp.", "mlp-").split(".")
    return f"blk.{layer}.{NAMES[part.replace('-', '.')]}.{end}"


def neighbours(weight, heads):
    """Rows of queries or keys, half a head apart, as the neighbours that llama.cpp turns together."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def rope_factors(config):
    """By what llama.cpp divides the angles of Llama 3."""
    own, width = config.rope_scaling, config.hidden_size // config.num_attention_heads
    width = getattr(config, "head_dim", None) or width
    frequency = config.rope_theta ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    turns = own["original_max_position_embeddings"] * frequency / (2 * np.pi)
    kept = np.clip((turns - own["low_freq_factor"]) / (own["high_freq_factor"] - own["low_freq_factor"]), 0, 1)
    return (1 / ((1 - kept) / own["factor"] + kept)).astype(np.float32)


def write(model, family, path, kind_of, blocks=None, add=None):
    """Writes a network of transformers; `kind_of` gives the type of a tensor by its name here. The network
    takes on the weights as they are in the file. `blocks` makes the bytes of a matrix, if not the weights do;
    `add` adds metadata.
    """
    config = model.config
    family = "llama" if family == "mistral" else family
    out = gguf.GGUFWriter(path, family)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    out.add_context_length(512)
    out.add_vocab_size(config.vocab_size)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(width)
    out.add_value_length(width)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(width)
    out.add_rope_freq_base(config.rope_theta)
    scaling = (getattr(config, "rope_scaling", None) or {}).get("rope_type")
    if scaling == "linear":
        out.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        out.add_rope_scaling_factor(config.rope_scaling["factor"])
    if scaling == "llama3":
        out.add_tensor("rope_freqs.weight", rope_factors(config))
    if add:
        add(out)
    tied = config.tie_word_embeddings
    for name, parameter in model.named_parameters():
        if tied and name == "lm_head.weight":
            continue
        values, stored = parameter.detach().float().numpy(), tensor_name(name)
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
        heads = heads.get(stored.split(".")[-2]) if family == "llama" else None
        if heads:
            values = neighbours(values, heads)
        kind = kind_of(stored) if values.ndim == 2 else Type.F32
        if values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = Type.F16
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = blocks(*values.shape, kind) if blocks and values.ndim == 2 else gguf.quants.quantize(values, kind)
        data = np.ascontiguousarray(data).view(np.uint8).reshape(*values.shape[:-1], values.shape[-1] // block * size)
        out.add_tensor(stored, data, raw_dtype=kind)
        values = dequantize(data, kind).reshape(values.shape)
        if heads:
            values = values.reshape(heads, -1, 2, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)
        parameter.data = torch.from_numpy(np.ascontiguousarray(values))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def blocks_file(out, rng, rows=2, width=256):
    """A tensor of every type, and what it is."""
    writer, values = gguf.GGUFWriter(out / "blocks.gguf", "llama"), {}
    for kind in TYPES:
        data = random_blocks(rows, width, kind, rng)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = data.view({Type.F32: np.float32, Type.F16: np.float16}.get(kind, np.uint8))
        values[kind.name] = np.ascontiguousarray(dequantize(stored, kind).reshape(rows, width))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    floats = rng.standard_normal((rows, width), np.float32)
    floats[0, :32] = 0
    # Halves, which are rounded away from zero.
    floats[1, :32] = np.arange(32, dtype=np.float32) - 16.5
    floats[1, 0] = 127
    for kind in (Type.F16, Type.BF16, Type.Q8_0):
        data = gguf.quants.quantize(floats, kind)
        values[f"written.{kind.name}"] = np.ascontiguousarray(data).view(np.uint8).reshape(rows, -1)
    save_file(values | {"floats": floats}, out / "blocks.safetensors")


def tokenizer_files(out):
    """Small tokenizers of both kinds: `words.gguf`, byte-level, and `pieces.gguf`, of SentencePiece."""
    special, pieces = ["<a>", "<b>", "<c>"], ["a", "b", "ab", "\u2581", "\u2581ab"]
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [*map(chr, shown), *(chr(256 + i) for i in range(256 - len(shown)))]
    words = {"tokens": [*special, *letters, "ab", "abc"], "types": [3, 3, 4] + [1] * 258}
    bytes_of = [f"<0x{i:02X}>" for i in range(256)]
    parts = {"tokens": ["<unk>", "<s>", "</s>", *bytes_of, *pieces], "types": [2, 3, 3] + [6] * 256 + [1] * 5}
    for name, model, own in (("words", "gpt2", words), ("pieces", "llama", parts)):
        writer = gguf.GGUFWriter(out / f"{name}.gguf", "llama")
        writer.add_tokenizer_model(model)
        writer.add_tokenizer_pre("smollm" if model == "gpt2" else "default")
        writer.add_token_list(own["tokens"])
        writer.add_token_types(own["types"])
        if model == "gpt2":
            writer.add_token_merges(["a b", "ab c"])
        else:
            writer.add_token_scores([-float(i) for i in range(len(own["tokens"]))])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(False)
        writer.add_chat_template("{{ messages }}")
        writer.add_tensor("a", np.zeros(8, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default="testdata/import/gguf")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    blocks_file(out, np.random.default_rng(0))
    tokenizer_files(out)
    llama3 = {name: value for name, value in llms.LLAMA3.items() if name != "rope_theta"}
    mixed = {"attn_q.weight": Type.Q4_1, "ffn_up.weight": Type.Q4_1}
    models = {
        "llama": ((40, 32, 32, 2, 4, 2), {"rope_scaling": llama3, "rope_theta": 5e5, "rms_norm_eps": 1e-5}),
        "qwen2": ((37, 24, 20, 2, 6, 3), {"tie_word_embeddings": True}),
        "qwen3": ((45, 20, 24, 2, 4, 2), {"head_dim": 8, "tie_word_embeddings": False}),
    }
    for seed, (family, (sizes, other)) in enumerate(models.items()):
        kinds = {"llama": Type.Q8_0, "qwen2": Type.F16, "qwen3": Type.BF16}
        model = llms.network(family, sizes, seed, **other)
        write(model, family, out / f"{family}.gguf", lambda name: kinds[family] if family != "llama" else mixed.get(name[6:], Type.Q8_0))
        tensors = llms.golden(model, 2, 9, seed, padding=3 * (family == "llama"))
        tensors = {name: x.contiguous() for name, x in tensors.items()}
        save_torch(tensors, out / f"{family}.golden.safetensors")


if __name__ == "__main__":
    main()
