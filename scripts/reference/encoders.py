"""Image encoders of Hugging Face with random weights: makes testdata/import, and bench/parity/encoders
takes its models from here.

    python3 scripts/reference/encoders.py [--out testdata/import]

Makes `clip/` (a whole CLIPModel in parts, f32), `siglip/` (bf16), `siglip-pair/` (a whole SiglipModel,
bf16), `dinov2/` (f16) and `dinov2.onnx` (as PyTorch exported older transformers' DINOv2, beside a head),
and for each NAME `NAME.safetensors`: `pixels.i` [n, h, w, 3] and what the encoder makes of them behind its
last norm, `tokens.i` [n, t, d], in f64 from the weights as they were saved.

The two whole models have a `tokenizer.json`; beside their tokens are the unit vectors of both towers,
`images.i` [n, e] and `texts` [m, e], of the texts in `NAME.json`, which has their ids as Python's
tokenizers gives them.

Needs: pip install transformers tokenizers onnx onnxruntime
"""

import argparse
import copy
import json
import pathlib
import shutil
import warnings

import onnxruntime
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

# Words with marks and signs, of no known letters, none at all, and more than both towers have room for.
TEXTS = [
    "a photo of a cat",
    "The RED face, with  two 'eyes' & it's 42!",
    "naïve 猫\t🙂",
    "",
    "a photo of the cat with the red face and a photo of the face of the other cat",
]
WORDS = ["a", "photo", "of", "the", "cat", "with", "red", "face"]


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
    if isinstance(model, (CLIPModel, SiglipModel)):
        model = model.vision_model
    states = model(pixels, interpolate_pos_encoding=True).last_hidden_state
    if "Siglip" in type(model).__name__:
        return states
    return getattr(model, "vision_model", model).post_layernorm(states)


def unit(features):
    """Unit vectors [n, e] of what get_…_features gave."""
    return nn.functional.normalize(getattr(features, "pooler_output", features), dim=-1)


def image_vectors(model, pixels):
    """Unit vectors [n, e] of pixels [n, h, w, 3]."""
    return unit(model.get_image_features(pixels.permute(0, 3, 1, 2), interpolate_pos_encoding=True))


def text_vectors(model, texts):
    """Unit vectors [m, e] of lists of ids, each by itself; SigLIP's are filled up with padding as it was
    trained.
    """
    text, vectors = model.config.text_config, []
    for ids in texts:
        if isinstance(model, SiglipModel):
            ids = ids + [text.pad_token_id] * (text.max_position_embeddings - len(ids))
        vectors.append(unit(model.get_text_features(torch.tensor([ids]))))
    return torch.cat(vectors)


def clip(dim, ffn, layers, heads, image, patch, **other):
    sizes = {"hidden_size": dim, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=image, patch_size=patch, **other))


def siglip(dim, ffn, layers, heads, image, patch, **other):
    sizes = {"hidden_size": dim, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads}
    return SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=image, patch_size=patch, **other))


def dinov2(dim, ratio, layers, heads, image, patch, **other):
    sizes = {"hidden_size": dim, "mlp_ratio": ratio, "num_hidden_layers": layers, "num_attention_heads": heads}
    return Dinov2Model(Dinov2Config(**sizes, image_size=image, patch_size=patch, **other))


def both(vision, text):
    """The settings of two towers: (dim, ffn, layers, heads, image, patch) and (dim, ffn, layers, heads,
    vocabulary, positions).
    """
    names = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    vision = dict(zip([*names, "image_size", "patch_size"], vision, strict=True))
    return vision, dict(zip([*names, "vocab_size", "max_position_embeddings"], text, strict=True))


def clip_pair(vision, text, space):
    """The last two ids are the start and the end of a text, as in CLIP's vocabulary."""
    vision, text = both(vision, text)
    text |= {"bos_token_id": text["vocab_size"] - 2, "eos_token_id": text["vocab_size"] - 1}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=space))


