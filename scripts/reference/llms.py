"""Language models of Hugging Face with random weights: makes testdata/import/lm, and bench/parity/llm takes
its models from here.

    python3 scripts/reference/llms.py [--out testdata/import/lm]

Makes `llama/` (two parts, f32, Llama 3's angles), `mistral/` (bf16), `qwen2/` (f16, a tied head) and
`qwen3/` (bf16), and in each `golden.safetensors`: `input_ids` [b, t], `attention_mask` [b, t] where there is
padding, `logits` [b, t, v] and `hidden` [b, t, d] behind the last norm, in f64 from the weights as they were
saved.

Needs: pip install transformers
"""

import argparse
import pathlib

import torch
from safetensors.torch import save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

FAMILIES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0},
    **{"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128},
}


def network(family, sizes, seed, **other):
    """With random weights that make every part matter; `sizes` are vocabulary, width, hidden width, blocks,
    heads and key-value heads.
    """
    names = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"]
    names += ["num_attention_heads", "num_key_value_heads"]
    config, model, fixed = FAMILIES[family]
    model = model(config(**dict(zip(names, sizes, strict=True)), **fixed | other))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            parameter.data = 1 + 0.2 * noise
        elif parameter.dim() == 1:
            parameter.data = 0.2 * noise
        else:
            parameter.data = noise * (0.5 if "embed" in name else parameter.shape[-1] ** -0.5)
    return model.eval()


@torch.no_grad()
def golden(model, rows, length, seed, padding=0):
    """What the network makes of random ids; the first row begins with so much padding, the last ends with
    it.
    """
    # Made anew: a network that was narrowed has narrowed angles, which one that is read from a file has not.
    exact = type(model)(model.config).double().eval()
    exact.load_state_dict({name: x.double() for name, x in model.state_dict().items()})
    ids = torch.randint(model.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    if padding:
        mask[0, :padding], mask[-1, -padding:] = 0, 0
    output = exact(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    given = {"input_ids": ids} | ({"attention_mask": mask} if padding else {})
    return given | {"logits": output.logits.float(), "hidden": output.hidden_states[-1].float()}


def save(model, folder, tensors, **options):
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({name: x.contiguous() for name, x in tensors.items()}, folder / "golden.safetensors")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default="testdata/import/lm")
    out = parser.parse_args().out
    models = {
        "llama": network("llama", (67, 24, 20, 2, 6, 2), 0, rope_parameters=LLAMA3),
        "mistral": network("mistral", (41, 20, 28, 2, 3, 1), 1, head_dim=10, rms_norm_eps=1e-5).bfloat16(),
        "qwen2": network("qwen2", (53, 24, 32, 2, 4, 2), 2, tie_word_embeddings=True).half(),
        "qwen3": network("qwen3", (45, 20, 24, 2, 4, 2), 3, head_dim=8, tie_word_embeddings=True).bfloat16(),
    }
    for seed, (name, model) in enumerate(models.items()):
        options = {"max_shard_size": "12KB"} if name == "llama" else {}
        save(model, out / name, golden(model, 2, 9, seed, padding=3 * (name == "llama")), **options)


if __name__ == "__main__":
    main()
