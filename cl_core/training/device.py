"""The device a run trains on, and how much of its memory it took."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator

import torch

from cl_core.errors import BadRequest


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
    with torch.cuda.stream(stream):
        yield
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
