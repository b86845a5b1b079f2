"""The Glow of normflows (PyTorch, eager) on CIFAR-10 for so many minutes, and its bits/dim of held-out images.

Usage: python -m experiments.bench.normflows_glow --data-dir DIR [--minutes 20] [--learning-rate 1e-3] [--out FILE.json]

The rival of ``experiments.search``: the size of its family "glow", the same training images in the same order with the
same flips, the same batch, as many steps as the minutes hold (some are timed first). The model, the optimiser (Adamax
with a weight decay of 1e-5) and the formula of bits/dim are those of normflows' own example of CIFAR-10, without its
classes; gradients are clipped and the rate is raised and lowered as in ours, which is not in that example. Needs ``pip
install torch normflows``; the minutes of ``experiments.search`` are those of one core (``taskset -c 0``).
"""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from experiments import command_line
from experiments.config import Training, with_data_dir
from experiments.configs.families import FAMILIES
from experiments.data.batches import training_batches
from experiments.errors import UserError
from experiments.runs.files import write_atomically
from experiments.search import config_of
from nvpjax import Glow


@dataclass(frozen=True)
class Arguments:
    data_dir: Path | None = None
    """Where CIFAR-10 is prepared; as in training by default."""
    minutes: float = 20.0
    """Of training, of the processor: other work beside makes it last longer, and no less."""
    learning_rate: float = 1e-3
    """Of Adamax, at its highest."""
    split: str = "test"
    """Images that are evaluated: test or validation."""
    out: Path | None = None
    """File for the numbers."""


def normflows_glow(shape: tuple[int, int, int], model: Glow):
    """normflows' model of that size."""
    import normflows as nf

    height, width, channels = shape
    bases, flows, merges = [], [], []
    for level in range(model.levels):  # from the latents to the image
        here = channels * 2 ** (model.levels + 1 - level)
        blocks = [
            nf.flows.GlowBlock(here, model.features, split_mode="channel", scale=True) for _ in range(model.depth)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        if level > 0:
            merges.append(nf.flows.Merge())
        maps, by = (here if level == 0 else here // 2), 2 ** (model.levels - level)
        bases.append(nf.distributions.GlowBase((maps, height // by, width // by)))
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def noisy(image: np.ndarray):
    """What normflows' Scale(255 / 256) and Jitter(1 / 256) make of an image in [0, 1]."""
    import torch

    x = torch.from_numpy(image).permute(0, 3, 1, 2).float()
    return (x + torch.rand_like(x)) / 256


def bits_per_dim(nats, shape: tuple[int, int, int]):
    """As normflows' example has it, of the density of images in [0, 1]."""
    return nats / math.log(2) / math.prod(shape) + 8


def train(model, draw: Callable[[], np.ndarray], training: Training, minutes: float) -> dict:
    """Time ten steps of the warm-up, then take as many as the minutes hold."""
    import torch

    warmup = max(1, training.warmup_steps)
    optimizer = torch.optim.Adamax(model.parameters(), lr=0.0, weight_decay=1e-5)

    def step(learning_rate: float):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        images = draw()
        nats = model.forward_kld(noisy(images))
        optimizer.zero_grad()
        nats.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
        optimizer.step()
        return bits_per_dim(nats.item(), images.shape[1:])

    timed = []
    for _ in range(10):
        begin = time.process_time()
        step(training.learning_rate / warmup)
        timed.append(time.process_time() - begin)
    seconds = float(np.median(timed))
    steps = max(1, round(60 * minutes / seconds))
    print(f"normflows: {1000 * seconds:.0f} ms a step, so {steps} steps", flush=True)
    begin, end = time.process_time(), training.final_learning_rate
    for number in range(steps):
        done = max(0, number - training.warmup_steps) / max(1, steps - training.warmup_steps)
        rate = end + (training.learning_rate - end) * (1 + math.cos(math.pi * done)) / 2
        score = step(rate * min(1.0, (number + 1) / warmup))
        if (number + 1) % 100 == 0:
            print(f"step {number + 1}: {score:.4f} bits/dim of its batch", flush=True)
    return {"milliseconds": 1000 * seconds, "steps": steps, "minutes": (time.process_time() - begin) / 60}


def evaluate(model, images: np.ndarray) -> dict:
    import torch

    with torch.no_grad():
        nats = torch.cat([model(noisy(images[first : first + 100])) for first in range(0, len(images), 100)])
    scores = bits_per_dim(nats.double().numpy(), images.shape[1:])
    error = float(np.std(scores) / math.sqrt(len(scores)))
    return {"images": len(scores), "bits_per_dim": float(np.mean(scores)), "standard_error": error}


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(
            Arguments, args=arguments, prog="python -m experiments.bench.normflows_glow", description=__doc__
        )
    )
    missing = [name for name in ("torch", "normflows") if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"{' and '.join(missing)} not installed: pip install torch normflows")
    import normflows
    import torch

    torch.manual_seed(0)
    family = FAMILIES["glow"]
    config = with_data_dir(config_of(family, options.learning_rate, options.minutes), options.data_dir)
    batches = training_batches(config.data.examples("train", for_training=True), config)
    held_out = config.data.examples(options.split)
    model = normflows_glow(config.data.event_shape, family.model)
    result = {
        "arguments": {**asdict(options), "data_dir": None, "out": None},
        "packages": {"torch": torch.__version__, "normflows": normflows.__version__},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **train(model, lambda: next(batches)["image"], config.training, options.minutes),
        **evaluate(model, held_out.arrays["image"]),
    }
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, json.dumps(result, indent=1) + "\n")
    print(
        f"normflows' Glow, {result['parameters']:,} parameters: {result['bits_per_dim']:.4f} ± "
        f"{result['standard_error']:.4f} bits/dim on {result['images']} {options.split} images after "
        f"{result['steps']} steps in {result['minutes']:.1f} minutes; "
        + (f"written to {options.out}" if options.out else "written nowhere: --out")
    )


if __name__ == "__main__":
    command_line.run(main)