def siglip_pair(vision, text):
    vision, text = both(vision, text)
    text |= {"projection_size": vision["hidden_size"], "pad_token_id": 1}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def clip_tokenizer():
    """As CLIP's: lower case, byte-level BPE with an end-of-word mark, start and end around."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary, merges = letters + [f"{letter}</w>" for letter in letters], []
    for word in WORDS:
        start, *rest = [*word[:-1], f"{word[-1]}</w>"]
        for part in rest:
            if start + part not in vocabulary:
                merges.append((start, part))
                vocabulary.append(start + part)
            start += part
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: i for i, token in enumerate(vocabulary)}
    parts = {"unk_token": "<|endoftext|>", "continuing_subword_prefix": "", "end_of_word_suffix": "</w>"}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges, **parts))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = pre_tokenizers.Split(words, behavior="removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    start, end = [(token, ids[token]) for token in vocabulary[-2:]]
    tokenizer.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    tokenizer.add_special_tokens(vocabulary[-2:])
    return tokenizer


def siglip_tokenizer():
    """As SigLIP's: lower case without marks, pieces of words with likelihoods, an end."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(f"▁{word}", -2.0 - i / 8) for i, word in enumerate(WORDS)]
    pieces += [(letter, -4.0 - i / 8) for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz0123456789")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    marks, spaces = Regex(r"[!-/:-@\[-`{-~]"), Regex(r"\s+")
    clean = [normalizers.Replace(marks, ""), normalizers.Replace(spaces, " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *clean])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return tokenizer


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


def record(model, sizes, path, seed, tokenizer=None):
    """Writes pixels of these sizes and the tokens; with a tokenizer also the vectors of both towers and the
    texts' ids.
    """
    generator, model, tensors = torch.Generator().manual_seed(seed), copy.deepcopy(model).double(), {}
    for i, (height, width) in enumerate(sizes):
        pixels = torch.randn(2, height, width, 3, generator=generator)
        tensors[f"pixels.{i}"] = pixels
        tensors[f"tokens.{i}"] = tokens(model, pixels.double()).float().contiguous()
        if tokenizer:
            tensors[f"images.{i}"] = image_vectors(model, pixels.double()).float()
    if tokenizer:
        tokenizer.enable_truncation(model.config.text_config.max_position_embeddings)
        ids = [tokenizer.encode(text).ids for text in TEXTS]
        tensors["texts"] = text_vectors(model, ids).float()
        found = [{"text": text, "ids": ids} for text, ids in zip(TEXTS, ids, strict=True)]
        path.with_suffix(".json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    save_file(tensors, path)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default="testdata/import")
    out = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    torch.set_num_threads(1)
    small, tokenizers = (16, 24, 2, 2, 20, 4), {"clip": clip_tokenizer(), "siglip-pair": siglip_tokenizer()}
    vocab = {name: tokenizer.get_vocab_size() for name, tokenizer in tokenizers.items()}
    models = {
        "clip": (randomise(clip_pair(small, (8, 8, 1, 2, vocab["clip"], 12), 8), 1), torch.float32),
        "siglip": (randomise(siglip(*small), 2), torch.bfloat16),
        "dinov2": (randomise(dinov2(16, 2, 2, 2, 20, 4), 3), torch.float16),
        "siglip-pair": (randomise(siglip_pair(small, (12, 20, 2, 2, vocab["siglip-pair"], 12)), 6), torch.bfloat16),
    }
    for seed, (name, (model, dtype)) in enumerate(models.items()):
        model.to(dtype).save_pretrained(out / name, max_shard_size="40KB" if name == "clip" else "1GB")
        if name in tokenizers:
            tokenizers[name].save(str(out / name / "tokenizer.json"), pretty=False)
        record(model, [(20, 20), (12, 28)], out / f"{name}.safetensors", seed, tokenizers.get(name))
    model = export_old(out / "dinov2.onnx", (16, 2, 2, 2, 20, 4), 4)
    record(model, [(20, 20), (12, 28)], out / "dinov2-onnx.safetensors", 5)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
