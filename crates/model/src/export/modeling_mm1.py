"""MM1 (McKinzie et al. 2024, arXiv 2403.09611) for transformers.

An image encoder makes features of patches, a connector makes a fixed number of image tokens of them, and
these stand among the text of a decoder of transformers (Llama, Qwen2 or Qwen3). `vision_config` and
`connector_config` have the names of a recipe of the program `mm1`, which has trained the weights.

    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True)
    inputs = processor(images=[image], text="<image>A photo of", return_tensors="pt")
    print(processor.decode(model.generate(**inputs, max_new_tokens=32)[0], skip_special_tokens=True))

Shapes: n pictures, t tokens of an encoder, p patches, k image tokens, d the encoder's width, D the decoder's.
"""

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, BatchFeature, GenerationMixin
from transformers import PretrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.auto import CONFIG_MAPPING
from transformers.processing_utils import ProcessorMixin

IMAGE_TOKEN = "<image>"

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick-gelu": lambda x: x * torch.sigmoid(1.702 * x),
}


class Mm1Config(PretrainedConfig):
    model_type = "mm1"

    def __init__(
        self, vision_config=None, connector_config=None, text_config=None, image_token_id=0, **kwargs
    ):
        self.vision_config = vision_config or {}
        self.connector_config = connector_config or {}
        text_config = text_config or {"model_type": "llama"}
        if isinstance(text_config, dict):
            text_config = CONFIG_MAPPING[text_config["model_type"]](**text_config)
        self.text_config = text_config
        self.image_token_id = image_token_id
        super().__init__(**kwargs)


# The image encoder


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x):
        q, k, v = (split(map_(x), self.heads) for map_ in (self.q, self.k, self.v))
        return self.out(join(F.scaled_dot_product_attention(q, k, v)))


