"""Where the time of the image model's train step goes: its largest parts, and what bounds each.

Usage: python -m experiments.bench.profile [--features 32] [--blocks 2] [--batch-size 16] [--steps 5]

The compiled program tells what each instruction computes, reads and writes; jax's profiler, how long it runs. Where
several run at once, each has its share of the time. A part is bound by what it comes nearest to: the rate of a matrix
product, or that of changing an array larger than any cache, both measured here. (What stays in a cache may move faster
than the latter.) For CPUs, whose instructions the profiler names. With JAX 0.12 programs that train have oneDNN
convolve, which tells nothing of what it computes: this is the step as XLA alone compiles it.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import tyro

from experiments import command_line
from experiments.bench.batches import random_batch
from experiments.bench.image import Sizes
from experiments.bench.programs import matrix_product
from experiments.bench.timing import compiled_anew, medians_in_turns
from experiments.errors import UserError
from experiments.runs.build import build_train_state, build_train_step

SIZES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8}


@dataclass(frozen=True)
class Arguments(Sizes):
    parts: int = 5
    """How many of the largest parts."""
    steps: int = 5
    """Steps that are profiled."""


class Instruction(NamedTuple):
    part: str
    operations: float
    bytes_moved: float


def instructions(program: str) -> dict[str, Instruction]:
    """Of a compiled program's text, each instruction by name."""
    bodies = dict(re.findall(r"^%(\S+) \(.*?\{\n(.*?)^\}", program, re.MULTILINE | re.DOTALL))
    shapes = {match[1]: match[2] for match in re.finditer(r"^ +(?:ROOT )?%(\S+) = (\S+)", program, re.MULTILINE)}
    found = {}
    pattern = r"^ +(?:ROOT )?%(\S+) = (\S+) ([\w-]+\((.*?)\).*)$"  # what gives a tuple computes nothing itself
    for name, shape, rest, arguments in re.findall(pattern, program, re.MULTILINE):
        called = re.search(r"calls=%([^\s,]+)", rest)
        line = f" %{name} = {shape} {rest}"
        text = bodies.get(called[1], "") if called else line
        operands = [shapes.get(operand, "") for operand in re.findall(r"%([\w.-]+)", arguments)]
        moved = sum(map(_bytes, [shape, *operands]))
        found[name] = Instruction(_part(name, line, text), _operations(text, shapes), moved)
    return found


def _part(name: str, line: str, text: str) -> str:
    convolution = re.search(r" convolution\(.*?window=\{size=(\d+)x(\d+)", text)
    if convolution:
        if int(convolution[1]) > 3:
            return "convolutions, kernel gradients"
        return "convolutions, input gradients" if "transpose(" in line else "convolutions, forward"
    if name.startswith(("transpose_copy", "copy")):
        return "copies, for kernel gradients mostly"
    if " reduce(" in text:
        return "sums: moments, gradients of shifts, norms"
    return "elementwise: normalising, rectifiers, gradients, Adam"


def _bytes(shape: str) -> int:
    parts = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(SIZES.get(kind, 4) * math.prod(int(size) for size in sizes.split(",") if size) for kind, sizes in parts)


def _operations(text: str, shapes: dict[str, str]) -> float:
    """Of the convolutions in it."""
    total = 0.0
    pattern = r"%\S+ = (\S+) convolution\(%\S+, %(\S+)\).*?window=\{size=(\d+)x(\d+).*?dim_labels=\w+_(\w+)->"
    for out, kernel, height, width, labels in re.findall(pattern, text):
        inputs = re.findall(r"\d+", shapes[kernel].split("{")[0].split("[")[1])[labels.index("i")]
        total += 2 * _bytes(out) / 4 * int(height) * int(width) * int(inputs)
    return total


