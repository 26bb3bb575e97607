"""Image encoders of Hugging Face with random weights: makes testdata/import, and bench/parity/encoders takes its models from here.

    python3 scripts/reference/encoders.py [--out testdata/import]

Makes `clip/` (a whole CLIPModel in parts, f32), `siglip/` (bf16), `dinov2/` (f16) and `dinov2.onnx` (as PyTorch exported
older transformers' DINOv2, beside a head), and for each NAME `NAME.safetensors`: `pixels.i` [n, h, w, 3] and what the encoder makes
of them behind its last norm, `tokens.i` [n, t, d], in f64 from the weights as they were saved.

Needs: pip install transformers onnx onnxruntime
"""

import argparse
import copy
import pathlib
import shutil
import warnings

import onnxruntime
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)


def randomise(model, seed):
    """Values that make every part matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1 and "embed" not in name and "cls_token" not in name:
            parameter.data = noise * parameter.shape[-1] ** -0.5
        elif name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "layrnorm.weight", "lambda1")):
            parameter.data = 1 + 0.2 * noise
        else:
            parameter.data = (0.05 if "patch_embed" in name else 0.2) * noise
    return model.eval()


def tokens(model, pixels):
    """All tokens behind the last norm, of pixels [n, h, w, 3]."""
    pixels = pixels.permute(0, 3, 1, 2)
    if isinstance(model, Dinov2Model):
        return model(pixels).last_hidden_state
    if isinstance(model, CLIPModel):
        model = model.vision_model
    states = model(pixels, interpolate_pos_encoding=True).last_hidden_state
    if isinstance(model, SiglipVisionModel):
        return states
    return getattr(model, "vision_model", model).post_layernorm(states)


def clip(dim, ffn, layers, heads, image, patch, **other):
    sizes = {"hidden_size": dim, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=image, patch_size=patch, **other))


def siglip(dim, ffn, layers, heads, image, patch, **other):
    sizes = {"hidden_size": dim, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads}
    return SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=image, patch_size=patch, **other))


def dinov2(dim, ratio, layers, heads, image, patch, **other):
    sizes = {"hidden_size": dim, "mlp_ratio": ratio, "num_hidden_layers": layers, "num_attention_heads": heads}
    return Dinov2Model(Dinov2Config(**sizes, image_size=image, patch_size=patch, **other))


def whole_clip():
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    text |= {"max_position_embeddings": 5, "bos_token_id": 0, "eos_token_id": 1}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=sizes | {"image_size": 20, "patch_size": 4}, projection_dim=8))


class Scale(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.lambda1


class Named(nn.Module):
    """Parts under names, and a function of them."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x):
        return self.run(self, *x)


