"""The evaluation as one self-contained HTML page: figures, plots and pictures, nothing to load from elsewhere."""

import io
from base64 import b64encode
from html import escape

import numpy as np
from PIL import Image

from .scores import comparison

MEANING = {
    "plain": "the model without any identity: the floor",
    "wrong_person": "the prediction made for somebody else",
    "mean": "the average of all predictions: what people have in common",
    "predicted": "one forward pass of the HyperNet",
    "finetuned": "the prediction and 40 iterations",
    "zero_40": "40 iterations without HyperNet",
    "ceiling": "the reference photo itself, against the person's other photos",
}
FACTS = (
    "checkpoint",
    "checkpoint_sha256",
    "base",
    "hypernet",
    "hypernet_sha256",
    "people",
    "seeds",
    "finetune_steps",
    "finetune_learning_rate",
    "zero_learning_rate",
    "hardware",
)
STYLE = """
:root{color-scheme:light dark;--ink:#1c1e21;--dim:#667;--line:#d8dce3;--paper:#fff;--mark:#2563c9;--tint:#eef3fb}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8ec;--dim:#99a;--line:#3a3f48;--paper:#16181c;--mark:#7fb0ff;--tint:#20262f}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;max-width:1080px;padding:24px 16px}
h1{font-size:1.6rem;margin:0 0 .3em}h2{font-size:1.15rem;margin:2em 0 .5em}.lead{font-size:1.1rem}
table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}td small{display:block;color:var(--dim)}tr.main{background:var(--tint);font-weight:600}
.scroll{overflow-x:auto}svg{width:100%;height:auto;max-width:720px}svg text{fill:var(--ink);font:13px system-ui,sans-serif}
.strip{display:flex;gap:4px;overflow-x:auto;padding-bottom:6px}.strip figure{margin:0;flex:0 0 96px}
.strip img{width:96px;height:96px;border-radius:4px;display:block}figcaption{font-size:11px;line-height:1.25;color:var(--dim)}
.who{margin:1.2em 0 .3em;font-weight:600}.tag{background:var(--mark);color:var(--paper);border-radius:9px;padding:1px 9px;font-size:.8rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
"""


def page(result: dict, values: dict, pictures: dict, references: dict[str, Image.Image], edits: list[str]) -> str:
    """HTML of one evaluation.

    Args:
        result: what report.json holds; ``values``: stage -> scores per person (empty if nothing can be scored).
        pictures: stage -> person -> pictures; ``references``: person -> picture; ``edits``: the prompts of the last ones.
    """
    names, rows = list(references), result["rows"]
    parts = [f"<h1>Evaluation of {escape(str(result['hypernet']))}</h1>", f'<p class="lead">{_headline(result)}</p>']
    if values:
        parts += ["<h2>Scores</h2>", _table(rows), "<h2>Identity</h2>", _intervals(rows)]
        parts += ["<h2>Identity against prompt</h2>", _scatter(rows)]
        parts += [_paired(result)] if "paired" in result else []
    order, marks = _order(names, values)
    parts += [
        "<h2>Pictures</h2>",
        "<p>Unpicked: of every person and stage the first photo, and the edits of the identities. Scroll a row sideways.</p>",
    ]
    parts += [_person(name, marks.get(name), values, names, pictures, references[name], edits) for name in order]
    if result["skipped"]:
        items = "".join(f"<li>{escape(s['picture'])}: {escape(s['reason'])}</li>" for s in result["skipped"])
        parts += ["<h2>Skipped pictures</h2>", f"<ul>{items}</ul>"]
    shown = {k: result[k] for k in FACTS if result.get(k) is not None}
    sizes = sorted(result["files"].values())
    shown["identity files"] = f"{sizes[0] / 1000:.1f} to {sizes[-1] / 1000:.1f} KB" if sizes else "none"
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in shown.items())
    taken = ", ".join(f"{row['stage']} {row['seconds']:.1f}" for row in rows if row["seconds"])
    facts += f"<dt>seconds a person</dt><dd>{escape(taken or 'not measured')}</dd>"
    if alone := result.get("scored_on_reference"):
        facts += f"<dt>without another photo</dt><dd>{escape(', '.join(alone))}</dd>"
    parts += ["<h2>Facts</h2>", f"<dl>{facts}</dl>"]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
    title = f"<title>Evaluation of {escape(str(result['hypernet']))}</title>"
    return f'<!doctype html><html lang="en"><head>{head}{title}<style>{STYLE}</style></head><body>{"".join(parts)}</body></html>\n'