def intervals(directory: Path) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end (ns) of what ran."""
    begins, ends = defaultdict(list), defaultdict(list)
    (path,) = directory.rglob("*.xplane.pb")
    for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
        for event in (event for line in plane.lines for event in line.events):
            if event.name.startswith("end: "):
                ends[event.name[5:]].append(event.start_ns + event.duration_ns)
            elif "hlo_op" in dict(event.stats):
                begins[event.name].append((event.start_ns, event.start_ns + event.duration_ns))
    for name, of_name in begins.items():
        last = sorted(ends[name])  # of what goes on in other threads, the time when all are through
        for number, (begin, end) in enumerate(sorted(of_name)):
            yield name, begin, max(end, last[number]) if len(last) == len(of_name) else end


def shares(ran: list[tuple[str, float, float]]) -> Counter:
    """The time of each name (ns), what runs at once dividing it."""
    moments = sorted([(begin, 1, name) for name, begin, _ in ran] + [(end, -1, name) for name, _, end in ran])
    active, total, before = Counter(), Counter(), 0.0
    for moment, change, name in moments:
        running = [other for other, number in active.items() if number > 0]
        for other in running:
            total[other] += (moment - before) / len(running)
        active[name] += change
        before = moment
    return total


def main(arguments: Sequence[str]) -> None:
    options = command_line.parse(
        lambda: tyro.cli(Arguments, args=arguments, prog="python -m experiments.bench.profile", description=__doc__)
    )
    if jax.default_backend() != "cpu":
        raise UserError("the profiler names instructions on the CPU only: start with JAX_PLATFORMS=cpu")
    config, key = options.config(), jax.random.key(1)
    batch = random_batch(config)
    held = build_train_state(config, batch, axis_name=None)
    compiled, _ = compiled_anew(build_train_step(config, axis_name=None), held, key, batch, donate_argnums=0)
    held, _ = jax.block_until_ready(compiled(held, key, batch))
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(options.steps):
                held, _ = jax.block_until_ready(compiled(held, key, batch))
        ran = list(intervals(Path(directory)))
    product, large = matrix_product(2048), [jnp.zeros(2**28)]
    add_one = jax.jit(lambda a: a + 1, donate_argnums=0)

    def change():
        large[0] = add_one(large[0])
        return large[0]

    seconds = medians_in_turns({"product": product.run, "change": change}, 7)
    product_rate, change_rate = product.operations / seconds["product"], 2 * large[0].nbytes / seconds["change"]

    known = instructions(compiled.as_text())
    time, operations, moved, number = Counter(), Counter(), Counter(), Counter()
    for name, nanoseconds in shares(ran).items():
        if name in known and not name.startswith(("while", "call")):
            part = known[name].part
            time[part] += nanoseconds / options.steps / 1e6
            operations[part] += known[name].operations
            moved[part] += known[name].bytes_moved
            number[part] += 1
    whole = sum(time.values())
    print(f"a step: {whole:.0f} ms; product {product_rate / 1e9:.0f} GFLOP/s, memory {change_rate / 1e9:.1f} GB/s")
    print("| part | instructions | ms | share | GFLOP/s | of the product's | GB/s | of memory's | bound by |")
    print("|---|---|---|---|---|---|---|---|---|")
    for part, milliseconds in time.most_common(options.parts):
        rate, traffic = operations[part] / milliseconds * 1e3, moved[part] / milliseconds * 1e3
        near = max(rate / product_rate, traffic / change_rate)
        by = "arithmetic" if near == rate / product_rate else "memory"
        by = by if near > 0.5 else "neither: small pieces one after the other"
        print(
            f"| {part} | {number[part]} | {milliseconds:.0f} | {milliseconds / whole:.0%} | {rate / 1e9:.0f} | "
            f"{rate / product_rate:.2f} | {traffic / 1e9:.1f} | {traffic / change_rate:.2f} | {by} |"
        )
    print(f"{options}, jax {jax.__version__}")


if __name__ == "__main__":
    command_line.run(main)
