"""The tables of the survey's claims: verdicts, every contrast behind them, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.report.section import Table
from analysis.statistics.intervals import TOO_FEW
from analysis.survey.contrasts import NOT_MEASURED, signed
from analysis.survey.verdict import Judged, everywhere

HEADINGS = ("claim", "sentence", "the survey's words", "contrast")
UNCORRECTED = (
    "Each by its own plain 95 % interval, without correction: many are expected to be decided by chance. "
    "Last accuracy stands beside where the contrast is in another metric."
)


def claim_tables(judged: Sequence[Judged]) -> list[Table]:
    """Return the verdicts; every contrast behind them; and the claims of which nothing was measured."""
    known = [j for j in judged if j.data]
    overall = everywhere(judged)
    rows: list[dict[str, object]] = []
    for j in known:
        rows.append(
            {
                **_words(j),
                "data set": j.data,
                "recipe": j.recipe,
                "verdict": j.verdict.name,
                "difference": j.deciding.said if j.deciding else "",
                "of": j.deciding.contrast.text if j.deciding else "",
                "n": "–".join(map(str, j.n)),
                "p (Holm)": _p(j),
                "remark": "; ".join(filter(None, (j.remark, _lacking(j.missing)))),
            }
        )
        last = j is [k for k in known if (k.claim.id, k.recipe) == (j.claim.id, j.recipe)][-1]
        if last and (j.claim.id, j.recipe) in overall:
            rest = {"difference": "", "of": "", "n": "", "p (Holm)": "", "remark": "over the data sets"}
            row = {**_words(j), "data set": "all", "recipe": j.recipe, **rest}
            rows.append({**row, "verdict": overall[j.claim.id, j.recipe]})
    out = []
    if rows:
        frame = pd.DataFrame(rows)
        frame = frame.drop(columns=[c for c in ("recipe",) if (frame[c] == "").all()])
        out.append(Table("Claims", frame, group="claim", heading=HEADINGS))
        out.append(Table("Every contrast", _contrasts(known), group="claim", folded=True, text=UNCORRECTED))
    absent = [j for j in judged if not j.data]
    if absent:
        lines = [{**_words(j), NOT_MEASURED: _lacking(j.missing)} for j in absent]
        title = f"Claims of which nothing is measured here ({len(absent)})"
        out.append(Table(title, pd.DataFrame(lines), group="claim", heading=HEADINGS, folded=True))
    return out


def _words(j: Judged) -> dict[str, object]:
    said = (j.claim.id, j.claim.english, j.claim.sentence, j.claim.contrast)
    return dict(zip(HEADINGS, said, strict=True))


def _p(j: Judged) -> str:
    if j.verdict.name == NOT_MEASURED or j.verdict.name.startswith(TOO_FEW):
        return ""
    return "< .001" if j.verdict.p < 0.001 else f"{j.verdict.p:.3f}"


def _contrasts(judged: Sequence[Judged]) -> pd.DataFrame:
    rows = []
    for j in judged:
        for s in j.shown:
            if s.missing:
                continue
            rows.append(
                {
                    "claim": j.claim.id,
                    "data set": j.data,
                    "recipe": j.recipe,
                    "contrast": s.contrast.text,
                    "claimed": f"> {s.contrast.claimed:g}",
                    "difference": s.said,
                    "n": s.difference.n,
                    "plain interval": s.verdict,
                    "last accuracy": signed(s.last) if s.last else "",
                    "apart": s.contrast.extra,
                }
            )
    frame = pd.DataFrame(rows)
    return frame.drop(columns=[c for c in ("recipe", "apart") if (frame[c] == "").all()])


def _lacking(missing: Sequence[str]) -> str:
    if not missing:
        return ""
    more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
    return f"missing: {', '.join(missing[:6])}{more}"
