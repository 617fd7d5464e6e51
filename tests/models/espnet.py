"""A user's model file: ESPNet, p = 2 and q = 8 (Mehta et al. 2018), as published for CamVid.

Names are those of the authors' weights. The model takes RGB images in [0, 1] and brings them to
what the weights were trained on by itself; its twelfth output, "no class", is cut off.
"""

import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 11
DILATIONS = (1, 2, 4, 8, 16)
#: of BGR pixels in 0 to 255
MEAN, STD = (108.06, 106.45, 103.11), (77.51, 78.63, 77.28)
EPS = 1e-3


class Conv(nn.Module):
    """A convolution that keeps the size, but for its stride."""

    def __init__(
        self, inside: int, out: int, size: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        pad = dilation * (size // 2)
        self.conv = nn.Conv2d(inside, out, size, stride, pad, dilation, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out


class Norm(nn.Module):
    """BatchNorm and PReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width, eps=EPS)
        self.act = nn.PReLU(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.bn(x))
        return out


class ConvNorm(Norm):
    """A 3 x 3 convolution, BatchNorm and PReLU."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__(out)
        self.conv = Conv(inside, out, 3, stride).conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """Reduce, see at five dilations, and add up from the narrowest view (feature fusion)."""

    def __init__(self, inside: int, out: int, size: int, stride: int) -> None:
        super().__init__()
        width = out // len(DILATIONS)
        self.c1 = Conv(inside, width, size, stride)
        for dilation in DILATIONS:
            rest = out - 4 * width if dilation == 1 else width
            self.add_module(f"d{dilation}", Conv(width, rest, 3, dilation=dilation))

    def fused(self, x: torch.Tensor) -> torch.Tensor:
        reduced = self.c1(x)
        first, *wider = (self.get_submodule(f"d{d}")(reduced) for d in DILATIONS)
        sums = [wider[0]]
        for view in wider[1:]:
            sums.append(sums[-1] + view)
        return torch.cat((first, *sums), 1)


class Down(Pyramid):
    """Half the size."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__(inside, out, 3, 2)
        self.bn, self.act = nn.BatchNorm2d(out, eps=EPS), nn.PReLU(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.act(self.bn(self.fused(x)))
        return out


class Esp(Pyramid):
    """An ESP block, with a shortcut where the width stays."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__(inside, out, 1, 1)
        self.bn, self.shortcut = Norm(out), inside == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fused = self.fused(x)
        out: torch.Tensor = self.bn(fused + x if self.shortcut else fused)
        return out


class Encoder(nn.Module):
    """Three levels, each reinforced by the image itself; the answers of all three."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.level1, self.b1 = ConvNorm(3, 16, 2), Norm(19)
        self.level2_0, self.b2 = Down(19, 64), Norm(131)
        self.level2 = nn.Sequential(*(Esp(64, 64) for _ in range(2)))
        self.level3_0, self.b3 = Down(131, 128), Norm(256)
        self.level3 = nn.Sequential(*(Esp(128, 128) for _ in range(8)))
        self.classifier = Conv(256, classes, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        half = F.avg_pool2d(x, 3, 2, 1)
        quarter = F.avg_pool2d(half, 3, 2, 1)
        fine = self.b1(torch.cat((self.level1(x), half), 1))
        first = self.level2_0(fine)
        middle = self.b2(torch.cat((self.level2(first), first, quarter), 1))
        first = self.level3_0(middle)
        deep = self.b3(torch.cat((first, self.level3(first)), 1))
        return fine, middle, self.classifier(deep)


class ESPNet(nn.Module):
    """(B, 3, H, W) RGB images in [0, 1] -> (B, 11, H, W) logits; sides are multiples of 8."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        outputs = CLASSES + 1
        self.encoder = Encoder(outputs)
        self.level3_C, self.br = Conv(131, outputs, 1), nn.BatchNorm2d(outputs, eps=EPS)
        self.conv = ConvNorm(19 + outputs, outputs, 1)
        self.up_l3 = nn.Sequential(self.twice(outputs))
        self.combine_l2_l3 = nn.Sequential(Norm(2 * outputs), Esp(2 * outputs, outputs))
        self.up_l2 = nn.Sequential(self.twice(outputs), Norm(outputs))
        self.classifier = self.twice(outputs)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    @staticmethod
    def twice(width: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(width, width, 2, 2, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images.flip(1) * 255 - self.mean) / self.std / 255
        fine, middle, deep = self.encoder(x)
        deep = self.up_l3(self.br(deep))
        middle = self.up_l2(self.combine_l2_l3(torch.cat((self.level3_C(middle), deep), 1)))
        logits: torch.Tensor = self.classifier(self.conv(torch.cat((middle, fine), 1)))
        return logits[:, :CLASSES]


def build() -> nn.Module:
    """Return the model; dabench calls this without arguments."""
    return ESPNet()
