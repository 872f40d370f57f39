"""Run the trainer's checks and measurements on a GPU: `python -m tests.gpu [PART ...] [--cifar10 FOLDER]`.

Prints one JSON object a line as it goes, so a run that is cut short still leaves its figures. It needs
torch, torchvision, NumPy, Pillow, filelock and safetensors only: no Ray, Optuna or pydantic.

    device     what it ran on, with the measured peak of a matrix product and of a copy
    layouts    images a second of a bare captured step by precision, memory format and choice of kernels,
               and where the time of the default goes
    steps      images a second of training by method and net, plain and captured, beside those of bare steps
    together   images a second of several runs at a time, in threads of one process and in processes, and the
               number that `resources.together: auto` takes
    contract   every method and option trains to equal bits with captured steps and with plain ones, and
               stays finite; with its defaults it is also equal when resumed, and near the CPU in float32
    cifar10    five tasks of two classes, ResNet-18, test split; `--cifar10` names a folder with train/ and
               test/ (`<class>/*`), all runs train at a time
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Augment, Data
from cl_core.images.loading import load
from cl_core.method import METHODS
from cl_core.metrics import summary
from cl_core.nets.network import Frozen, build_network
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.configuration import Configuration
from cl_core.training.events import Event
from cl_core.training.packing import COUNTS, Measured, find_packing, memory_in_use, trained_together
from cl_core.training.result import TaskResult
from cl_core.training.trainer import Training
from tests import tiny

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 128
PROCESSES = 4
_BARRIER: Any = None
CIFAR10: list[tuple[str, dict[str, Any]]] = [
    ("icarl", {"exemplars_total": 500, "budget": "total"}),
    ("icarl", {"exemplars_total": 200, "budget": "total"}),
    # A replay of random exemplars, as many a step as new images.
    (
        "gcr",
        {"exemplars_total": 500, "budget": "total", "selection": "random", "distill": False, "beta": 1.0},
    ),
]
"""The runs of `cifar10`."""


def say(part: str, **values: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps({"part": part, **values}), flush=True)


# device


def device() -> Iterator[dict[str, Any]]:
    """Yield what the device is and the peaks that bound a step."""
    out: dict[str, Any] = {"device": DEVICE, "torch": torch.__version__}
    if DEVICE == "cuda":
        out["name"] = torch.cuda.get_device_name()
        a = torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16)
        b = torch.empty(2**29, device=DEVICE, dtype=torch.uint8)
        c = torch.empty_like(b)
        out["bf16_tflops"] = round(2 * 8192**3 / _seconds(lambda: a @ a) / 1e12, 1)
        out["copy_terabytes_per_second"] = round(2 * b.numel() / _seconds(lambda: c.copy_(b)) / 1e12, 2)
    yield out


def _seconds(run: Callable[[], object], rounds: int = 9) -> float:
    # The median over rounds after one that is not counted.
    times = []
    for _ in range(rounds + 1):
        _synchronize()
        started = time.perf_counter()
        run()
        _synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _synchronize() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


# contract


def contract(variants: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield each method and option that breaks a promise, then the counts."""
    broken = 0
    worst = {"first task": (0.0, ""), "all tasks": (0.0, "")}
    replayed: dict[str, list[str]] = {}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        checks = {pool.submit(_check, method, json.loads(hp)): f"{method} {hp}" for method, hp in variants}
        for check in as_completed(checks):
            name = checks[check]
            try:
                faults, apart, plain = check.result()
            except Exception:  # one that raises must not hide the others
                faults, apart, plain = [traceback.format_exc()[-900:]], {}, []
            for where, value in apart.items():
                worst[where] = max(worst[where], (value, name))
            if plain:
                replayed[name] = plain
            if faults:
                broken += 1
                yield {"variant": name, "faults": faults}
    yield {"phases without a captured step": replayed}
    yield {"checked": len(variants), "broken": broken, "largest_relative_difference_from_cpu": worst}


