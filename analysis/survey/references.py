"""Remarks on the references of the survey's tables: missing, failing, or of another recipe."""

from __future__ import annotations

from dataclasses import replace

from analysis.statistics.intervals import CLEAR
from analysis.survey.roles import Place, Roles


def recipe_remarks(roles: Roles) -> list[str]:
    """Name the methods of each place that have a recipe of their own, which its references do not have."""
    out = []
    for where in roles.places:
        own = {}
        for name in ("finetune", "joint"):
            found = roles.find(where, ("reference", name))
            own[name] = [s.row for s in roles.measured_in(where) if found and not roles.same_recipe(found, s)]
        named = list(dict.fromkeys(row for rows in own.values() for row in rows))
        if named:
            out.append(
                f"{where}: own recipes: {', '.join(named)}. Fine-tuning and joint training have the recipe "
                "of the other methods, so they are no references of these."
            )
    return out


def reference_warnings(roles: Roles) -> list[str]:
    """Reasons why a place does not count as run: no references, or ones that forget or learn too little."""
    out = []
    for where in roles.places:
        if not roles.measured_in(where):
            continue
        tuned, joint = (roles.find(where, ("reference", name)) for name in ("finetune", "joint"))
        said = [_lack(roles, where, name) for name, s in (("finetune", tuned), ("joint", joint)) if s is None]
        if joint is not None:
            last = roles.sample(joint, "last_accuracy").mean
            low, chance = (last.value or 0.0) - (last.half or 0.0), roles.chance(joint)
            if low <= chance:
                said.append(f"joint training does not learn (last accuracy {last}, chance {chance:.3f})")
        if tuned is not None and joint is not None:
            a, b = (roles.sample(s, "last_accuracy") for s in (joint, tuned))
            gap = (a - b).mean
            if gap.value is None:
                said.append("fine-tuning and joint training share no class order")
            elif gap.value <= CLEAR or gap.value <= (gap.half or 0.0):
                said.append(f"fine-tuning does not forget (last accuracy of joint training − its own: {gap})")
        if said:
            out.append(f"{where} does not count as run: {', '.join(said)}.")
    return out


def _lack(roles: Roles, where: Place, method: str) -> str:
    """The reason why a place has no reference of a method: it has not completed, or has another recipe."""
    columns = (where, replace(where, recipe=""))
    done = any(s.place in columns and s.method == method and len(s.runs) for s in roles.subjects)
    return f"{method} has another recipe than every method" if done else f"no completed {method}"
