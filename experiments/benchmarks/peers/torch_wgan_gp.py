"""The ResNet and DCGAN pairs and their WGAN-GP half-step in PyTorch, eager, NCHW.

The peer that `experiments.benchmarks.training_step` times: written as PyTorch users
write it, with modules, ``backward`` and ``create_graph=True`` for the penalty. Modules
carry the names of `experiments.cifar10_gan.networks.reference_weights`, so that state
dicts convert by it as they are. PyTorch, the extra ``peers``, is imported by nothing
else.
"""

# pyright: reportMissingImports=false
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class UpBlock(nn.Module):
    """(n, F, h, w) to (n, F, 2 h, 2 w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(1, width)
        self.conv1 = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(1, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = nn.ConvTranspose2d(width, width, 1, stride=2, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The shortcut and the residual."""
        y = self.conv1(functional.relu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(functional.relu(self.norm2(y)))


class DownBlock(nn.Module):
    """(n, F, h, w) to (n, F, h / 2, w / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(width, width, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """The shortcut and the residual."""
        y = self.conv1(functional.relu(x))
        return self.shortcut(x) + self.conv2(functional.relu(y))


class SameBlock(nn.Module):
    """(n, F, h, w) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """The residual on x itself."""
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


class ResNetGenerator(nn.Module):
    """Latents (n, latent) to pictures (n, 3, 32, 32)."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.width = width
        self.dense = nn.Linear(latent, 16 * width)
        self.up1 = UpBlock(width)
        self.up2 = UpBlock(width)
        self.up3 = UpBlock(width)
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures in [-1, 1]."""
        x = self.dense(z).view(-1, self.width, 4, 4)
        x = self.up3(self.up2(self.up1(x)))
        return torch.tanh(self.conv(functional.relu(self.norm(x))))


class ResNetDiscriminator(nn.Module):
    """Pictures (n, 3, 32, 32) to scores (n,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(3, width, 1, stride=2)
        self.down = DownBlock(width)
        self.same1 = SameBlock(width)
        self.same2 = SameBlock(width)
        self.dense = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        x = self.shortcut(x) + self.conv2(functional.relu(self.conv1(x)))
        x = functional.relu(self.same2(self.same1(self.down(x))))
        return self.dense(x.mean((2, 3)))[:, 0]


class DCGANGenerator(nn.Module):
    """Latents (n, latent) to pictures (n, 3, 32, 32)."""

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.width = width
        self.dense = nn.Linear(latent, 64 * width)
        self.norm1 = nn.GroupNorm(1, 64 * width)
        self.conv1 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(1, 2 * width)
        self.conv2 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.norm3 = nn.GroupNorm(1, width)
        self.conv3 = nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures in [-1, 1]."""
        x = functional.relu(self.norm1(self.dense(z)))
        x = self.conv1(x.view(-1, 4 * self.width, 4, 4))
        x = self.conv2(functional.relu(self.norm2(x)))
        return torch.tanh(self.conv3(functional.relu(self.norm3(x))))


class DCGANDiscriminator(nn.Module):
    """Pictures (n, 3, 32, 32) to scores (n,)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1)
        self.dense = nn.Linear(64 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = functional.leaky_relu(conv(x), 0.2)
        return self.dense(x.flatten(1))[:, 0]


def create_pair(
    name: str, weights: Mapping[str, Mapping[str, Any]], *, width: int, latent: int
) -> tuple[nn.Module, nn.Module]:
    """The pair `name`, "resnet" or "dcgan", with weights by player and name."""
    if name == "resnet":
        pair = ResNetGenerator(width, latent), ResNetDiscriminator(width)
    else:
        pair = DCGANGenerator(width, latent), DCGANDiscriminator(width)
    for module, player in zip(pair, ("generator", "discriminator"), strict=True):
        module.load_state_dict(
            {key: torch.tensor(value) for key, value in weights[player].items()}
        )
    return pair


def to_tensors(
    pictures: np.ndarray, latents: np.ndarray, mixing: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of ours, pictures (n, h, w, c), as tensors, pictures (n, c, h, w)."""
    moved = torch.tensor(pictures).permute(0, 3, 1, 2).contiguous()
    return moved, torch.tensor(latents), torch.tensor(mixing)


def gradients(*modules: nn.Module) -> list[dict[str, np.ndarray]]:
    """Copies of what ``.grad`` holds, by name, for each module."""
    return [
        {
            name: np.array(p.grad)
            for name, p in module.named_parameters()
            if p.grad is not None
        }
        for module in modules
    ]


def gradient_penalty(
    discriminator: nn.Module, pictures: Tensor, fakes: Tensor, mixing: Tensor
) -> Tensor:
    """mean (|grad D(a x + (1 - a) y)|_2 - 1)^2, differentiable in D's weights."""
    a = mixing.view(-1, 1, 1, 1)
    mixed = (a * pictures + (1 - a) * fakes).requires_grad_(True)
    scores = discriminator(mixed)
    (slopes,) = torch.autograd.grad(
        scores, mixed, grad_outputs=torch.ones_like(scores), create_graph=True
    )
    return (slopes.flatten(1).norm(2, dim=1) - 1).square().mean()


def half_step(
    generator: nn.Module,
    discriminator: nn.Module,
    pictures: Tensor,
    latents: Tensor,
    mixing: Tensor,
    *,
    penalty_weight: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """Both losses, and both gradients in the parameters' ``.grad``.

    Players' losses are written apart, as training programs do: D's on detached fakes,
    then G's through a D that is frozen for the while.
    """
    generator.zero_grad()
    discriminator.zero_grad()
    fakes = generator(latents)
    constant = fakes.detach()
    loss_discriminator = (
        discriminator(constant).mean()
        - discriminator(pictures).mean()
        + penalty_weight * gradient_penalty(discriminator, pictures, constant, mixing)
    )
    loss_discriminator.backward()
    discriminator.requires_grad_(False)
    loss_generator = -discriminator(fakes).mean()
    loss_generator.backward()
    discriminator.requires_grad_(True)
    return loss_generator.detach(), loss_discriminator.detach()


def shared_half_step(
    generator: nn.Module,
    discriminator: nn.Module,
    pictures: Tensor,
    latents: Tensor,
    mixing: Tensor,
    *,
    penalty_weight: float = 10.0,
) -> tuple[Tensor, Tensor]:
    """`half_step` with one pass of D over the fakes for both players, as ours has.

    mean D(G(z)) enters the losses with opposite signs, so its gradient at the fakes,
    negated, is what the generator pulls back.
    """
    generator.zero_grad()
    discriminator.zero_grad()
    fakes = generator(latents)
    leaf = fakes.detach().requires_grad_(True)
    fake_score = discriminator(leaf).mean()
    fake_score.backward()
    fakes.backward(-leaf.grad)
    rest = (
        penalty_weight
        * gradient_penalty(discriminator, pictures, fakes.detach(), mixing)
        - discriminator(pictures).mean()
    )
    rest.backward()
    return -fake_score.detach(), (fake_score + rest).detach()


def parts(
    generator: nn.Module,
    discriminator: nn.Module,
    pictures: Tensor,
    latents: Tensor,
    mixing: Tensor,
) -> list[Callable[[], None]]:
    """Calls: G, G with backward, D, D with backward, the penalty with backward."""
    with torch.no_grad():
        fakes = generator(latents)

    def forward(module: nn.Module, x: Tensor) -> None:
        with torch.no_grad():
            module(x)

    def both_of_generator() -> None:
        generator.zero_grad()
        (generator(latents) * pictures).sum().backward()

    def both_of_discriminator() -> None:
        discriminator.zero_grad()
        discriminator(pictures.clone().requires_grad_(True)).mean().backward()

    def both_of_penalty() -> None:
        discriminator.zero_grad()
        gradient_penalty(discriminator, pictures, fakes, mixing).backward()

    return [
        lambda: forward(generator, latents),
        both_of_generator,
        lambda: forward(discriminator, pictures),
        both_of_discriminator,
        both_of_penalty,
    ]
