"""The trainer against the bare forward, backward and step of the same net on ready tensors, interleaved."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.method import Phase, Rows
from cl_core.nets.network import build_network
from cl_core.rng import Streams
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training

BATCH = 128
STEPS = 6
ROUNDS = 7


def _data() -> Data:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (BATCH * STEPS + 20, 32, 32, 3), dtype=np.uint8)
    y = np.arange(len(x)) % 10
    return Data.from_arrays(x, y, augment=Augment(crop=4, flip=True))


def _trainer(method: str, data: Data) -> Callable[[], int]:
    recipe = {"epochs": 1, "batch": BATCH, "lr": 0.01}
    scenario = parse_scenario("B0-2tasks")
    configuration = Configuration(
        method, DataSpec(data.name), scenario, recipe=recipe, net="resnet32", validation=0.01
    )
    training = Training(configuration, data)
    task = training.task(0)
    training.method.begin(training.state, task, training.view, Streams(0, 0))
    rows = training.view.rows(range(10))[: BATCH * STEPS]
    training.state.head.seen = 10
    phase = Phase("train", (Rows(rows),), training.base_recipe, training.method.loss)
    return lambda: training.learner.train_phase(phase, task, Streams(0, 0), [])


def _bare(data: Data) -> Callable[[], int]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = build_network("resnet32", data.shape, 10, "linear", True, 0)
    net = net.to(memory_format=torch.channels_last).to(device)
    net.head.seen = 10
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=True)
    x = torch.randn(BATCH, *data.shape, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (BATCH,), device=device)
    amp = torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda")

    def run() -> int:
        net.train()
        for _ in range(STEPS):
            with amp:
                loss = F.cross_entropy(net(x).logits, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        return BATCH * STEPS

    return run


def _rate(run: Callable[[], int]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    images = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started)


def measure() -> dict[str, float]:
    """Images per second of both, and the median of their ratio, round by round."""
    data = _data()
    runs = {"trainer": _trainer("finetune", data), "bare": _bare(data)}
    for run in runs.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for r in range(ROUNDS):
        for name in sorted(runs, reverse=bool(r % 2)):
            rates[name].append(_rate(runs[name]))
    ratios = [t / b for t, b in zip(rates["trainer"], rates["bare"], strict=True)]
    return {
        "resnet32_b128_ratio": round(statistics.median(ratios), 4),
        "resnet32_b128_ratio_min": round(min(ratios), 4),
        "resnet32_b128_ratio_max": round(max(ratios), 4),
        "resnet32_b128_images_per_second": round(statistics.median(rates["trainer"]), 1),
        "resnet32_b128_bare_images_per_second": round(statistics.median(rates["bare"]), 1),
        "threads": torch.get_num_threads(),
    }