def _check(method: str, hp: dict[str, Any]) -> tuple[list[str], dict[str, float], list[str]]:
    # Faults, differences from the CPU, and the phases in which no step was captured.
    longer = {"epochs": 4}  # a shape's first steps are plain
    there = dataclasses.replace(
        tiny.configuration(method, hp, recipe=longer), device=DEVICE, precision="auto"
    )
    replays: dict[str, int] = {}

    def note(event: Event) -> None:
        if event.kind == "phase ends":
            name = event.phase.name
            replays[name] = replays.get(name, 0) + event.replays

    first = tiny.train(there, watch=note)
    refusals = getattr(first.training.learner.record, "refusals", [])
    plain = tiny.train(there, capture=False)
    faults = [] if plain.traces == first.traces else ["captured and plain steps differ"]
    for state in first.states:
        faults += [f"{name} is not finite" for name, t in state.items() if not t.isfinite().all()]
    missing = [name for name, count in replays.items() if not count] + refusals[:1]
    if hp:
        return faults, {}, missing
    if _resumed(there) != first.traces[1:]:
        faults.append("a resumed run differs from the straight one")
    single = tiny.train(dataclasses.replace(there, precision="float32"))
    cpu = tiny.run(method, hp, recipe=longer)
    apart = {
        "first task": _apart(single.results[:1], cpu.results[:1]),
        "all tasks": _apart(single.results, cpu.results),
    }
    return faults, apart, missing


def _resumed(settings: Configuration) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        resume = ResumeCheckpoints(CheckpointStore(Path(folder)))
        begun = Training(settings, tiny.data(), resume=resume)
        begun.next_task()
        begun.keep_resume_checkpoint()
        taken_up = Training(settings, tiny.data(), resume=resume)
        results = []
        while not taken_up.finished:
            results.append(tiny.trace(taken_up.next_task()))
        return results


def _apart(found: tuple[TaskResult, ...], known: tuple[TaskResult, ...]) -> float:
    # The largest relative difference of an epoch's loss term.
    pairs = [
        (a.value, b.value)
        for f, k in zip(found, known, strict=True)
        for a, b in zip(f.phases, k.phases, strict=True)
    ]
    return max(abs(a - b) / max(abs(b), 1e-2) for a, b in pairs)


# steps


def steps(small: bool, methods: list[str]) -> Iterator[dict[str, Any]]:
    """Yield images a second of a second task by net, size and method, beside the bare step's."""
    nets = [("convnet-small", 8)] if small else [("resnet32", 32), ("resnet18", 32), ("resnet18", 64)]
    for net, size in nets:
        data = _noise(size, small)
        bare = _bare(net, data) | {f"{k}_with_teacher": v for k, v in _bare(net, data, teacher=True).items()}
        yield {"net": net, "pixels": size, **bare}
        names = methods or (METHODS.names() if net == nets[0][0] else ["finetune", "lwf"])
        for method in names:
            out: dict[str, Any] = {"net": net, "pixels": size, "method": method}
            try:
                for name, capture, epochs in (("plain", False, 2), ("captured", True, 8)):
                    training = _training(method, net, data, capture, 1 if small else epochs)
                    result = training.next_task()
                    out[name] = round(result.images / result.seconds, 1)
            except Exception:  # one that raises must not hide the others
                out["error"] = traceback.format_exc()[-900:]
            yield out


def together(small: bool, methods: list[str]) -> Iterator[dict[str, Any]]:
    """Yield images a second of all runs that train at a time, and whether they end with the same network.

    Then the number of runs that `resources.together: auto` takes by these figures, and by its short probe.
    """
    net, size = ("convnet-small", 8) if small else ("resnet32", 32)
    data, most = _noise(size, small), 2 if small else 16
    for method in methods or ["lwf", "icarl"]:
        found: dict[int, Measured] = {}
        for count in (count for count in COUNTS if count <= most):
            runs = [_training(method, net, data, True, 8) for _ in range(count)]
            started = time.perf_counter()
            with ThreadPoolExecutor(count) as pool:
                results = list(pool.map(Training.next_task, runs))
            seconds = time.perf_counter() - started
            images = sum(result.images for result in results)
            found[count] = Measured(images, seconds, memory_in_use(runs[0].device))
            equal = len({result.network for result in results}) == 1
            rate, memory = _shown(found[count])
            yield {"method": method, "threads": count, "images_per_second": rate, "memory": memory} | {
                "equal": equal
            }
            del runs
        started, cut = time.perf_counter(), _noise(size, small, 8)
        settings = _settings(method, net, cut, 1)
        probed = find_packing(partial(trained_together, settings, cut, 2 if small else 50), most)
        yield {
            "method": method,
            "packing": find_packing(found.__getitem__, most).runs,
            "packing_by_probe": probed.runs,
            "probed": {count: _shown(measured) for count, measured in probed.tried.items()},
            "probe_seconds": round(time.perf_counter() - started, 1),
        }
    count = 2 if small else PROCESSES
    context = get_context("spawn")
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(count, context, initializer=_wait_for, initargs=(barrier,)) as pool:
        spans = list(pool.map(_alone, [net] * count, [size] * count, [small] * count))
    seconds = max(end for _, end, _ in spans) - min(begin for begin, _, _ in spans)
    rate = round(sum(images for _, _, images in spans) / seconds, 1)
    yield {"method": "lwf", "processes": count, "images_per_second": rate}