def _headline(result: dict) -> str:
    by = {row["stage"]: row for row in result["rows"]}
    if "identity" not in by.get("predicted", {}):
        return (
            f"{result['people']} people on {escape(result['base'])}. No likeness measure for photographs ships with this "
            "extension, so there are no scores: look at the pictures."
        )
    text = (
        f"Over {result['people']} people, likeness rises from {by['plain']['identity']:.2f} (plain model) to "
        f"{by['predicted']['identity']:.2f} with one forward pass and {by['finetuned']['identity']:.2f} after 40 iterations"
    )
    if "ceiling" in by:
        text += (
            f"; the reference photo scores {by['ceiling']['identity']:.2f} against the same person's other photos. That is "
            f"{100 * by['predicted']['share']:.0f} % and {100 * by['finetuned']['share']:.0f} % of the way"
        )
    return text + "."


def _table(rows: list[dict]) -> str:
    lines = []
    for r in rows:
        prompt = "" if r["prompt"] is None else f"{r['prompt']:.2f}"
        inside = "" if r["prompt"] is None else f"<small>{r['prompt_low']:.2f} to {r['prompt_high']:.2f}</small>"
        share = f"{100 * r['share']:.0f} %" if "share" in r else ""
        seconds = f"{r['seconds']:.1f}" if r["seconds"] else ""
        edits = ""
        if r["edit_identity"] is not None:
            edits = f"{r['edit_identity']:.2f}<small>{r['edit_low']:.2f} to {r['edit_high']:.2f}</small>"
        main = ' class="main"' if r["stage"] in ("predicted", "finetuned") else ""
        lines.append(
            f"<tr{main}><td>{escape(r['stage'])}<small>{MEANING.get(r['stage'], '')}</small></td>"
            f"<td>{r['identity']:.2f}<small>{r['low']:.2f} to {r['high']:.2f}</small></td><td>{share}</td>"
            f"<td>{edits}</td><td>{prompt}{inside}</td><td>{seconds}</td></tr>"
        )
    head = "<tr><th>stage</th><th>identity</th><th>floor to ceiling</th><th>identity of the edits</th><th>prompt</th><th>seconds</th></tr>"
    note = (
        f"<p>{escape(comparison(rows))} The edits are compared with the same photos; since they are drawn in other styles, even a "
        "perfect edit scores lower than a photo. Identity and prompt are the measures of this extension's drawn world, not of "
        "photographs. Seconds: to make the identity (for plain: to sample its pictures). Small print: 95 % bootstrap interval "
        "over people.</p>"
    )
    return f'<div class="scroll"><table>{head}{"".join(lines)}</table></div>{note}'


def _scale(rows: list[dict], low: str, high: str) -> tuple[float, float]:
    least = min(0.0, *(r[low] for r in rows if r.get(low) is not None))
    return least - 0.03, max(1.0, *(r[high] for r in rows if r.get(high) is not None)) + 0.03


def _intervals(rows: list[dict]) -> str:
    least, most = _scale(rows, "low", "high")
    x = lambda v: 130 + 560 * (v - least) / (most - least)  # noqa: E731
    height, marks = 34 * len(rows) + 34, []
    for r in rows:
        if r["stage"] in ("plain", "ceiling"):
            at = x(r["identity"])
            marks.append(f'<path d="M{at:.1f} 8V{height - 26}" stroke="var(--line)" stroke-dasharray="4 4"/>')
    for i, r in enumerate(rows):
        y = 24 + 34 * i
        marks.append(
            f'<text x="120" y="{y + 4}" text-anchor="end">{escape(r["stage"])}</text>'
            f'<path d="M{x(r["low"]):.1f} {y}H{x(r["high"]):.1f}" stroke="var(--mark)" stroke-width="3"/>'
            f'<circle cx="{x(r["identity"]):.1f}" cy="{y}" r="5" fill="var(--mark)"/>'
        )
    for tick in (0, 0.25, 0.5, 0.75, 1):
        marks.append(f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick}</text>')
    return f'<svg viewBox="0 0 710 {height}" role="img" aria-label="identity per stage">{"".join(marks)}</svg>'


