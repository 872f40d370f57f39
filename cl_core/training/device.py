"""The device a run trains on, and how much of its memory it took."""

from __future__ import annotations

import contextlib
import gc
import resource
import sys
import threading
from collections.abc import Iterator
from weakref import WeakValueDictionary

import torch

from cl_core.errors import BadRequest, RunError

POOLED = 32  # streams of one priority on a GPU, in torch


def resolve_device(device: str, precision: str) -> tuple[torch.device, str]:
    """Return the torch device, and "float32", "tf32" or "bfloat16".

    TF32 is float32 whose products a GPU computes with 10 bits of the fraction; a CPU has no such products.
    Raises BadRequest where there is no such device.
    """
    if device not in ("auto", "cpu", "cuda") and not device.startswith("cuda:"):
        raise BadRequest(f"device must be auto, cpu or cuda, not {device!r}")
    if precision not in ("auto", "float32", "tf32", "bfloat16"):
        raise BadRequest(f"precision must be auto, float32, tf32 or bfloat16, not {precision!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadRequest(f"device {device!r} needs a GPU that torch can see; there is none: use cpu")
    if precision == "tf32" and not device.startswith("cuda"):
        raise BadRequest(f"precision tf32 needs a GPU, and the device is {device!r}: use float32")
    if precision == "auto":
        precision = "bfloat16" if device.startswith("cuda") else "float32"
    return torch.device(device), precision


_STREAMS: WeakValueDictionary[tuple[int, int], torch.cuda.Stream] = WeakValueDictionary()
_TAKING = threading.Lock()


def own_stream(device: torch.device) -> torch.cuda.Stream | None:
    """Return a stream that no other run of this process has; None for a CPU. Raises RunError.

    torch hands 32 streams of a priority out in turn. A graph that is captured on a stream of two runs would
    take the kernels of the other one.
    """
    if device.type != "cuda":
        return None
    with _TAKING:
        for priority in (0, -1, 0):
            for _ in range(POOLED):
                stream = torch.cuda.Stream(device, priority=priority)
                place = stream.device_index, stream.cuda_stream
                if place not in _STREAMS:
                    _STREAMS[place] = stream
                    return stream
            gc.collect()  # runs that ended may still hold theirs
    raise RunError(f"a process holds at most {2 * POOLED} runs on a GPU: raise resources.gpu")


@contextlib.contextmanager
def on_stream(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Work on a stream of its own within, after and before all work around it; None: a CPU has no streams.

    No graph can be captured on the default stream, and runs of one process share it.
    """
    if stream is None:
        yield
        return
    around = torch.cuda.current_stream(stream.device)
    stream.wait_stream(around)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:  # also of a run that failed: its memory goes to other runs
        around.wait_stream(stream)


def gpu_is_full(error: BaseException) -> bool:
    """Tell whether an error says that a GPU has too little memory left, by torch's allocator or by CUDA's."""
    # The last is torch's word where a run needs memory while another of its process records a graph.
    texts = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "captures_underway.empty()")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def peak_memory(device: torch.device) -> int:
    """The most bytes held at once: on a GPU since its statistics were reset, on a CPU ever."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
