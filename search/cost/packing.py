"""A probe of how many runs of a study train together on a GPU, for `resources.together: auto`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cl_core.errors import ClSearchError, named_line
from cl_core.images.dataset import Data
from cl_core.training.configuration import Configuration
from cl_core.training.packing import Measure, Measured, find_packing, free_memory, trained_together
from search.cost.preview import likely_trials
from search.cost.probe import shortened
from search.preparation.kept_packing import keep_packing, kept_packing
from search.preparation.prepared import Prepared

SECONDS = 1.5  # of training of one run alone; LOOK epochs at least
LOOK = 3  # epochs by which labels are compared

MeasureOf = Callable[[Prepared], tuple[str, Measure]]
"""Return a label of the study, and the measurement of its runs."""


def pack(prepared: Prepared, measure_of: MeasureOf | None = None) -> list[str]:
    """Find how many runs share a GPU and keep it in the run folder, unless it is kept there; say it.

    The next `prepare` follows the folder. Nothing is probed without `together: auto` or `gpu: auto`, nor
    where this machine has no GPU. `measure_of` names a label and measures its runs, by default on the GPU
    here.
    """
    wanted, plan = prepared.study.study.resources, prepared.allocation
    if not wanted.packed or not plan.gpu:
        return []
    kept = kept_packing(prepared.folder)
    if kept is not None:
        return [f"resources: {kept} at a time on each GPU, as the run folder keeps it"]
    if not plan.machine_gpus:
        return ["resources: no GPU here to probe how many runs share one, so the default stands"]
    most = int(plan.machine_cpus / plan.cpu / plan.machine_gpus)
    if wanted.concurrent is not None:
        most = min(most, -(-wanted.concurrent // plan.machine_gpus))
    try:
        label, measure = (measure_of or _hungriest)(prepared)
        found = find_packing(measure, most)
    except Exception as error:  # of a label's code too, whose runs fail one by one later
        why = str(error) if isinstance(error, ClSearchError) else named_line(error)
        return [f"resources: the probe of a GPU failed ({why}), so the default stands"]
    finally:  # this process lives as long as the study, beside the runs
        free_memory()
    keep_packing(prepared.folder, label, found)
    tried = ", ".join(f"{n}: {m.rate:,.0f} and {m.memory:.0%}" for n, m in found.tried.items())
    return [
        f"resources: {found.runs} at a time on each GPU, by a probe of {label} "
        f"(runs: images a second and memory in use; {tried})"
    ]


def _hungriest(prepared: Prepared) -> tuple[str, Measure]:
    """Return the label whose run takes most of the GPU's memory, and the measurement of its runs."""
    study = prepared.study
    looks: dict[str, tuple[Configuration, Data, Measured]] = {}
    for cell in study.cells:
        if cell.label in looks:
            continue
        configuration = study.run_specs(cell, 0, likely_trials(study, cell, 1)[0])[0].configuration
        data = shortened(configuration, study.data)
        looks[cell.label] = configuration, data, trained_together(configuration, data, LOOK, 1)
    label = max(looks, key=lambda name: looks[name][2].memory)
    configuration, data, look = looks[label]
    epochs = max(LOOK, round(LOOK * SECONDS / look.seconds))
    return label, partial(trained_together, configuration, data, epochs)
