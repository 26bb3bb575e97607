"""Checks mm1.py's C-Abstractor against timm's RegStage, which Honeybee's own code builds it from.

    pip install timm torchvision && python3 scripts/reference/check_c_abstractor.py
"""

from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from timm.models.regnet import RegStage

from mm1 import CAbstractor


def load(stage, blocks):
    pointwise = lambda weight: weight.t()[:, :, None, None]
    for block, theirs in zip(blocks, stage.children(), strict=True):
        values = {
            "conv1.conv.weight": pointwise(block.expand),
            "conv2.conv.weight": block.depthwise.t().reshape(-1, 1, 3, 3),
            "conv3.conv.weight": pointwise(block.reduce),
            "se.fc1.weight": pointwise(block.squeeze),
            "se.fc1.bias": block.squeeze_bias,
            "se.fc2.weight": pointwise(block.excite),
            "se.fc2.bias": block.excite_bias,
        }
        norms = {"conv1": block.expand_norm, "conv2": block.depthwise_norm, "conv3": block.reduce_norm}
        if block.shortcut is not None:
            values["downsample.conv.weight"] = pointwise(block.shortcut.weight)
            norms["downsample"] = block.shortcut.norm
        for name, norm in norms.items():
            values |= {f"{name}.bn.weight": norm.gamma, f"{name}.bn.bias": norm.beta}
        theirs.load_state_dict(values, strict=True)


def main():
    torch.manual_seed(0)
    dim, width, out, depth, side, grid = 16, 20, 24, 3, 4, 6
    config = {"tokens": side * side, "dim": width, "depth": depth}
    ours = CAbstractor(config, {"dim": dim, "image_size": grid * 4, "patch": 4}, out)
    for parameter in ours.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    stage = partial(RegStage, stride=1, dilation=1, act_layer=torch.nn.SiLU, norm_layer=LayerNorm2d)
    before, after = stage(depth, dim, width), stage(depth, width, width)
    load(before, ours.before)
    load(after, ours.after)

    x = torch.randn(2, grid * grid, dim)
    y = (x + ours.position).transpose(1, 2).reshape(2, dim, grid, grid)
    y = after(F.adaptive_avg_pool2d(before(y), side)).flatten(2).transpose(1, 2)
    y = F.silu(y @ ours.readout + ours.readout_bias) @ ours.project + ours.project_bias
    apart = ((ours(x) - y).abs().max() / y.abs().max()).item()
    print(f"largest relative difference {apart:.1e}")
    assert apart < 1e-6


if __name__ == "__main__":
    main()
