"""Makes testdata/model/lora.safetensors: loss and gradients of a small Llama with adapters of peft.

    python3 scripts/reference/lora.py [--out testdata/model/lora.safetensors]

Computed in f64, written in f32. Weights and gradients have the names of this program:
`lm.blocks.0.attention.adapter.q.lora_a` is [in, rank]. Every map of every block has an adapter, none of whose
values is 0. There is no dropout: two programs draw other values.

Needs: pip install torch transformers peft
"""

import argparse
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

ROWS, LENGTH = 2, 9
RANK, ALPHA = 3, 5.0
SIZES = {
    **{"vocab_size": 37, "hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": 2},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False},
}
OURS = {
    **{"q_proj": "attention.adapter.q", "k_proj": "attention.adapter.k", "v_proj": "attention.adapter.v"},
    **{"o_proj": "attention.adapter.out", "gate_proj": "mlp.adapter.gate"},
    **{"up_proj": "mlp.adapter.up", "down_proj": "mlp.adapter.down"},
}


def network():
    """The Llama, and the same with adapters, in f64 with random values everywhere."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SIZES)).double()
    for name, parameter in base.named_parameters():
        noise = torch.randn_like(parameter)
        if name.endswith("norm.weight"):
            parameter.data = 1 + 0.2 * noise
        else:
            parameter.data = noise * (0.5 if "embed" in name else parameter.shape[-1] ** -0.5)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(OURS))
    adapted = get_peft_model(base, config, autocast_adapter_dtype=False).double()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * (0.3 if "lora_B" in name else parameter.shape[1] ** -0.5)
    return adapted


def ours(model):
    """Parameters of this program by their names, of the weights and then of the adapters."""
    state = {name.removeprefix("base_model.model."): x for name, x in model.named_parameters()}
    state = {name.replace(".base_layer", ""): x for name, x in state.items()}
    weights, adapters = {"lm.embedding": state["model.embed_tokens.weight"]}, {}
    weights["lm.norm.gamma"] = state["model.norm.weight"]
    weights["lm.head"] = state["lm_head.weight"].T
    for layer in range(SIZES["num_hidden_layers"]):
        theirs, block = f"model.layers.{layer}", f"lm.blocks.{layer}"
        side = lambda part, names: torch.cat([state[f"{theirs}.{part}.{n}_proj.weight"] for n in names]).T
        weights[f"{block}.attention.norm.gamma"] = state[f"{theirs}.input_layernorm.weight"]
        weights[f"{block}.attention.qkv"] = side("self_attn", "qkv")
        weights[f"{block}.attention.out"] = side("self_attn", "o")
        weights[f"{block}.mlp.norm.gamma"] = state[f"{theirs}.post_attention_layernorm.weight"]
        weights[f"{block}.mlp.up"] = side("mlp", ["gate", "up"])
        weights[f"{block}.mlp.down"] = side("mlp", ["down"])
        for name, path in OURS.items():
            part = "mlp" if path.startswith("mlp") else "self_attn"
            for theirs_factor, factor in [("lora_A", "lora_a"), ("lora_B", "lora_b")]:
                parameter = state[f"{theirs}.{part}.{name}.{theirs_factor}.default.weight"]
                adapters[f"{block}.{path}.{factor}"] = parameter
    return weights, adapters


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default="testdata/model/lora.safetensors")
    out = parser.parse_args().out
    model = network()
    ids = torch.randint(SIZES["vocab_size"], (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, 1)
    mask = torch.ones(ROWS, LENGTH, dtype=torch.float64)
    mask[:, -1] = 0
    logits = model(input_ids=ids).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    loss = (losses * mask.flatten()).sum()
    loss.backward()
    weights, adapters = ours(model)
    tensors = {f"weights/{name}": x for name, x in (weights | adapters).items()}
    tensors |= {f"gradients/{name}": x.grad.T for name, x in adapters.items()}
    tensors |= {f"weights/{name}": x.T for name, x in adapters.items()}
    tensors |= {"input/weights": mask.flatten(), "loss": loss.reshape(1), "output/logits": logits}
    tensors = {name: x.detach().float().contiguous().clone() for name, x in tensors.items()}
    lm = {"vocab": "vocab_size", "dim": "hidden_size", "ffn": "intermediate_size", "layers": "num_hidden_layers"}
    lm |= {"heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "norm_eps": "rms_norm_eps"}
    about = {
        "lm": {ours: SIZES[theirs] for ours, theirs in lm.items()} | {"tied": False},
        "adapter": {"rank": RANK, "alpha": ALPHA, "targets": [path.rsplit(".")[-1] for path in OURS.values()]},
    }
    metadata = {name: json.dumps(value) for name, value in about.items()}
    metadata |= {"rows": str(ROWS), "length": str(LENGTH)}
    tensors |= {"input/ids": ids, "input/targets": targets}
    save_file(tensors, out, metadata)


if __name__ == "__main__":
    main()