def _scatter(rows: list[dict]) -> str:
    rows = [r for r in rows if r["prompt"] is not None]
    least, most = _scale(rows, "low", "high")
    x = lambda v: 50 + 630 * (v - least) / (most - least)  # noqa: E731
    y = lambda v: 250 - 220 * v  # noqa: E731
    marks = ['<path d="M50 250H690M50 250V20" stroke="var(--line)" fill="none"/>']
    for i, r in enumerate(sorted(rows, key=lambda r: r["identity"])):
        marks.append(
            f'<circle cx="{x(r["identity"]):.1f}" cy="{y(r["prompt"]):.1f}" r="5" fill="var(--mark)"/>'
            f'<text x="{x(r["identity"]):.1f}" y="{y(r["prompt"]) + (-12 if i % 2 else 22):.1f}" text-anchor="middle">{escape(r["stage"])}</text>'
        )
    for tick in (0, 0.5, 1):
        marks.append(f'<text x="{x(tick):.1f}" y="270" text-anchor="middle">{tick}</text>')
        marks.append(f'<text x="42" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    marks.append('<text x="690" y="290" text-anchor="end">identity</text><text x="8" y="14">prompt</text>')
    return f'<svg viewBox="0 0 710 300" role="img" aria-label="identity against prompt">{"".join(marks)}</svg>'


def _paired(result: dict) -> str:
    lines = []
    for what, kinds in result["paired"].items():
        told = (
            f"{kind.replace('_', ' ')} {m:+.2f} ({low:+.2f} to {high:+.2f})" for kind, (m, low, high) in kinds.items()
        )
        lines.append(f"<p>{escape(what)}, person by person: {', '.join(told)}.</p>")
    return "".join(lines)


def _order(names: list[str], values: dict) -> tuple[list[str], dict[str, str]]:
    """Best, median and worst by likeness after the finetune first, then the others as they come."""
    if "finetuned" not in values:
        return names, {}
    ranked = [names[i] for i in np.argsort(-values["finetuned"]["identity"], kind="stable")]
    first = {ranked[len(ranked) // 2]: "median", ranked[-1]: "worst", ranked[0]: "best"}  # of two people, no median
    chosen = [n for n in (ranked[0], ranked[len(ranked) // 2], ranked[-1]) if n in first]
    chosen = list(dict.fromkeys(chosen))
    return chosen + [n for n in names if n not in first], first


def _person(name, mark, values, names, pictures, reference, edits) -> str:
    strip = [_figure(reference, "reference")]
    for stage in ("plain", "mean", "predicted", "finetuned", "zero_40"):
        if name in pictures.get(stage, {}):
            shown = pictures[stage][name]
            likeness = f" {values[stage]['identity'][names.index(name)]:.2f}" if stage in values else ""
            strip.append(_figure(shown[0], stage + likeness))
            if stage in ("predicted", "finetuned", "zero_40"):
                edited = zip(shown[len(shown) - len(edits) :], edits, strict=True)
                strip += [_figure(picture, prompt) for picture, prompt in edited]
    tag = f' <span class="tag">{mark}</span>' if mark else ""
    return f'<p class="who">{escape(name)}{tag}</p><div class="strip">{"".join(strip)}</div>'


def _figure(picture: Image.Image, caption: str) -> str:
    small = picture.convert("RGB")
    small.thumbnail((192, 192))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    data = b64encode(buffer.getvalue()).decode("ascii")
    caption = escape(caption)
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )
