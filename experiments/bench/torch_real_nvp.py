"""The paper's Real NVP in PyTorch, eager: what ``experiments.bench.real_nvp`` compares with.

The architecture is that of ``nvpjax.RealNVP``, the number of its parameters included, written as one would in PyTorch:
channels come first.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class Convolution(nn.Module):
    """With weight normalisation: kernel / ‖kernel‖ · magnitude."""

    def __init__(self, inputs, outputs, size, magnitude=True, bias=True):
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(outputs, inputs, size, size).uniform_(-1, 1) / math.sqrt(inputs))
        self.magnitude = nn.Parameter(torch.full((outputs, 1, 1, 1), math.sqrt(size**2 / 6))) if magnitude else None
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.size = size

    def forward(self, x):
        kernel = self.kernel * torch.rsqrt(self.kernel.square().sum((1, 2, 3), keepdim=True) + 1e-12)
        kernel = kernel if self.magnitude is None else kernel * self.magnitude
        return F.conv2d(x, kernel, self.bias, padding=self.size // 2)


class Norm(nn.Module):
    """Batch normalisation with a learned shift."""

    def __init__(self, channels):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.variance, None, self.shift, self.training, 0.1, 1e-4)


class ResidualNet(nn.Module):
    def __init__(self, inputs, outputs, features, blocks, checkerboard):
        super().__init__()
        self.checkerboard, self.norm = checkerboard, Norm(inputs)
        self.input = Convolution(2 * inputs + checkerboard, features, 3, magnitude=False)
        self.skips = nn.ModuleList(Convolution(features, features, 1) for _ in range(blocks + 1))
        self.norms = nn.ModuleList(Norm(features) for _ in range(2 * blocks + 1))
        self.first = nn.ModuleList(Convolution(features, features, 3, False, False) for _ in range(blocks))
        self.second = nn.ModuleList(Convolution(features, features, 3) for _ in range(blocks))
        self.output = Convolution(features, outputs, 1)

    def forward(self, x, mask=None):
        h = self.norm(x)
        h = torch.cat([2 * h, -2 * h, mask.expand(len(x), 1, -1, -1)] if self.checkerboard else [h, -h], dim=1)
        h = self.input(F.relu(h))
        skip = self.skips[0](h)
        for block, (first, second) in enumerate(zip(self.first, self.second)):
            r = first(F.relu(self.norms[2 * block](h)))
            h = h + second(F.relu(self.norms[2 * block + 1](r)))
            skip = skip + self.skips[block + 1](h)
        return self.output(F.relu(self.norms[-1](skip)))


class Coupling(nn.Module):
    """An affine coupling, and the batch normalisation of what it changed: ``x -> (y, log_det)``."""

    def __init__(self, channels, features, blocks, checkerboard, swapped):
        super().__init__()
        self.checkerboard, self.swapped = checkerboard, swapped
        seen = channels if checkerboard else channels // 2
        self.network = ResidualNet(seen, 2 * seen, features, blocks, checkerboard)
        self.scale = nn.Parameter(torch.tensor(0.0 if checkerboard else 1.0))
        self.register_buffer("mean", torch.zeros(seen))
        self.register_buffer("variance", torch.ones(seen))

    def forward(self, x):
        if self.checkerboard:
            rows, columns = torch.arange(x.shape[2])[:, None], torch.arange(x.shape[3])
            passes = ((rows + columns) % 2 == int(self.swapped)).to(x.dtype)[None, None]
            changes = 1 - passes
            shift, s = self.network(x * passes, passes).chunk(2, dim=1)
            s = self.scale * torch.tanh(s) * changes
            changed = (x + shift) * torch.exp(s) * changes
            count = len(x) * changes.sum()
            mean = changed.sum((0, 2, 3)) / count
            variance = ((changed - mean[:, None, None]).square() * changes).sum((0, 2, 3)) / count
            log_det, dimensions = s.sum((1, 2, 3)), changes.sum()
        else:
            passed, changed = x.chunk(2, dim=1)[:: -1 if self.swapped else 1]
            shift, s = self.network(passed).chunk(2, dim=1)
            s = self.scale * torch.tanh(s)
            changed = (changed + shift) * torch.exp(s)
            variance, mean = torch.var_mean(changed, (0, 2, 3), correction=0)
            log_det, dimensions = s.sum((1, 2, 3)), changed[0, 0].numel()
        with torch.no_grad():
            self.mean.lerp_(mean, 0.1), self.variance.lerp_(variance, 0.1)
        changed = (changed - mean[:, None, None]) * torch.rsqrt(variance + 1e-4)[:, None, None]
        log_det = log_det - 0.5 * dimensions * torch.log(variance + 1e-4).sum()
        if self.checkerboard:
            return x * passes + changed * changes, log_det
        return torch.cat([changed, passed] if self.swapped else [passed, changed], dim=1), log_det


class RealNVP(nn.Module):
    """``x -> log_prob`` of images in [0, 1], ``(batch, channels, height, width)``."""

    def __init__(self, channels=3, scales=2, features=16, blocks=2, alpha=0.05):
        super().__init__()
        self.alpha, self.scales = alpha, nn.ModuleList()
        for scale in range(scales):
            last, maps = scale == scales - 1, features * 2**scale
            of_scale = [Coupling(channels, maps, blocks, True, i % 2) for i in range(4 if last else 3)]
            if not last:
                of_scale += [Coupling(4 * channels, 2 * maps, blocks, False, i % 2) for i in range(3)]
            self.scales.append(nn.ModuleList(of_scale))
            channels *= 2

    def forward(self, x):
        inner = self.alpha + (1 - 2 * self.alpha) * x
        h = torch.log(inner) - torch.log1p(-inner)
        log_prob = (math.log(1 - 2 * self.alpha) - torch.log(inner) - torch.log1p(-inner)).sum((1, 2, 3))
        for number, couplings in enumerate(self.scales):
            for coupling in couplings[:3] if number < len(self.scales) - 1 else couplings:
                h, log_det = coupling(h)
                log_prob = log_prob + log_det
            if number < len(self.scales) - 1:
                h = F.pixel_unshuffle(h, 2)
                for coupling in couplings[3:]:
                    h, log_det = coupling(h)
                    log_prob = log_prob + log_det
                h = F.pixel_shuffle(h, 2)
                # The two diagonals of each 2x2 block: one goes on, the other is finished.
                diagonals = F.pixel_unshuffle(h, 2).unflatten(1, (-1, 4))
                h, z = (diagonals[:, :, pair].flatten(1, 2) for pair in ([0, 3], [1, 2]))
                log_prob = log_prob - 0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2, 3))
        return log_prob - 0.5 * (h.square() + math.log(2 * math.pi)).sum((1, 2, 3))


def train_step(images, levels=256, penalty=5e-5, learning_rate=1e-3, **sizes):
    """``(step, number of parameters)`` for a batch ``(batch, height, width, channels)`` of whole pixels."""
    images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    model = RealNVP(images.shape[1], **sizes)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    penalised = [module.magnitude for module in model.modules() if getattr(module, "magnitude", None) is not None]
    penalised += [module.scale for module in model.modules() if isinstance(module, Coupling) and module.checkerboard]

    def step():
        x = (images + torch.rand(images.shape)) / levels
        optimizer.zero_grad()
        loss = -model(x).mean() + penalty * sum(
            parameter.square().sum() for parameter in penalised if parameter.requires_grad
        )
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, sum(parameter.numel() for parameter in model.parameters())