def split(x, heads):
    """[n, t, d] -> [n, heads, t, d / heads]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join(x):
    """The other way."""
    return x.transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    def __init__(self, dim, hidden, activation):
        super().__init__()
        self.up, self.down, self.activation = nn.Linear(dim, hidden), nn.Linear(hidden, dim), activation

    def forward(self, x):
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config):
        super().__init__()
        dim, eps = config["dim"], config["norm_eps"]
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.attention = Attention(dim, config["heads"])
        self.mlp = Mlp(dim, config["ffn"], ACTIVATIONS[config["activation"]])

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ConvStage(nn.Module):
    """Halves the side of a map: convolution, norm over channels, GELU."""

    def __init__(self, inputs, outputs, eps):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(outputs, eps=eps)

    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)
        return F.gelu(self.norm(x)).permute(0, 3, 1, 2)


class Vision(nn.Module):
    """A vision transformer: pictures [n, 3, h, w] -> features of the patches [n, p, d], row by row."""

    def __init__(self, config):
        super().__init__()
        dim, patch, eps = config["dim"], config["patch"], config["norm_eps"]
        self.grid = config["image_size"] // patch
        stages = patch.bit_length() - 1 if config["stem"] == "conv" else 0
        widths = [3] + [dim >> (stages - 1 - stage) for stage in range(stages)]
        self.stem = nn.ModuleList(ConvStage(*pair, eps) for pair in zip(widths, widths[1:]))
        self.patch_embedding = nn.Linear(dim, dim) if stages else nn.Conv2d(3, dim, patch, stride=patch)
        self.position = nn.Parameter(torch.zeros(self.grid**2, dim))
        self.class_token = nn.Parameter(torch.zeros(1, dim)) if config["class_token"] else None
        self.pre_norm = nn.LayerNorm(dim, eps=eps) if config["pre_norm"] else nn.Identity()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.norm = nn.LayerNorm(dim, eps=eps) if config.get("last_norm", True) else nn.Identity()

    def forward(self, x):
        for stage in self.stem:
            x = stage(x)
        if self.stem:
            grid, x = x.shape[2:], self.patch_embedding(x.flatten(2).transpose(1, 2))
        else:
            x = self.patch_embedding(x)
            grid, x = x.shape[2:], x.flatten(2).transpose(1, 2)
        x = x + resampled(self.position, self.grid, grid)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], 1)
        x = self.pre_norm(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x if self.class_token is None else x[:, 1:]


def resampled(table, side, grid):
    """A table of positions [side * side, d] for a grid of another height and width."""
    if tuple(grid) == (side, side):
        return table
    table = table.unflatten(0, (side, side)).permute(2, 0, 1)[None]
    return F.interpolate(table, size=tuple(grid), mode="bicubic", align_corners=False)[0].flatten(1).T


# The connectors: features [n, p, d] of square pictures -> image tokens [n, k, D]


def as_map(x):
    side = round(x.shape[1] ** 0.5)
    return x.transpose(1, 2).unflatten(2, (side, side))


def as_list(x):
    return x.flatten(2).transpose(1, 2)


class AveragePool(nn.Module):
    """Adaptive average pooling, then a linear map."""

    def __init__(self, config, vision, out):
        super().__init__()
        self.side = round(config["tokens"] ** 0.5)
        self.project = nn.Linear(vision["dim"], out, bias=config.get("bias", True))

    def forward(self, x):
        return self.project(as_list(F.adaptive_avg_pool2d(as_map(x), self.side)))


class ResidualMlp(Mlp):
    def __init__(self, dim, eps):
        super().__init__(dim, 4 * dim, F.gelu)
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, x):
        return x + super().forward(self.norm(x))


class AttentionPool(nn.Module):
    """Learned queries look at the patches once; then an MLP and a linear map."""

    def __init__(self, config, vision, out):
        super().__init__()
        dim, eps = vision["dim"], vision["norm_eps"]
        self.heads = config["heads"]
        self.queries = nn.Parameter(torch.zeros(config["tokens"], dim))
        self.q, self.kv, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.mlp = ResidualMlp(dim, eps)
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.project = nn.Linear(dim, out)

    def forward(self, x):
        q = split(self.q(self.queries)[None], self.heads).expand(len(x), -1, -1, -1)
        k, v = (split(part, self.heads) for part in self.kv(x).chunk(2, -1))
        x = self.queries + self.out(join(F.scaled_dot_product_attention(q, k, v)))
        return self.project(self.norm(self.mlp(x)))


class Shortcut(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.map, self.norm = nn.Linear(inputs, width, bias=False), nn.LayerNorm(width, eps=1e-5)

    def forward(self, x):
        return self.norm(self.map(x))


class Bottleneck(nn.Module):
    """RegNet's block with squeeze-and-excite: maps [n, h, w, inputs] -> [n, h, w, width]."""

    def __init__(self, inputs, width):
        super().__init__()
        squeezed = max(inputs // 4, 1)
        self.expand = nn.Linear(inputs, width, bias=False)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.squeeze, self.excite = nn.Linear(width, squeezed), nn.Linear(squeezed, width)
        self.reduce = nn.Linear(width, width, bias=False)
        self.expand_norm, self.depthwise_norm, self.reduce_norm = (
            nn.LayerNorm(width, eps=1e-5) for _ in range(3)
        )
        self.shortcut = nn.Identity() if inputs == width else Shortcut(inputs, width)

    def forward(self, x):
        y = F.silu(self.expand_norm(self.expand(x)))
        y = self.depthwise(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = F.silu(self.depthwise_norm(y))
        y = y * torch.sigmoid(self.excite(F.silu(self.squeeze(y.mean((1, 2), keepdim=True)))))
        return F.silu(self.reduce_norm(self.reduce(y)) + self.shortcut(x))


class CAbstractor(nn.Module):
    """Honeybee's (Cha et al. 2023): blocks, adaptive average pooling, blocks, two linear maps."""

    def __init__(self, config, vision, out):
        super().__init__()
        self.side, self.grid = round(config["tokens"] ** 0.5), vision["image_size"] // vision["patch"]
        width, depth, dim = config["dim"], config["depth"], vision["dim"]
        self.position = nn.Parameter(torch.zeros(self.grid**2, dim))
        self.before = nn.Sequential(*(Bottleneck(width if i else dim, width) for i in range(depth)))
        self.after = nn.Sequential(*(Bottleneck(width, width) for _ in range(depth)))
        self.readout, self.project = nn.Linear(width, out), nn.Linear(out, out)

    def forward(self, x):
        grid = as_map(x).shape[2:]
        x = as_map(x + resampled(self.position, self.grid, grid)).permute(0, 2, 3, 1)
        x = F.adaptive_avg_pool2d(self.before(x).permute(0, 3, 1, 2), self.side)
        x = self.after(x.permute(0, 2, 3, 1)).flatten(1, 2)
        return self.project(F.silu(self.readout(x)))


class MlpConnector(nn.Module):
    """LLaVA-1.5's (Liu et al. 2023): each patch by itself through two linear maps."""

    def __init__(self, config, vision, out):
        super().__init__()
        self.hidden, self.project = nn.Linear(vision["dim"], out), nn.Linear(out, out)

    def forward(self, x):
        return self.project(F.gelu(self.hidden(x)))


CONNECTORS = {
    "average-pool": AveragePool,
    "attention-pool": AttentionPool,
    "c-abstractor": CAbstractor,
    "mlp": MlpConnector,
}


# The model


class Mm1ForConditionalGeneration(PreTrainedModel, GenerationMixin):
    config_class = Mm1Config
    main_input_name = "input_ids"
    _supports_sdpa = True
    # A list before version 5, as in all models there: peft does not mix both.
    _tied_weights_keys = {"language_model.lm_head.weight": "language_model.model.embed_tokens.weight"}
    if int(transformers.__version__.split(".")[0]) < 5:
        _tied_weights_keys = list(_tied_weights_keys)

    def __init__(self, config):
        super().__init__(config)
        vision, connector = config.vision_config, config.connector_config
        self.vision = Vision(vision)
        self.connector = CONNECTORS[connector["kind"]](connector, vision, config.text_config.hidden_size)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value):
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self):
        return self.language_model.get_output_embeddings()

    def get_image_features(self, pixel_values):
        """Pictures [n, 3, s, s] -> image tokens [n, k, D]."""
        return self.connector(self.vision(pixel_values.to(self.dtype)))

    def forward(
        self,
        input_ids=None,
        pixel_values=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        **kwargs,
    ):
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            places = (input_ids == self.config.image_token_id)[..., None].expand_as(inputs_embeds)
            features = self.get_image_features(pixel_values).to(inputs_embeds.dtype)
            inputs_embeds = inputs_embeds.masked_scatter(places, features)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, pixel_values=None, **kwargs):
        begun = past_key_values is not None and past_key_values.get_seq_length() > 0
        inputs = super().prepare_inputs_for_generation(input_ids, past_key_values=past_key_values, **kwargs)
        # Pictures are in the cache once the prompt is.
        return inputs | {"pixel_values": None if begun else pixel_values}


