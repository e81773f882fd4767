"""U-Net: one output for each pixel, for segmentation and depth estimation.

After Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015), with
padded convolutions and group normalization.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """An encoder that halves the image `depth` times and a decoder that joins each level to its like.

    Args:
        in_channels: channels of the images.
        outputs: values per pixel: one logit a class, or one depth.
        width: channels at full resolution; each level down has twice as many. A multiple of 8.
        depth: levels below full resolution; the images' sides must divide by 2**depth.
    """

    def __init__(self, in_channels: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        self.first = _block(in_channels, width)
        self.down = nn.ModuleList(_block(wide // 2, wide) for wide in channels[1:])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(wide, wide // 2, 2, stride=2) for wide in channels[:0:-1]
        )
        self.join = nn.ModuleList(_block(wide, wide // 2) for wide in channels[:0:-1])
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, outputs, H, W)."""
        levels = [self.first(images)]
        for down in self.down:
            levels.append(down(self.pool(levels[-1])))
        features = levels.pop()
        for up, join in zip(self.up, self.join, strict=True):
            features = join(torch.cat([levels.pop(), up(features)], dim=1))
        return self.head(features)


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (in_channels, out_channels):
        layers += [
            nn.Conv2d(inputs, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(8, out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
