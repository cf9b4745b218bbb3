"""The report of an evaluation: one self-contained HTML file with plots, tables and the worst moments."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import cv2
import numpy as np

from siamfast.evaluation.metrics import NORMALIZED_THRESHOLDS, PRECISION_THRESHOLDS, SUCCESS_THRESHOLDS, overlap
from siamfast.evaluation.summary import COLUMNS, LONG_TERM, Run, Summary
from siamfast.io.images import read_image
from siamfast.tracking.drawing import WHITE, draw_box

# Okabe and Ito's colours, which people who confuse red and green tell apart, in an order that suits a white and a dark
# page (the blue a little lighter than theirs); with more trackers the lines are dashed.
COLORS = ("#1f82c0", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a8a8a")
_DASHES = ("-", "--", ":", "-.")
_PLOTS = (
    ("success", "Success", "overlap", SUCCESS_THRESHOLDS, "auc"),
    ("precision", "Precision", "centre error, pixels", PRECISION_THRESHOLDS, "precision20"),
    ("normalized", "Normalised precision", "centre error, sides", NORMALIZED_THRESHOLDS, "normalized_precision"),
)
_TITLES = {
    "auc": "AUC", "precision20": "Prec. 20 px", "normalized_precision": "Norm. prec.", "ao": "AO", "sr50": "SR 0.5",
    "sr75": "SR 0.75", "lost_auc": "Lost AUC", "fps": "FPS",
}  # fmt: skip
_MEANS = {
    "auc": "area under the success curve, 0 to 1",
    "precision20": "share of frames whose centre is within 20 pixels of the truth",
    "normalized_precision": "area under the normalised precision curve, 0 to 1",
    "ao": "average overlap with the truth, 0 to 1",
    "sr50": "share of frames with an overlap above 0.5",
    "sr75": "share of frames with an overlap above 0.75",
    "lost_auc": "how well the confidence tells frames on the target from others: area under its ROC curve",
    "fps": "frames per second, without decoding",
}
_STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1c1c1e; --quiet: #5c5c63; --line: #d9d9de; --bad: #fbe0d8; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16171a; --text: #e8e8ea; --quiet: #a2a2aa; --line: #3a3b40; --bad: #5a2c1c; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 1100px;
  margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; } h3 { font-size: 1em; }
p.note, dd { color: var(--quiet); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } td.best { font-weight: 700; } td.bad { background: var(--bad); }
table.errors td { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; font-size: .9em; } dd { margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 1em; }
.plots svg { width: 100%; height: auto; fill: currentColor; }
.moments { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 1em; }
figure { margin: 0; break-inside: avoid; } figcaption { font-size: .85em; color: var(--quiet); }
img { display: block; width: 100%; }
.swatch { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em; }
@media print {
  :root { --page: #fff; --text: #000; --quiet: #444; --line: #bbb; --bad: #eee; }
  body { max-width: none; margin: 0; font-size: 11px; } h2, h3 { break-after: avoid; }
  .swatch, td.bad { print-color-adjust: exact; } .plots { grid-template-columns: repeat(3, 1fr); }
  .moments { grid-template-columns: repeat(3, 1fr); }
}
"""
_LOW, _WORST = 0.1, 6  # an overlap that counts as none; thumbnails per tracker


def report(title: str, about: dict[str, Any], summaries: list[Summary], errors: list[tuple[str, str]]) -> str:
    """The HTML page.

    Args:
        title: of the page.
        about: facts about the run, name -> value.
        summaries: of the trackers; the first one's worst moments come first.
        errors: (name, reason) of each run that failed.
    """
    color = {s.label: COLORS[n % len(COLORS)] for n, s in enumerate(summaries)}
    parts = [f"<h1>{html.escape(title)}</h1>", _about(about)]
    if errors:
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(why)}</td></tr>" for name, why in errors)
        parts.append(f"<h2>Not evaluated</h2>{_wide(f'<table class=errors>{rows}</table>')}")
    parts += ["<h2>Figures</h2>", _figures(summaries, color), _meanings()]
    if any(s.long_term for s in summaries):
        explanation = (
            "Precision and recall of the overlap at the confidence where their F is largest; returns after 10 frames "
            "or more, and the share of them re-acquired within 25 frames; absent targets reported as present."
        )
        parts += ["<h2>Long term</h2>", f"<p class=note>{explanation}</p>", _long_term(summaries, color)]
    if any(s.curves for s in summaries):
        plots = "".join(_plot(summaries, color, *plot) for plot in _PLOTS)
        parts.append(f"<h2>Curves</h2><div class=plots>{plots}</div>")
    parts += ["<h2>Sequences</h2>", "<p class=note>AO; values below 0.2 are marked.</p>", _sequences(summaries)]
    explanation = "The frame from which a run's overlap stays below 0.1, or its lowest. The truth is white."
    parts.append(f"<h2>Worst moments</h2><p class=note>{explanation}</p>")
    parts += [_moments(s, color[s.label]) for s in summaries]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def _about(about: dict[str, Any]) -> str:
    return "<p class=note>" + "; ".join(f"{html.escape(k)}: {html.escape(str(v))}" for k, v in about.items()) + "</p>"


def _number(value: float, name: str = "") -> str:
    if not np.isfinite(value):
        return "-"
    return f"{value:.1f}" if name == "fps" else f"{value:.3f}"


def _name(summary: Summary, color: dict[str, str]) -> str:
    """The first cell of a tracker's row."""
    swatch = f"<span class=swatch style='background:{color[summary.label]}'></span>"
    return f"<td>{swatch}{html.escape(summary.label)}</td>"