def _shown(measured: Measured) -> tuple[float, float]:
    # Images a second, and the part of the memory.
    return round(measured.rate, 1), round(measured.memory, 3)


def _wait_for(barrier: Any) -> None:
    global _BARRIER
    _BARRIER = barrier


def _alone(net: str, size: int, small: bool) -> tuple[float, float, int]:
    # Begin and end of a second task in this process, and its images.
    training = _training("lwf", net, _noise(size, small), True, 8)
    _BARRIER.wait(60)
    started = time.time()
    return started, started + (result := training.next_task()).seconds, result.images


def _noise(size: int, small: bool, steps: int = 50) -> Data:
    images = BATCH * (4 if small else steps)
    x = np.random.default_rng(0).integers(0, 256, (2 * images, size, size, 3), dtype=np.uint8)
    return Data.from_arrays(x, np.arange(len(x)) % 10, augment=Augment(crop=size // 8, flip=True))


def _training(method: str, net: str, data: Data, capture: bool, epochs: int) -> Training:
    # Before its second task.
    training = Training(_settings(method, net, data, epochs), data, measure=False, capture=capture)
    training.next_task()
    return training


def _settings(method: str, net: str, data: Data, epochs: int) -> Configuration:
    return Configuration(
        method,
        DataSpec(data.name),
        parse_scenario("B0-2tasks"),
        recipe={"epochs": 1, "batch": BATCH, "lr": 0.001, "increment": {"epochs": epochs}},
        net=net,
        validation=0.01,
        device=DEVICE,
    )


def _bare(net: str, data: Data, teacher: bool = False) -> dict[str, float]:
    # Forward, backward and SGD on ready tensors, and the forward of a frozen network with `teacher`.
    step = _bare_step(net, data, teacher=teacher)
    return {
        "bare_plain": _many(step),
        "bare_captured": _many(_captured(step)) if DEVICE == "cuda" else math.nan,
    }


def _bare_step(
    net: str, data: Data, precision: str = "bf16", channels_last: bool = True, teacher: bool = False
) -> Callable[[], None]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    made = build_network(net, data.shape, 10, "linear", True, 0).to(DEVICE).to(memory_format=layout).train()
    made.head.seen = 10  # type: ignore[assignment]
    frozen = Frozen(made)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4, fused=True)
    x = torch.randn(BATCH, *data.shape, device=DEVICE).to(memory_format=layout)
    y = torch.randint(0, 10, (BATCH,), device=DEVICE)
    half = DEVICE == "cuda" and precision == "bf16"

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        # A cache of casts must not outlive a captured step.
        with torch.autocast(DEVICE, torch.bfloat16, enabled=half, cache_enabled=False):
            out = made(x)
            loss = F.cross_entropy(out.logits, y)
            if teacher:
                loss = loss + F.mse_loss(out.logits, frozen(x).logits)
        loss.backward()
        optimizer.step()

    return step


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _many(one: Callable[[], object], count: int = 20) -> float:
    # Images a second.
    return round(count * BATCH / _seconds(lambda: [one() for _ in range(count)], 5), 1)


# layouts


def layouts() -> Iterator[dict[str, Any]]:
    """Yield images a second of bare captured steps in each layout, and the kernels that take most time."""
    if DEVICE != "cuda":
        return
    nets = [("resnet32", 32), ("resnet18", 32)]
    for net, size in nets:
        data = _noise(size, True)
        for precision in ("bf16", "tf32", "float32"):
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            for channels_last in (True, False):
                for kernels in ("deterministic", "timed"):
                    torch.backends.cudnn.deterministic = kernels == "deterministic"
                    torch.backends.cudnn.benchmark = kernels == "timed"
                    rate = _many(_captured(_bare_step(net, data, precision, channels_last)))
                    layout = "channels last" if channels_last else "contiguous"
                    yield {
                        "net": net,
                        "precision": precision,
                        "layout": layout,
                        "kernels": kernels,
                        "rate": rate,
                    }
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        step = _bare_step(net, data)
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(5):
                step()
            torch.cuda.synchronize()
        for row in sorted(profile.key_averages(), key=lambda r: -r.device_time_total)[:14]:
            micro = round(row.device_time_total / 5)
            yield {"net": net, "kernel": row.key[:90], "calls": row.count // 5, "microseconds_a_step": micro}


# cifar10


def cifar10(root: Path, epochs: int, small: bool) -> Iterator[dict[str, Any]]:
    """Yield the test metrics of each run; all train at a time, in threads, and say what each task brought."""
    spec = DataSpec("image-folder", root=str(root), size=32, per_class=20 if small else None)
    started = time.perf_counter()
    data = load(spec)
    say("cifar10", loaded_in_seconds=round(time.perf_counter() - started, 1))
    trainings = [_cifar10(spec, data, *run, epochs, small) for run in CIFAR10]
    with ThreadPoolExecutor(len(CIFAR10)) as pool:
        done = [
            pool.submit(_to_the_end, *run, training) for run, training in zip(CIFAR10, trainings, strict=True)
        ]
        for each in as_completed(done):
            yield each.result()


def _cifar10(
    spec: DataSpec, data: Data, method: str, hp: dict[str, Any], epochs: int, small: bool
) -> Training:
    configuration = Configuration(
        method,
        spec,
        parse_scenario("B0-5tasks"),
        hp=hp,
        recipe={
            "epochs": epochs,
            "batch": BATCH,
            "lr": 0.05,
            "schedule": "cosine",
            "momentum": 0.9,
            "weight_decay": 5e-4,
        },
        net="convnet-small" if small else "resnet18",
        validation=0.0,
        unsealed=True,
        device=DEVICE,
        threads=1,
    )
    return Training(configuration, data)


def _to_the_end(method: str, hp: dict[str, Any], training: Training) -> dict[str, Any]:
    started = time.perf_counter()
    results: list[TaskResult] = []
    name = f"{method} {hp['exemplars_total']}"
    while not training.finished:
        results.append(training.next_task())
        confusions = [e.confusion for r in results for e in r.evaluations if e.primary and e.split == "test"]
        now = confusions[-1]
        say("cifar10", run=name, task=len(results), accuracy=round(float(now.trace() / now.sum()), 4))
    metrics = {k: round(v, 4) for k, v in summary(confusions, training.sizes).items() if v is not None}
    images = sum(r.images for r in results)
    return {
        "run": name,
        "hp": hp,
        **{name: metrics[name] for name in ("first_task_accuracy", "average_incremental_accuracy")},
        **{name: metrics[name] for name in ("last_accuracy", "forgetting")},
        "image_steps": images,
        "images_per_second": round(images / sum(r.seconds for r in results), 1),
        "wall_seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Run the parts in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument(
        "part", nargs="*", help="device, layouts, steps, together, contract, cifar10; all without"
    )
    parser.add_argument("--cifar10", type=Path, help="folder with train/ and test/; left out without it")
    parser.add_argument("--epochs", type=int, default=50, help="of each CIFAR-10 task (default 50)")
    parser.add_argument("--methods", nargs="*", default=[], help="of steps and together")
    parser.add_argument("--defaults", action="store_true", help="no further options of the methods")
    parser.add_argument("--tiny", action="store_true", help="the shortest form, to try the script on a CPU")
    asked = parser.parse_args()
    few = asked.tiny or asked.defaults
    variants = [v for v in tiny.variants() if v[1] == "{}"] if few else tiny.variants()
    parts: list[tuple[str, Callable[[], Iterator[dict[str, Any]]]]] = [
        ("device", device),
        ("layouts", layouts),
        ("steps", lambda: steps(asked.tiny, asked.methods)),
        ("together", lambda: together(asked.tiny, asked.methods)),
        ("contract", lambda: contract(variants)),
    ]
    if asked.cifar10 is not None:
        parts.append(("cifar10", lambda: cifar10(asked.cifar10, asked.epochs, asked.tiny)))
    for name in asked.part:
        if name not in dict(parts):
            need = "needs --cifar10 FOLDER" if name == "cifar10" else "is none of the parts"
            parser.error(f"{name} {need}")
    for name, run in parts:
        if asked.part and name not in asked.part:
            continue
        started = time.perf_counter()
        for values in run():
            say(name, **values)
        say(name, seconds=math.ceil(time.perf_counter() - started))


if __name__ == "__main__":
    main()
