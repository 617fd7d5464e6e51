"""A task without labels beside SHOT++: by how many quarters was an image turned?"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dabench.api import DecayingSGD, Network, Unlabelled, fixed_statistics
from dabench.methods.functional.semi_supervised import quarter_turns


class RotationHead(nn.Linear):
    """Tells the turn from the features of an image and of the same image turned.

    Args:
        width: numbers of a feature.
        generator: of the first weights.

    Source: SHOT++ (Liang et al., TPAMI 2021), authors' code.
    """

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__(2 * width, 4)
        nn.init.xavier_normal_(self.weight, generator=generator)
        nn.init.zeros_(self.bias)

    def prepare(
        self, net: Network, target: Unlabelled, *, epochs: int, batch_size: int, lr: float
    ) -> None:
        """Train the head on a frozen network's features of plain and turned images.

        The set passes the network four times, once for each turn, and never again.
        """
        device = net.mean.device
        stored = _turned_features(net.eval(), target).to(device)
        count = stored.shape[1]
        steps = -(-count // batch_size)
        groups = [{"params": list(self.parameters()), "lr": lr}]
        optimiser = DecayingSGD(groups, total_steps=epochs * steps)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(count, device=device), batch_size):
                turns = torch.randint(4, (len(rows),), device=device)
                seen = torch.cat((stored[0, rows], stored[turns, rows]), 1)
                optimiser.zero_grad()
                torch.autograd.backward(F.cross_entropy(self(seen), turns))
                optimiser.step()

    def loss(self, net: Network, images: Tensor, features: Tensor) -> Tensor:
        """Return the cross-entropy of random turns of a batch.

        Args:
            net: gets a gradient through the turned images alone; its statistics stay.
            images: (B, 3, S, S).
            features: (B, D) of them, whose gradient is stopped.
        """
        turns = torch.randint(4, (len(images),), device=images.device)
        with fixed_statistics(net):
            turned = net.features(quarter_turns(images, turns))
        return F.cross_entropy(self(torch.cat((features.detach(), turned), 1)), turns)


@torch.no_grad()
def _turned_features(net: Network, target: Unlabelled) -> Tensor:
    """Return (4, N, D) features of a set by turn."""
    found = []
    for batch in target.survey():
        images = batch.images.to(net.mean.device)
        turned = [net.features(torch.rot90(images, quarter, (2, 3))) for quarter in range(4)]
        found.append(torch.stack(turned))
    return torch.cat(found, 1)
