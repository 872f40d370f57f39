"""The survey's five tables measured here, and a verdict on each of its claims."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from analysis.lake.results import Results
from analysis.report.claim_tables import claim_tables
from analysis.report.dots import dot
from analysis.report.identity import REFERENCE_COLOURS, about, identities
from analysis.report.section import VIEWS, Section
from analysis.report.style import panels, place
from analysis.report.survey_tables import (
    AVERAGE,
    FEWEST_METHODS,
    LAST,
    PRESETS,
    SOFTMAXES,
    Filled,
    distinct,
    short,
    survey_tables,
)
from analysis.selection.selection import orders_sentence, split_sentence
from analysis.statistics.intervals import CLEAR, INTERVAL, SMALLEST, TOO_FEW
from analysis.survey.references import recipe_remarks, reference_warnings
from analysis.survey.roles import Roles, Subject
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
ENOUGH = 5  # class orders for a verdict
RINGS = {second for _, second in SOFTMAXES.values()}
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
    "bytes kept: exemplars, prototypes, covariances and generators after the last task, no networks",
]


@VIEWS.register("survey")
def survey(results: Results) -> Section:
    """The survey's tables of systems, methods, removed distillation and losses; and its claims."""
    roles = Roles(results)
    filled = survey_tables(roles)
    shown = distinct(filled)
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
        "average incremental accuracy; a ring is a method without distillation, or a loss under the second "
        "softmax; the dotted line is joint training. The layout of the tables follows a description of the "
        "survey. A dash stands where the lake has no completed run; differences are paired by class order.",
        *warnings,
    ]
    missing = [
        f"{one.table.title.partition('.')[0]} (`cl-search run {preset}`)"
        for one, preset in zip(filled, PRESETS, strict=True)
        if preset and not one.subjects
    ]
    if missing:
        text.append(f"Nothing is measured here for {', '.join(missing)}.")
    text += recipe_remarks(roles)
    orders = min((j.n[0] for j in judged if j.data), default=ENOUGH)
    if orders < ENOUGH:
        text.append(f"Some verdicts rest on fewer than {ENOUGH} class orders: take them as provisional.")
    if any(roles.luck(one) for one in shown):
        text.append(
            "Some labels are shown at the best of several trials, selected by these values. The luck that is "
            "expected of it is taken out of their accuracies."
        )
    names = (AVERAGE, LAST, "recency_ratio", "recency_bias")
    return Section(
        TITLE,
        "\n\n".join(text),
        [*(f"{name.replace('_', ' ')}: {FORMULAS[name]}" for name in names), *RULES],
        orders_sentence([s.cell for s in shown]),
        figure=_figure(roles, filled),
        tables=[*(one.table for one in filled if len(one.table.frame)), *claim_tables(judged)],
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


def _figure(roles: Roles, filled: Sequence[Filled]) -> go.Figure:
    """Average incremental accuracy, a panel a place: every method, or every loss where no methods are.

    A ring in a method's row is the method without distillation; one in a loss's row its second softmax.
    """
    methods = distinct(filled[1:3])
    subjects = methods or distinct(filled[3:])
    pairs = {}
    for where in roles.places:
        for key in roles.keys(where, "without"):
            without, having = roles.find(where, key), roles.find(where, ("with", *key[1:]))
            if without is not None and having is not None:
                pairs[without.cell.name] = having.row
    several = not methods and len({s.method for s in subjects}) > 1

    def row(subject: Subject) -> str:
        if methods:
            return pairs.get(subject.cell.name, subject.row)
        return f"{subject.loss}{', replay' if several and subject.method == 'replay' else ''}"

    places = [where for where in roles.places if any(s.place == where for s in subjects)]
    titles = short(places)
    rows = list(dict.fromkeys(row(s) for s in subjects))
    tall = max(len({row(s) for s in subjects if s.place == where}) for where in places)
    figure = panels([titles[where] for where in places], columns=2, height=50 + 21 * tall)
    marks = identities(roles.results)
    for index, where in enumerate(places):
        at = place(index, figure)
        here = sorted((s for s in subjects if s.place == where), key=lambda s: -rows.index(row(s)))
        for subject in here:
            value = roles.sample(subject, AVERAGE).mean
            ring = not subject.distilled or (not methods and subject.scope in RINGS)
            text = f"{subject.cell.label}: %{{x:.3f}} (n = {value.n})"
            shown = dot(
                value, row(subject), text, marks[subject.cell.label], 9, ring, about(subject.cell.label)
            )
            figure.add_trace(shown, **at)
        joint = roles.find(where, ("reference", "joint"))
        if joint is not None:
            figure.add_vline(
                x=roles.sample(joint, AVERAGE).mean.value,
                line={"dash": "dot", "width": 1.2, "color": REFERENCE_COLOURS["joint"]},
                **at,
            )
        # With many names a panel, every one of them is written.
        axis = {"type": "category", "tickmode": "linear", "dtick": 1, "tickfont": {"size": 11}}
        count = len({row(s) for s in here})
        figure.update_yaxes(range=[-0.8, count - 0.2], **axis, **at)
    figure.update_xaxes(title_text=AVERAGE.replace("_", " "))
    return figure
