"""The network of crates/model in PyTorch: an independent reference for its golden tests, and the other side
of bench/train. Parameters have the names and shapes of our safetensors files (matrices `[in, out]`, maps
channels last).

    model = Mm1(config)                       # the [model] table of a recipe as a dict
    model.load(safetensors.torch.load_file(path))
    loss = model.loss(batch)                  # sum of weight * nll
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def matrix(*shape):
    return nn.Parameter(torch.zeros(*shape))


class Norm(nn.Module):
    """LayerNorm where there is a beta, else RMSNorm."""

    def __init__(self, dim, eps, layer):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.beta = nn.Parameter(torch.zeros(dim)) if layer else None
        self.eps = eps

    def forward(self, x):
        if self.beta is None:
            return F.rms_norm(x, self.gamma.shape, self.gamma, self.eps)
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, self.eps)


def linear(x, weight, bias=None):
    return F.linear(x, weight.t(), bias)


def rotate(x, cos, sin):
    """Component i of a head turns with component i + c/2. x: [b, h, t, c], cos and sin: [b, 1, t, c/2]."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class QkNorm(nn.Module):
    """RMSNorm of each query head and each key head."""

    def __init__(self, width, eps):
        super().__init__()
        self.q_gamma, self.k_gamma = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, q, k):
        norm = lambda x, gamma: F.rms_norm(x, gamma.shape, gamma, self.eps)
        return norm(q, self.q_gamma), norm(k, self.k_gamma)


class Attention(nn.Module):
    """`decoder` has the settings of `[model.lm]` that only some decoders have."""

    def __init__(self, dim, heads, kv_heads, eps, layer, decoder={}):
        super().__init__()
        width = decoder.get("head_width", dim // heads)
        self.heads, self.kv_heads, self.width = heads, kv_heads, width
        inner = (heads + 2 * kv_heads) * width
        self.norm = Norm(dim, eps, layer)
        self.qkv, self.out = matrix(dim, inner), matrix(heads * width, dim)
        self.qkv_bias = matrix(inner) if layer or decoder.get("qkv_bias") else None
        self.out_bias = matrix(dim) if layer else None
        self.qk_norm = QkNorm(width, eps) if decoder.get("qk_norm") else None

    def forward(self, x, mask=None, angles=None):
        b, t, _ = x.shape
        h, g, c = self.heads, self.kv_heads, self.width
        qkv = linear(self.norm(x), self.qkv, self.qkv_bias).view(b, t, h + 2 * g, c).transpose(1, 2)
        q, k, v = qkv.split([h, g, g], dim=1)
        if self.qk_norm is not None:
            q, k = self.qk_norm(q, k)
        if angles is not None:
            q, k = rotate(q, *angles), rotate(k, *angles)
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=h != g)
        return x + linear(o.transpose(1, 2).reshape(b, t, h * c), self.out, self.out_bias)


GELUS = {
    "gelu": F.gelu,
    "quick-gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
}


class Mlp(nn.Module):
    """A GELU with biases beside a LayerNorm, else SwiGLU without."""

    def __init__(self, dim, ffn, eps, layer, activation="gelu"):
        super().__init__()
        self.norm = Norm(dim, eps, layer)
        self.gelu = GELUS[activation] if layer else None
        self.up, self.down = matrix(dim, ffn if layer else 2 * ffn), matrix(ffn, dim)
        self.up_bias = matrix(ffn) if layer else None
        self.down_bias = matrix(dim) if layer else None

    def forward(self, x):
        y = linear(self.norm(x), self.up, self.up_bias)
        if self.gelu:
            y = self.gelu(y)
        else:
            gate, up = y.chunk(2, dim=-1)
            y = F.silu(gate) * up
        return x + linear(y, self.down, self.down_bias)


class Block(nn.Module):
    def __init__(self, dim, heads, kv_heads, ffn, eps, layer, activation="gelu", decoder={}):
        super().__init__()
        self.attention = Attention(dim, heads, kv_heads, eps, layer, decoder)
        self.mlp = Mlp(dim, ffn, eps, layer, activation)

    def forward(self, x, mask=None, angles=None):
        return self.mlp(self.attention(x, mask, angles))