# Pictures and prompts


class Mm1ImageProcessor(BaseImageProcessor):
    """Pictures to squares, with the names of a recipe's `[image]`."""

    model_input_names = ["pixel_values"]
    FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}

    def __init__(self, size=224, image=None, **kwargs):
        super().__init__(**kwargs)
        self.size, self.image = size, image or {}

    def setting(self, name, default):
        return self.image.get(name, default)

    def square(self, image):
        size, how = self.size, self.FILTERS[self.setting("filter", "bicubic")]
        width, height = image.size
        mode, edge = self.setting("mode", "squash"), None
        if isinstance(mode, dict):
            ((mode, edge),) = mode.items()
        if mode in ("squash", "sides"):
            return image.resize((size, size), how)
        if mode == "centre-crop":
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            return image.resize((size, size), how, box=(left, top, left + side, top + side))
        if mode == "pad":
            sides = [max(round(side / max(width, height) * size), 1) for side in (width, height)]
            colour = tuple(round(255 * level) for level in self.setting("mean", [0.5] * 3))
            place = tuple((size - side) // 2 for side in sides)
            return pasted(image.resize(sides, how), size, colour, place)
        if mode == "shortest-edge":
            image = image.resize([int(edge * side / min(width, height)) for side in (width, height)], how)
        # The square in the middle, black where there is no picture.
        left, top = ((max(side - size, 0)) // 2 for side in image.size)
        image = image.crop((left, top, left + min(image.width, size), top + min(image.height, size)))
        return pasted(image, size, (0, 0, 0), tuple((size - side + 1) // 2 for side in image.size))

    def preprocess(self, images, return_tensors=None, **kwargs):
        images = images if isinstance(images, (list, tuple)) else [images]
        # Pictures of several prompts may come in lists of their own.
        images = [one for group in images for one in (group if isinstance(group, (list, tuple)) else [group])]
        pixels, background = [], tuple(self.setting("background", [255] * 3))
        mean, std = (np.float32(self.setting(name, [0.5] * 3)) for name in ("mean", "std"))
        for image in images:
            image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image))
            under = Image.new("RGBA", image.size, (*background, 255))
            image = self.square(Image.alpha_composite(under, image.convert("RGBA")).convert("RGB"))
            levels = np.asarray(image, dtype=np.float32) / np.float32(255)
            pixels.append(((levels - mean) / std).transpose(2, 0, 1))
        return BatchFeature({"pixel_values": np.stack(pixels)}, tensor_type=return_tensors)


def pasted(image, size, colour, place):
    square = Image.new("RGB", (size, size), colour)
    square.paste(image, place)
    return square


class Mm1Processor(ProcessorMixin):
    """Text with `<image>` for each picture, and the pictures."""

    attributes = ["image_processor", "tokenizer"]
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None, image_seq_len=64, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        self.image_seq_len = image_seq_len
        self.image_token = IMAGE_TOKEN

    def __call__(self, images=None, text=None, return_tensors=None, **kwargs):
        texts = [text] if isinstance(text, str) else list(text)
        features = {}
        if images is not None and not (isinstance(images, (list, tuple)) and not images):
            features = dict(self.image_processor(images, return_tensors=return_tensors))
        given, named = len(features.get("pixel_values", [])), sum(one.count(IMAGE_TOKEN) for one in texts)
        if given != named:
            raise ValueError(f"{given} pictures, but {IMAGE_TOKEN} stands in the text {named} times")
        texts = [one.replace(IMAGE_TOKEN, IMAGE_TOKEN * self.image_seq_len) for one in texts]
        return BatchFeature(dict(self.tokenizer(texts, return_tensors=return_tensors, **kwargs)) | features)