def old_layer(dim, ffn, heads):
    """A block of DINOv2 with the parts' names of transformers 4, which are in old ONNX files."""

    def attend(self, x):
        n, t, _ = x.shape
        k = self.key(x).view(n, t, heads, dim // heads).transpose(1, 2)
        v = self.value(x).view(n, t, heads, dim // heads).transpose(1, 2)
        q = self.query(x).view(n, t, heads, dim // heads).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, dim)

    def block(self, x):
        x = x + self.layer_scale1(self.attention(self.norm1(x)))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))

    linear = nn.Linear
    inner = Named(attend, query=linear(dim, dim), key=linear(dim, dim), value=linear(dim, dim))
    output = Named(lambda self, x: self.dense(x), dense=linear(dim, dim))
    mlp = Named(lambda self, x: self.fc2(self.activation(self.fc1(x))), fc1=linear(dim, ffn), fc2=linear(ffn, dim))
    mlp.activation = nn.GELU()
    return Named(
        block,
        norm1=nn.LayerNorm(dim, 1e-6),
        attention=Named(lambda self, x: self.output(self.attention(x)), attention=inner, output=output),
        layer_scale1=Scale(dim),
        norm2=nn.LayerNorm(dim, 1e-6),
        mlp=mlp,
        layer_scale2=Scale(dim),
    )


def old_dinov2(dim, ratio, layers, heads, image, patch):
    """The same network with its positions interpolated as transformers 4 does."""

    def embed(self, pixels):
        n, _, height, width = pixels.shape
        x = self.patch_embeddings(pixels)
        x = torch.cat([self.cls_token.expand(n, -1, -1), x], dim=1)
        first, table = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        # The width as traced: otherwise the exporter computes this ahead, which it does not in old files.
        side, traced = image // patch, x.shape[-1]
        table = table.reshape(1, side, side, traced).permute(0, 3, 1, 2)
        size = (height // patch, width // patch)
        table = nn.functional.interpolate(table, size=size, mode="bicubic", align_corners=False)
        return x + torch.cat([first, table.permute(0, 2, 3, 1).reshape(1, -1, traced)], dim=1)

    def encode(self, x):
        for layer in self.layer:
            x = layer(x)
        return x

    embeddings = Named(embed)
    embeddings.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
    embeddings.position_embeddings = nn.Parameter(torch.zeros(1, 1 + (image // patch) ** 2, dim))
    embeddings.patch_embeddings = Named(
        lambda self, x: self.projection(x).flatten(2).transpose(1, 2), projection=nn.Conv2d(3, dim, patch, patch)
    )
    encoder = Named(encode, layer=nn.ModuleList(old_layer(dim, dim * ratio, heads) for _ in range(layers)))
    backbone = Named(
        lambda self, x: self.layernorm(self.encoder(self.embeddings(x))),
        embeddings=embeddings,
        encoder=encoder,
        layernorm=nn.LayerNorm(dim, 1e-6),
    )
    return Named(lambda self, x: self.decoder(self.backbone(x)[:, 1:]), backbone=backbone, decoder=nn.Linear(dim, 1))


def export_old(path, sizes, seed):
    """Writes an ONNX file, and gives Hugging Face's network with its weights."""
    old = randomise(old_dinov2(*sizes), seed)
    pixels = torch.randn(1, 3, 3 * sizes[-1], 2 * sizes[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"pixels": {0: "n", 2: "height", 3: "width"}}
        names = {"input_names": ["pixels"], "output_names": ["mask"], "dynamic_axes": axes}
        torch.onnx.export(old, (pixels,), path, dynamo=False, opset_version=14, **names)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    apart = (torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0]) - old(pixels)).abs().max().item()
    assert apart < 1e-5, f"{path} computes something else: {apart}"
    model = dinov2(*sizes)
    new = {map_names(name): x for name, x in old.backbone.state_dict().items()}
    model.load_state_dict(new | {"embeddings.mask_token": model.embeddings.mask_token}, strict=True)
    return model.eval()


def map_names(name):
    """From the names of transformers 4, which all files have, to those of the module in transformers 5."""
    for old, new in [("attention.query", "q_proj"), ("attention.key", "k_proj"), ("attention.value", "v_proj")]:
        name = name.replace(f"attention.{old}", f"attention.{new}")
    return name.replace("attention.output.dense", "attention.o_proj")


def record(model, sizes, path, seed):
    """Writes pixels of these sizes and the tokens."""
    generator, model, tensors = torch.Generator().manual_seed(seed), copy.deepcopy(model).double(), {}
    for i, (height, width) in enumerate(sizes):
        pixels = torch.randn(2, height, width, 3, generator=generator)
        tensors[f"pixels.{i}"] = pixels
        tensors[f"tokens.{i}"] = tokens(model, pixels.double()).float().contiguous()
    save_file(tensors, path)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default="testdata/import")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)
    small = (16, 24, 2, 2, 20, 4)
    models = {
        "clip": (randomise(whole_clip(), 1), torch.float32),
        "siglip": (randomise(siglip(*small), 2), torch.bfloat16),
        "dinov2": (randomise(dinov2(16, 2, 2, 2, 20, 4), 3), torch.float16),
    }
    for seed, (name, (model, dtype)) in enumerate(models.items()):
        model.to(dtype).save_pretrained(out / name, max_shard_size="20KB" if name == "clip" else "1GB")
        record(model, [(20, 20), (12, 28)], out / f"{name}.safetensors", seed)
    model = export_old(out / "dinov2.onnx", (16, 2, 2, 2, 20, 4), 4)
    record(model, [(20, 20), (12, 28)], out / "dinov2-onnx.safetensors", 5)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
