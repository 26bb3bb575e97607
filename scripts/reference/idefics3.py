"""A small Idefics3 of transformers with random weights: makes testdata/import/idefics3.

    python3 scripts/reference/idefics3.py     (needs `pip install torch transformers safetensors`)

Its connector is an average of 2 x 2 patches and one map, and its table of positions one of twice the side,
as `mm1 export` writes them: transformers 4.57 takes the place before the right one in a table of the plain
size. `golden.safetensors` has ids with two pictures, their pixels, and the logits.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Idefics3Config, Idefics3ForConditionalGeneration

FOLDER = Path(__file__).resolve().parents[2] / "testdata/import/idefics3"
GRID, POOL, WIDTH, OUT, IMAGE = 4, 2, 12, 8, 3


def main():
    torch.manual_seed(5)
    config = Idefics3Config(
        vision_config={
            "hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 2 * GRID * 4, "patch_size": 4,
        },
        text_config={
            "model_type": "llama", "vocab_size": 19, "hidden_size": OUT, "intermediate_size": 16,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0,
        },
        scale_factor=POOL, image_token_id=IMAGE, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )
    model = Idefics3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape) + ("norm" in name and name.endswith("weight")))
        pooled = torch.randn(OUT, WIDTH) / 4
        model.model.connector.modality_projection.proj.weight.copy_(pooled.repeat(1, POOL * POOL) / POOL**2)
        table = model.model.vision_model.embeddings.position_embedding.weight
        own = 0.3 * torch.randn(GRID, GRID, WIDTH)
        place = [min((i + 1) // 2, GRID - 1) for i in range(2 * GRID)]
        table.copy_(own[place][:, place].reshape(-1, WIDTH))
        tokens = (GRID // POOL) ** 2
        ids = torch.tensor([[5, 7] + [IMAGE] * tokens + [2, 18] + [IMAGE] * tokens + [11, 4, 9]])
        pixels = torch.randn(1, 2, 3, 4 * GRID, 4 * GRID)
        logits = model(input_ids=ids, pixel_values=pixels).logits
    model.save_pretrained(FOLDER)
    (FOLDER / "generation_config.json").unlink(missing_ok=True)
    pictures = {
        "image_processor_type": "Idefics3ImageProcessor", "do_resize": False, "do_image_splitting": False,
        "max_image_size": {"longest_edge": 4 * GRID}, "resample": 1, "do_rescale": True,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_pad": True,
    }
    (FOLDER / "preprocessor_config.json").write_text(json.dumps(pictures, indent=2) + "\n")
    golden = {"input_ids": ids, "pixel_values": pixels.flatten(0, 1), "logits": logits}
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, FOLDER / "golden.safetensors")


if __name__ == "__main__":
    main()