class ConvStage(nn.Module):
    def __init__(self, inputs, out, eps):
        super().__init__()
        self.weight = matrix(9 * inputs, out)
        self.norm = Norm(out, eps, True)

    def forward(self, x):
        """[n, c, h, w] -> [n, o, h/2, w/2]"""
        weight = self.weight.view(3, 3, x.shape[1], -1).permute(3, 2, 0, 1)
        x = F.conv2d(x, weight, stride=2, padding=1)
        return F.gelu(self.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


def resample(table, start, end):
    """A table of positions of the grid `start` (rows, columns) for the grid `end`: [p, d] -> [p', d]"""
    if tuple(start) == tuple(end):
        return table
    table = table.view(1, *start, -1).permute(0, 3, 1, 2)
    return F.interpolate(table, size=tuple(end), mode="bicubic", antialias=False).flatten(2).transpose(1, 2)[0]


def square(table):
    """The grid of a table [p, d]."""
    return (math.isqrt(table.shape[0]),) * 2


class Vision(nn.Module):
    def __init__(self, config):
        super().__init__()
        dim, patch, eps = config["dim"], config["patch"], config["norm_eps"]
        self.side = patch
        stages = int(math.log2(patch)) if config["stem"] == "conv" else 0
        widths = [3] + [dim >> (stages - 1 - i) for i in range(stages)]
        self.stem = nn.ModuleList(ConvStage(widths[i], widths[i + 1], eps) for i in range(stages))
        self.patch = matrix(dim if stages else patch * patch * 3, dim)
        self.patch_bias = matrix(dim)
        self.position = matrix((config["image_size"] // patch) ** 2, dim)
        self.class_token = matrix(1, dim) if config["class_token"] else None
        self.pre_norm = Norm(dim, eps, True) if config.get("pre_norm") else None
        heads, activation = config["heads"], config.get("activation", "gelu")
        self.blocks = nn.ModuleList(
            Block(dim, heads, heads, config["ffn"], eps, True, activation)
            for _ in range(config.get("feature_block") or config["layers"])
        )
        self.norm = Norm(dim, eps, True) if config.get("last_norm", True) else nn.Identity()

    def forward(self, pixels):
        """[n, h, w, 3] -> [n, p, d]"""
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        if self.class_token is not None:
            x = x[:, 1:]
        return self.norm(x)

    def encode(self, x, mask=None):
        """[n, t, d] -> [n, t, d], the class token among them."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)

    def embed(self, pixels):
        """[n, h, w, 3] -> [n, t, d]"""
        n, h, w, _ = pixels.shape
        if self.stem:
            x = pixels.permute(0, 3, 1, 2)
            for stage in self.stem:
                x = stage(x)
            x = x.flatten(2).transpose(1, 2)
        else:
            p = self.side
            x = pixels.view(n, h // p, p, w // p, p, 3).transpose(2, 3).reshape(n, -1, p * p * 3)
        grid = (h // self.side, w // self.side)
        x = linear(x, self.patch, self.patch_bias) + resample(self.position, square(self.position), grid)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(n, 1, -1), x], dim=1)
        return x if self.pre_norm is None else self.pre_norm(x)


def as_map(x, grid=None):
    """[n, h w, c] -> [n, c, h, w]; without a grid it is a square."""
    n, p, c = x.shape
    return x.transpose(1, 2).reshape(n, c, *(grid or (math.isqrt(p),) * 2))


class AveragePool(nn.Module):
    def __init__(self, config, vision, out):
        super().__init__()
        self.side = math.isqrt(config["tokens"])
        self.project, self.project_bias = matrix(vision["dim"], out), matrix(out)

    def forward(self, x, grid=None):
        x = F.adaptive_avg_pool2d(as_map(x, grid), self.side).flatten(2).transpose(1, 2)
        return linear(x, self.project, self.project_bias)


class AttentionPool(nn.Module):
    def __init__(self, config, vision, out):
        super().__init__()
        dim, eps = vision["dim"], vision["norm_eps"]
        self.heads = config["heads"]
        self.queries = matrix(config["tokens"], dim)
        self.q, self.q_bias = matrix(dim, dim), matrix(dim)
        self.kv, self.kv_bias = matrix(dim, 2 * dim), matrix(2 * dim)
        self.out, self.out_bias = matrix(dim, dim), matrix(dim)
        self.mlp = Mlp(dim, 4 * dim, eps, True)
        self.norm = Norm(dim, eps, True)
        self.project, self.project_bias = matrix(dim, out), matrix(out)

    def forward(self, x):
        n, p, d = x.shape
        split = lambda y: y.reshape(n, -1, self.heads, d // self.heads).transpose(1, 2)
        q = linear(self.queries, self.q, self.q_bias).expand(n, -1, -1)
        k, v = linear(x, self.kv, self.kv_bias).chunk(2, dim=-1)
        o = F.scaled_dot_product_attention(split(q), split(k), split(v)).transpose(1, 2).reshape(n, -1, d)
        y = self.mlp(self.queries + linear(o, self.out, self.out_bias))
        return linear(self.norm(y), self.project, self.project_bias)


class Shortcut(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.weight, self.norm = matrix(inputs, width), Norm(width, 1e-5, True)

    def forward(self, x):
        return self.norm(linear(x, self.weight))


class Abstraction(nn.Module):
    """RegNet bottleneck block with squeeze-and-excite, channels last: [n, h, w, i] -> [n, h, w, o]."""

    def __init__(self, inputs, width):
        super().__init__()
        squeezed = max(inputs // 4, 1)
        self.expand, self.expand_norm = matrix(inputs, width), Norm(width, 1e-5, True)
        self.depthwise, self.depthwise_norm = matrix(9, width), Norm(width, 1e-5, True)
        self.squeeze, self.squeeze_bias = matrix(width, squeezed), matrix(squeezed)
        self.excite, self.excite_bias = matrix(squeezed, width), matrix(width)
        self.reduce, self.reduce_norm = matrix(width, width), Norm(width, 1e-5, True)
        self.shortcut = Shortcut(inputs, width) if inputs != width else None

    def forward(self, x):
        y = F.silu(self.expand_norm(linear(x, self.expand)))
        width = y.shape[-1]
        weight = self.depthwise.t().reshape(width, 1, 3, 3)
        y = F.conv2d(y.permute(0, 3, 1, 2), weight, padding=1, groups=width).permute(0, 2, 3, 1)
        y = F.silu(self.depthwise_norm(y))
        gate = F.silu(linear(y.mean((1, 2)), self.squeeze, self.squeeze_bias))
        y = y * torch.sigmoid(linear(gate, self.excite, self.excite_bias))[:, None, None]
        y = self.reduce_norm(linear(y, self.reduce))
        return F.silu(y + (x if self.shortcut is None else self.shortcut(x)))


class CAbstractor(nn.Module):
    def __init__(self, config, vision, out):
        super().__init__()
        dim, width, depth = vision["dim"], config["dim"], config["depth"]
        self.side = math.isqrt(config["tokens"])
        self.position = matrix((vision["image_size"] // vision["patch"]) ** 2, dim)
        self.before = nn.ModuleList(Abstraction(width if i else dim, width) for i in range(depth))
        self.after = nn.ModuleList(Abstraction(width, width) for _ in range(depth))
        self.readout, self.readout_bias = matrix(width, out), matrix(out)
        self.project, self.project_bias = matrix(out, out), matrix(out)

    def forward(self, x, grid=None):
        start = square(self.position)
        x = as_map(x + resample(self.position, start, grid or start), grid).permute(0, 2, 3, 1)
        for block in self.before:
            x = block(x)
        x = F.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), self.side).permute(0, 2, 3, 1)
        for block in self.after:
            x = block(x)
        x = F.silu(linear(x.flatten(1, 2), self.readout, self.readout_bias))
        return linear(x, self.project, self.project_bias)


class MlpConnector(nn.Module):
    """LLaVA-1.5's: an image token of each patch."""

    def __init__(self, config, vision, out):
        super().__init__()
        self.hidden, self.hidden_bias = matrix(vision["dim"], out), matrix(out)
        self.project, self.project_bias = matrix(out, out), matrix(out)

    def forward(self, x, grid=None):
        return linear(F.gelu(linear(x, self.hidden, self.hidden_bias)), self.project, self.project_bias)


class ResamplerLayer(nn.Module):
    """Flamingo's perceiver attention and feed-forward (Alayrac et al. 2022, figure 5)."""

    def __init__(self, dim, heads, eps):
        super().__init__()
        self.heads = heads
        self.media_norm, self.norm = Norm(dim, eps, True), Norm(dim, eps, True)
        self.q, self.kv, self.out = matrix(dim, dim), matrix(dim, 2 * dim), matrix(dim, dim)
        self.mlp = Mlp(dim, 4 * dim, eps, True)

    def forward(self, latents, media):
        n, k, d = latents.shape
        split = lambda y: y.reshape(n, -1, self.heads, d // self.heads).transpose(1, 2)
        normed = self.norm(latents)
        keys, values = linear(torch.cat([self.media_norm(media), normed], 1), self.kv).chunk(2, dim=-1)
        o = F.scaled_dot_product_attention(split(linear(normed, self.q)), split(keys), split(values))
        return self.mlp(latents + linear(o.transpose(1, 2).reshape(n, k, d), self.out))


class GatedLayer(nn.Module):
    """Flamingo's gated cross-attention and feed-forward (figure 4)."""

    def __init__(self, heads, seen, dim, eps):
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = Norm(dim, eps, True), Norm(dim, eps, True)
        self.q, self.kv, self.out = matrix(dim, dim), matrix(seen, 2 * dim), matrix(dim, dim)
        self.up, self.down = matrix(dim, 4 * dim), matrix(4 * dim, dim)
        self.attention_gate, self.mlp_gate = matrix(1), matrix(1)

    def forward(self, x, latents, sees):
        """x: [b, t, d], latents: [n, k, d'], sees: [b, t, n], whether a position looks at a picture."""
        b, t, d = x.shape
        n, k, _ = latents.shape
        split = lambda y: y.reshape(y.shape[0], -1, self.heads, d // self.heads).transpose(1, 2)
        keys, values = linear(latents.reshape(1, n * k, -1), self.kv).chunk(2, dim=-1)
        scores = split(linear(self.norm(x), self.q)) @ split(keys).transpose(-1, -2) / math.sqrt(d // self.heads)
        mask = sees.repeat_interleave(k, dim=-1)[:, None]
        looks = sees.any(-1)[:, None, :, None]
        scores = scores.masked_fill(~mask & looks, float("-inf"))
        o = (scores.softmax(-1) @ split(values)) * looks
        x = x + self.attention_gate.tanh() * linear(o.transpose(1, 2).reshape(b, t, d), self.out)
        return x + self.mlp_gate.tanh() * linear(F.gelu(linear(self.mlp_norm(x), self.up)), self.down)


class CrossAttention(nn.Module):
    """Flamingo's: latents of each picture, and layers between the decoder's blocks that look at them."""

    def __init__(self, config, vision, lm):
        super().__init__()
        dim, eps, heads, self.every = vision["dim"], vision["norm_eps"], config["heads"], config["every"]
        self.queries = matrix(config["latents"], dim)
        self.resampler = nn.ModuleList(ResamplerLayer(dim, heads, eps) for _ in range(config["depth"]))
        self.norm = Norm(dim, eps, True)
        layers = math.ceil(lm["layers"] / self.every)
        self.gated = nn.ModuleList(GatedLayer(heads, dim, lm["dim"], eps) for _ in range(layers))

    def forward(self, x):
        latents = self.queries.expand(x.shape[0], -1, -1)
        for layer in self.resampler:
            latents = layer(latents, x)
        return self.norm(latents)


def sees(mask, slots):
    """Whether a position looks at a picture: at the last one that it sees in the sequence. `mask` is that of
    `layout`, `slots` are flat; [b, t, n]."""
    b, _, t, _ = mask.shape
    found = torch.zeros(b, t, len(slots), dtype=torch.bool)
    place = {divmod(int(slot), t): picture for picture, slot in enumerate(slots)}
    for row in range(b):
        for position in range(t):
            seen = [at for at in range(t) if mask[row, 0, position, at] and (row, at) in place]
            if seen:
                found[row, position, place[row, max(seen)]] = True
    return found


CONNECTORS = {
    "average-pool": AveragePool,
    "attention-pool": AttentionPool,
    "c-abstractor": CAbstractor,
    "mlp": MlpConnector,
}


def scaled(frequencies, scaling):
    """RoPE's frequencies after `[model.lm.rope_scaling]`; Llama 3's as transformers writes it."""
    if scaling["kind"] == "none":
        return frequencies
    slow = frequencies / scaling["factor"]
    if scaling["kind"] == "linear":
        return slow
    low, high, length = (scaling[key] for key in ("low_freq_factor", "high_freq_factor", "original_length"))
    wavelength = 2 * math.pi / frequencies
    smooth = (length / wavelength - low) / (high - low)
    between = (1 - smooth) * slow + smooth * frequencies
    stretched = torch.where(wavelength > length / low, slow, between)
    return torch.where(wavelength < length / high, frequencies, stretched)


class Lm(nn.Module):
    def __init__(self, config):
        super().__init__()
        dim, eps = config["dim"], config["norm_eps"]
        self.width, self.base = config.get("head_width", dim // config["heads"]), config["rope_base"]
        self.scaling = config.get("rope_scaling", {"kind": "none"})
        self.embedding = matrix(config["vocab"], dim)
        self.blocks = nn.ModuleList(
            Block(dim, config["heads"], config["kv_heads"], config["ffn"], eps, False, decoder=config)
            for _ in range(config["layers"])
        )
        self.norm = Norm(dim, eps, False)
        self.head = None if config["tied"] else matrix(dim, config["vocab"])

    def forward(self, x, mask, positions, before=lambda i, x: x):
        frequencies = scaled(self.base ** (-torch.arange(0, self.width, 2, dtype=torch.float64) / self.width), self.scaling)
        angle = positions[:, None, :, None].to(torch.float64) * frequencies.to(x.device)
        angles = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(before(i, x), mask, angles)
        return self.norm(x)

    def logits(self, hidden):
        return F.linear(hidden, self.embedding) if self.head is None else linear(hidden, self.head)


def layout(spans, rows, length):
    """The attention mask [rows, 1, length, length] and each position's place in its span [rows, length]. A
    position outside every span sees itself alone, so that no row of scores is empty; nobody sees it."""
    example = torch.arange(-1, -1 - rows * length, -1).view(rows, length).clone()
    positions = torch.zeros(rows, length, dtype=torch.long)
    for number, (row, start, count) in enumerate(spans):
        example[row, start : start + count] = number
        positions[row, start : start + count] = torch.arange(count)
    same = example[:, None, :, None] == example[:, None, None, :]
    return same & torch.ones(length, length, dtype=torch.bool).tril(), positions


class Mm1(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        connector = config["connector"]
        self.vision = Vision(config["vision"])
        self.beside = connector["kind"] == "cross-attention"
        if self.beside:
            self.connector = CrossAttention(connector, config["vision"], config["lm"])
        else:
            self.connector = CONNECTORS[connector["kind"]](connector, config["vision"], config["lm"]["dim"])
        self.lm = Lm(config["lm"])

    def load(self, tensors):
        self.load_state_dict(tensors, strict=True)

    def image_tokens(self, pixels):
        """[n, s, s, 3] -> [n, k, d]"""
        return self.connector(self.vision(pixels))

    def embed(self, batch):
        x = F.embedding(batch["ids"], self.lm.embedding)
        slots = batch["image_slots"]
        if len(slots) == 0 or self.beside:
            return x
        image = self.image_tokens(batch["pixels"])
        places = (slots[:, None] + torch.arange(image.shape[1], device=slots.device)).flatten()
        return x.flatten(0, 1).index_copy(0, places, image.flatten(0, 1).to(x.dtype)).view_as(x)

    def hidden(self, batch):
        """`mask` and `positions` are of `layout`."""
        return self.read(self.embed(batch), batch)

    def read(self, embeds, batch):
        if not self.beside:
            return self.lm(embeds, batch["mask"], batch["positions"])
        latents, looks = self.image_tokens(batch["pixels"]), sees(batch["mask"], batch["image_slots"])

        def before(i, x):
            if i % self.connector.every:
                return x
            return self.connector.gated[i // self.connector.every](x, latents, looks)

        return self.lm(embeds, batch["mask"], batch["positions"], before)

    def loss(self, batch):
        """Sum of weight * nll over the positions with a weight."""
        weights = batch["weights"].flatten()
        learned = weights.nonzero().flatten()
        hidden = self.hidden(batch).flatten(0, 1)[learned]
        losses = F.cross_entropy(self.lm.logits(hidden), batch["targets"].flatten()[learned], reduction="none")
        return (losses * weights[learned]).sum()