def _figures(summaries: list[Summary], color: dict[str, str]) -> str:
    best = {}
    for name in COLUMNS:
        best[name] = max((s.figures[name] for s in summaries if np.isfinite(s.figures[name])), default=None)
    rows = []
    for s in summaries:
        cells = ""
        for name in COLUMNS:
            kind = " class=best" if s.figures[name] == best[name] and len(summaries) > 1 else ""
            cells += f"<td{kind}>{_number(s.figures[name], name)}</td>"
        rows.append(f"<tr>{_name(s, color)}{cells}</tr>")
    head = "".join(f"<th>{_TITLES[name]}</th>" for name in COLUMNS)
    return _wide(f"<table class=figures><tr><th>tracker</th>{head}</tr>{''.join(rows)}</table>")


def _meanings() -> str:
    """What the columns are."""
    rows = "".join(f"<dt>{_TITLES[name]}</dt><dd>{html.escape(_MEANS[name])}</dd>" for name in COLUMNS)
    return f"<dl>{rows}</dl>"


def _wide(table: str) -> str:
    """A table that scrolls by itself where the page is narrow."""
    return f"<div class=wide>{table}</div>"


def _long_term(summaries: list[Summary], color: dict[str, str]) -> str:
    rows = []
    for s in summaries:
        if s.long_term is not None:
            values = (getattr(s.long_term, name) for name in LONG_TERM)
            cells = "".join(f"<td>{v if isinstance(v, int) else _number(v)}</td>" for v in values)
            rows.append(f"<tr>{_name(s, color)}{cells}</tr>")
    head = "".join(f"<th>{name.replace('_', ' ').capitalize()}</th>" for name in LONG_TERM)
    return _wide(f"<table class=longterm><tr><th>tracker</th>{head}</tr>{''.join(rows)}</table>")


def _plot(
    summaries: list[Summary], color: dict[str, str], name: str, title: str, axis: str, thresholds: Any, figure: str
) -> str:
    """A plot of one kind of curve as SVG, without a background; its black is the page's text colour."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(4.6, 4.2), layout="constrained")
    drawing.patch.set_alpha(0)
    axes = drawing.subplots()
    axes.patch.set_alpha(0)
    dash = {s.label: _DASHES[n // len(COLORS) % len(_DASHES)] for n, s in enumerate(summaries)}
    for s in sorted(summaries, key=lambda s: -s.figures[figure]):
        if name in s.curves:
            label = f"{s.label} [{s.figures[figure]:.3f}]"
            axes.plot(
                thresholds, s.curves[name], label=label, color=color[s.label], linestyle=dash[s.label], linewidth=2.0
            )
    axes.set(title=title, xlabel=axis, ylabel="share of frames", ylim=(0, 1.02), xlim=(thresholds[0], thresholds[-1]))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=1 if len(summaries) < 4 else 2)
    file = io.StringIO()
    drawing.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace("#000000", "currentColor")


def _sequences(summaries: list[Summary]) -> str:
    by_tracker = {s.label: {run.sequence.name: run for run in s.runs} for s in summaries}
    names = sorted({name for runs in by_tracker.values() for name in runs})
    rows = []
    for name in names:
        runs = [by_tracker[s.label].get(name) for s in summaries]
        cells = []
        for run in runs:
            ao = float("nan") if run is None or run.scores is None else run.scores.ao
            cells.append(f"<td{' class=bad' if ao < 0.2 else ''}>{_number(ao)}</td>")
        frames = max(len(run.sequence) for run in runs if run is not None)
        rows.append(f"<tr><td>{html.escape(name)}</td><td>{frames}</td>{''.join(cells)}</tr>")
    head = "".join(f"<th>{html.escape(s.label)}</th>" for s in summaries)
    return _wide(f"<table class=sequences><tr><th>sequence</th><th>frames</th>{head}</tr>{''.join(rows)}</table>")


def worst_frame(run: Run) -> tuple[int, float]:
    """The frame from which the overlap stays below _LOW for ten frames or to the end; else the frame with the lowest.

    Returns:
        Its index and its overlap.
    """
    overlaps = overlap(run.boxes, run.truth)
    counted = np.flatnonzero(np.isfinite(overlaps))
    low = overlaps[counted] < _LOW
    for start in np.flatnonzero(low):
        if low[start : start + 10].all():
            return int(counted[start]), float(overlaps[counted[start]])
    place = int(counted[np.argmin(overlaps[counted])])
    return place, float(overlaps[place])


def _moments(summary: Summary, color: str) -> str:
    runs = sorted((r for r in summary.runs if r.scores is not None), key=lambda r: r.scores.ao if r.scores else 0)
    figures = []
    for run in runs[:_WORST]:
        place, value = worst_frame(run)
        picture = _thumbnail(run, place, color)
        if picture:
            caption = f"{run.sequence.name}, frame {place + 1}: overlap {value:.2f}"
            figures.append(
                f"<figure><img src='{picture}' alt=''><figcaption>{html.escape(caption)}</figcaption></figure>"
            )
    return f"<h3>{html.escape(summary.label)}</h3><div class=moments>{''.join(figures)}</div>"


def _thumbnail(run: Run, place: int, color: str) -> str:
    """A frame with both boxes, 320 pixels wide, as a data URI; empty if it cannot be decoded."""
    try:
        frame = read_image(run.sequence.frames[place])
    except (ValueError, OSError):
        return ""
    scale = 320 / frame.shape[1]
    small = cv2.resize(frame, (320, max(1, round(frame.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    red, green, blue = (int(color[n : n + 2], 16) for n in (1, 3, 5))
    for box, paint in ((run.sequence.boxes[place], WHITE), (run.boxes[place], (red, green, blue))):
        if np.isfinite(box).all():
            draw_box(np.asarray(small, np.uint8), np.asarray(box) * scale, paint)
    encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
