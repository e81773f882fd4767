"""A small convolutional network for classification."""

from __future__ import annotations

from torch import Tensor, nn


class CNN(nn.Module):
    """Stages of two 3x3 convolutions, each ending with a 2x2 pooling, then global average pooling.

    Groups are normalized rather than batches, so that the result does not depend on how a batch is split over
    processes or accumulated parts.

    Args:
        in_channels: channels of the images.
        outputs: values per image, one logit a class.
        width: channels of the first stage; each later stage has twice as many. A multiple of 8.
        depth: stages; the images' sides must be at least 2**depth pixels.
        dropout: part of the features that is dropped before the last layer, in [0, 1).
    """

    def __init__(
        self, in_channels: int, outputs: int, width: int, depth: int, dropout: float
    ) -> None:
        super().__init__()
        stages = []
        for stage in range(depth):
            channels = width * 2**stage
            stages += [_conv(in_channels, channels), _conv(channels, channels), nn.MaxPool2d(2)]
            in_channels = channels
        self.features = nn.Sequential(*stages)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(in_channels, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, outputs)."""
        return self.head(self.features(images))


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.GroupNorm(8, out_channels),
        nn.ReLU(inplace=True),
    )
