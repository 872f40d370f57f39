"""The survey's four tables measured here, and a verdict on each of its claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.claim_tables import claim_tables
from analysis.report.dots import dot
from analysis.report.identity import REFERENCE_COLOURS, identities
from analysis.report.section import VIEWS, Section, Table
from analysis.report.style import panels, place
from analysis.selection.selection import orders_sentence, split_sentence
from analysis.statistics.intervals import CLEAR, INTERVAL, SMALLEST, TOO_FEW, mean
from analysis.survey.references import recipe_remarks, reference_warnings
from analysis.survey.roles import FURTHER, LEVELS, PARADIGMS, TEN, WEAK_CE, Place, Roles, Subject
from analysis.survey.verdict import Judged, judge
from cl_core.metrics import FORMULAS

TITLE = "The survey's tables and claims"
VERDICT_WORDS = {
    "holds": "hold",
    "contradicted": "contradicted",
    "equivalent": "without a difference",
    "undecided": "undecided",
    "not measured": "not measured",
}
FEWEST_METHODS = 4  # of the ten methods; with fewer the leaderboard says the same
ENOUGH = 5  # class orders for a verdict
METRICS = {
    "first_task_accuracy": "first task",
    "average_incremental_accuracy": "average incremental",
    "last_accuracy": "last accuracy",
    "forgetting": "forgetting",
    "recency_ratio": "recency ratio",
}
RULES = [
    f"verdict, over paired differences of matched class orders: holds if the interval lies above "
    f"+{SMALLEST:g} in the claimed direction (above +{CLEAR:g} where a claim says clearly or markedly), "
    f"contradicted if below −{SMALLEST:g}, equivalent if inside ±{SMALLEST:g}, else undecided; both bounds "
    "were fixed beforehand",
    "a claim about each, all or the best holds if every contrast does; one contrast against it contradicts, "
    "one within the bounds makes it equivalent; “most” is more than half of the contrasts",
    "p (Holm): the claim's p-value, corrected over the claims of the same table, data set and recipe; the "
    "verdict stands at 0.05, and from three class orders on; a difference ± the half width of its plain 95 % "
    "interval is that of the contrast named",
    INTERVAL,
    "excess of new: P_{new} − the newest task's share of the rows, after the last task; above 0 where the "
    "recency ratio is above 1. Newest task: 1/(T−1) · Σ_{t≥1} R[t][t], the accuracy on a task right after "
    "it. Agreement with the teacher: share of validation rows of older classes that it and the network "
    "answer alike, among these classes, the mean over tasks",
    "seconds: of training, wherever it happened, a run; bytes kept: exemplars, prototypes, covariances and "
    "generators after the last task, no networks",
]


@VIEWS.register("survey")
def survey(results: Results) -> Section:
    """Methods, distillation removed, losses alone and losses with replay, by place; and the claims."""
    roles = Roles(results)
    tables = [table for table in _tables(roles) if table is not None]
    shown = {s.cell.name: s for table, members in tables for s in members}
    if not shown:
        return Section(
            TITLE,
            f"No table of the survey can be drawn: they need {FEWEST_METHODS} of its ten methods, a method "
            "without distillation, or distillation losses side by side.",
            optional=True,
        )
    warnings = [f"Warning: {text}" for text in reference_warnings(roles)]
    judged = judge(roles)
    text = [
        split_sentence(results, roles.split),
        "Methods and losses are recognised by their hyperparameters; labels ending in -common and -paper "
        "make two recipe columns. Claims within a scenario are judged by average incremental accuracy, "
        "claims across scenarios by last accuracy, since averages run over other numbers of classes. A "
        "verdict is about the data set it names: the survey's own recipe is not known. The figure shows "
        "average incremental accuracy; rings are methods without distillation, the dotted line is joint "
        "training.",
        *warnings,
    ]
    text += recipe_remarks(roles)
    orders = min((j.n[0] for j in judged if j.data), default=ENOUGH)
    if orders < ENOUGH:
        text.append(f"Some verdicts rest on fewer than {ENOUGH} class orders: take them as provisional.")
    if any(roles.luck(one) for one in shown.values()):
        text.append(
            "Some labels are shown at the best of several trials, selected by these values. The luck that is "
            "expected of it is taken out of their accuracies."
        )
    names = (*METRICS, "recency_bias")
    return Section(
        TITLE,
        "\n\n".join(text),
        [*(f"{METRICS.get(name, name.replace('_', ' '))}: {FORMULAS[name]}" for name in names), *RULES],
        orders_sentence([s.cell for s in shown.values()]),
        figure=_figure(roles, list(shown.values())),
        tables=[*(table for table, _ in tables), *claim_tables(judged)],
        optional=True,
        split=roles.split,
        question="Do the survey's tables and claims hold here?",
        answer=_answer(judged),
    )


def _answer(judged: Sequence[Judged]) -> str:
    """The sentence on the verdicts of all claims of which something is measured."""
    known = [j.verdict.name for j in judged if j.data]
    if not known:
        return "Nothing that a claim is about is measured here; the tables stand by themselves."
    few = sum(name.startswith(TOO_FEW) for name in known)
    parts = [f"{known.count(name)} {word}" for name, word in VERDICT_WORDS.items() if name in known]
    parts += [f"{few} with too few class orders"] if few else []
    if len(known) == 1:
        return f"The verdict on the one claim whose methods are here: {known[0]}."
    return f"Of {len(known)} judgements on claims: {', '.join(parts)}."


def _tables(roles: Roles) -> Iterable[tuple[Table, list[Subject]] | None]:
    """The four tables with the cells that each shows; None for those that there is nothing for."""
    own = [s for s in roles.subjects if s.method not in (*REFERENCE_COLOURS, "replay", "distill")]
    methods = [s for s in own if s.distilled]
    known = {s.method for s in methods} & set(TEN)
    names = [*dict.fromkeys([*PARADIGMS, *FURTHER]), "other"]
    yield _table(
        roles,
        "Methods",
        "paradigm",
        [(s, {"paradigm": s.paradigm}) for s in sorted(methods, key=lambda s: names.index(s.paradigm))]
        if len(known) >= FEWEST_METHODS
        else [],
        ("finetune", "replay", "joint"),
    )
    having = {(s.place, s.method) for s in methods}
    removed = {s.method for s in own if not s.distilled and (s.place, s.method) in having}
    both = [s for s in own if s.method in removed]
    order = [*TEN, *sorted({s.method for s in both} - set(TEN))]
    yield _table(
        roles,
        "With and without distillation",
        "method",
        [
            (s, {"method": s.method, "distillation": "with" if s.distilled else "without"})
            for s in sorted(both, key=lambda s: (order.index(s.method), not s.distilled))
        ],
        ("finetune", "replay", "joint"),
    )
    for method, title in (
        ("distill", "Distillation losses alone"),
        ("replay", "Replay with distillation losses"),
    ):
        found = [s for s in roles.subjects if s.method == method]
        kinds = {where: {(s.loss, s.scope) for s in found if s.place == where} for where in roles.places}
        found = [s for s in found if len(kinds[s.place]) > 1]
        losses = [loss for group in LEVELS.values() for loss in group]
        losses.insert(losses.index("cross-entropy") + 1, WEAK_CE)
        scopes = ["new_only", "global", "separated", "all_seen"]
        found.sort(key=lambda s: (_at(scopes, s.scope), _at(losses, s.loss)))
        rows: list[tuple[Subject, dict[str, object]]] = [
            (
                s,
                {
                    "softmax": s.scope.replace("_", "-"),
                    "level": s.level,
                    "loss": s.loss,
                    "group": (s.scope, s.level),
                },
            )
            for s in found
        ]
        yield _table(roles, title, "group", rows, ("finetune", "joint"))


def _at(names: Sequence[str], name: str) -> int:
    return list(names).index(name) if name in names else len(names)


def _table(
    roles: Roles,
    title: str,
    group: str,
    members: list[tuple[Subject, dict[str, object]]],
    references: Sequence[str],
) -> tuple[Table, list[Subject]] | None:
    """Labels as rows, and for each place a group of columns; references come last."""
    if not members:
        return None
    held = {s.place for s, _ in members}
    places = [where for where in roles.places if where in held]
    rows: dict[str, dict[str, object]] = {}
    cells: dict[tuple[str, Place], Subject] = {}
    for subject, says in members:
        rows.setdefault(subject.row, says)
        cells[subject.row, subject.place] = subject
    for name in references:
        for where in places:
            reference = roles.find(where, ("reference", name))
            if reference is not None:
                descriptions = list(next(iter(rows.values())))
                blank: dict[str, object] = dict.fromkeys(descriptions, "")
                rows.setdefault(name, {**blank, descriptions[0]: "reference", group: "reference"})
                cells.setdefault((name, where), reference)
    titles = _short(places)
    units = {where: _unit([s for (_, w), s in cells.items() if w == where]) for where in places}
    records = []
    for row, says in rows.items():
        record: dict[tuple[str, str], object] = {("", "label"): row}
        record |= {("", key): value for key, value in says.items()}
        for where in places:
            here = cells.get((row, where))
            for metric, name in METRICS.items():
                value = roles.sample(here, metric).mean if here else mean([])
                record[titles[where], name] = value.value
                record[titles[where], f"{name} ±"] = value.half
            for metric, name in (("kept_bytes", "bytes kept"), ("seconds", units[where])):
                number = roles.sample(here, metric).mean.value if here else None
                record[titles[where], name] = _rounded(number, metric)
        records.append(record)
    columns = pd.MultiIndex.from_tuples(list(records[0]))
    frame = pd.DataFrame([list(record.values()) for record in records], columns=columns)
    frame = frame.astype({c: "Int64" for c in columns if c[1] == "bytes kept"})
    frame = frame.drop(columns=[c for c in frame.columns if c[1].endswith(" ±") and frame[c].isna().all()])
    return Table(title, frame, group=group), list(cells.values())


def _rounded(value: float | None, metric: str) -> float | None:
    return round(value) if value is not None and metric == "kept_bytes" else value


def _short(places: Sequence[Place]) -> dict[Place, str]:
    """Names of places without the data set where there is but one."""
    several = len({where.data for where in places}) > 1
    return {
        where: str(where) if several else " · ".join(filter(None, (where.scenario, where.recipe)))
        for where in places
    }


def _unit(subjects: Sequence[Subject]) -> str:
    """The title of the column of training seconds, by the devices of the runs."""
    devices = {str(d).split(":")[0] for s in subjects for d in s.runs["device"].dropna()}
    known = {"cuda": "GPU-seconds", "cpu": "CPU-seconds"}
    return known.get(devices.pop(), "seconds") if len(devices) == 1 else "seconds"


def _figure(roles: Roles, subjects: Sequence[Subject]) -> go.Figure:
    """Average incremental accuracy of every row, a panel a place."""
    metric = "average_incremental_accuracy"
    places = [where for where in roles.places if any(s.place == where for s in subjects)]
    titles = _short(places)
    rows = list(dict.fromkeys(s.row for s in subjects))
    tall = max(len({s.row for s in subjects if s.place == where}) for where in places)
    figure = panels([titles[where] for where in places], columns=2, height=50 + 21 * tall)
    marks = identities(roles.results)
    for index, where in enumerate(places):
        at = place(index, figure)
        here = sorted(
            (s for s in subjects if s.place == where), key=lambda s: rows.index(s.row), reverse=True
        )
        for subject in here:
            value = roles.sample(subject, metric).mean
            text, ring = f"{subject.cell.label}: %{{x:.3f}} (n = {value.n})", not subject.distilled
            shown = dot(value, subject.row, text, marks[subject.cell.label], 9, ring)
            figure.add_trace(shown, **at)
        joint = roles.find(where, ("reference", "joint"))
        if joint is not None:
            figure.add_vline(
                x=roles.sample(joint, metric).mean.value,
                line={"dash": "dot", "width": 1.2, "color": REFERENCE_COLOURS["joint"]},
                **at,
            )
        # With many names a panel, every one of them is written.
        axis = {"type": "category", "tickmode": "linear", "dtick": 1, "tickfont": {"size": 11}}
        figure.update_yaxes(range=[-0.8, len(here) - 0.2], **axis, **at)
    figure.update_xaxes(title_text=metric.replace("_", " "))
    return figure
