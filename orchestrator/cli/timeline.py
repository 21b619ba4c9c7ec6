"""How does one job's life look as a picture? Its lines as an SVG: a lane per provider, its story beneath.

Called by `orchestrator job ID --timeline FILE` and the demo. Draws what `core.explain` says and adds nothing. Time runs
to the right, but never so little that two marks would overlap; the exact moments stand beside the sentences.
Readable on light and dark pages, without scripts and without fonts of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

from orchestrator.core.explain import Line, Tone
from orchestrator.core.numbers import span
from orchestrator.model.documents.views import ExplainView

LANES_LEFT, RIGHT, TOP = 132, 48, 92
LANE, STEP, ROW = 66, 58, 25
"""Heights of a lane and of a sentence's row; least distance of two marks. All in pixels."""
STRETCH = 420
"""Pixels shared out by how long things took."""
SHORT = {
    "Submitted": "submitted", "OfferOpened": "offer", "OfferLapsed": "silent", "OfferWithdrawn": "withdrawn",
    "RoundEnded": "round over", "Started": "running", "WentUnknown": "unknown", "SeenAgain": "found",
    "ReclaimNoticed": "notice", "Scaled": "scaled",
    "Fenced": "fenced", "Ended": "ended", "DeliveryFailed": "undelivered", "CancelAsked": "cancel",
    "Cancelled": "cancelled", "Failed": "failed", "Held": "held", "Resumed": "goes on",
    "Accessed": "access",
}  # fmt: skip
LOST = frozenset({"WentUnknown", "Fenced", "Ended"})
STYLE = """
svg { font: 13px ui-sans-serif, system-ui, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif }
.card { fill: #ffffff; stroke: #d9dee5 } .lane { fill: #f4f6f9 } .ink { fill: #1c2330 } .soft { fill: #66707f }
.head { font-size: 19px; font-weight: 650 } .name { font-weight: 600 } .tag { font-size: 10.5px }
.thread { fill: none; stroke: #b7bfcb; stroke-width: 1.5 }
.border { fill: none; stroke: #b7bfcb; stroke-dasharray: 2 4 } .time { font-variant-numeric: tabular-nums }
.carry { fill: none; stroke: #2f6fde; stroke-width: 2; stroke-dasharray: 5 4 } .link { fill: #2f6fde }
.number { font-size: 11px; font-weight: 700; fill: #ffffff }
.plain { fill: #7a8494 } .good { fill: #1a8f5a } .warn { fill: #c07a12 } .bad { fill: #c8403c }
.launching { fill: #2f6fde; opacity: .22 } .running { fill: #1a8f5a; opacity: .38 }
.unknown { fill: #c07a12; opacity: .30 }
@media (prefers-color-scheme: dark) {
.card { fill: #141a22; stroke: #2c3541 } .lane { fill: #1b232d } .ink { fill: #e6ebf2 } .soft { fill: #98a4b3 }
.thread { stroke: #4a5666 } .border { stroke: #4a5666 } .carry { stroke: #7aa7ff } .link { fill: #7aa7ff }
.number { fill: #10151c } .plain { fill: #9aa6b5 } .good { fill: #4cc38a }
.warn { fill: #e0a548 } .bad { fill: #ef7d77 }
.launching { fill: #7aa7ff } .running { fill: #4cc38a } .unknown { fill: #e0a548 } }
"""


@dataclass(frozen=True)
class Mark:
    """One line at its place."""

    n: int
    line: Line
    x: float
    y: float


@dataclass(frozen=True)
class Bar:
    """A stretch of an attempt in one lane."""

    style: str
    start: Mark
    end: Mark


def draw_view(view: ExplainView) -> str:
    """The picture of a job as the server explains it."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    lines = [
        Line(
            at=(line.at - epoch) // timedelta(microseconds=1), kind=line.kind, provider=line.provider, plain=line.plain,
            detail=line.text.removeprefix(line.plain).removeprefix(" · "), tone=Tone(line.tone),
        )
        for line in view.lines
    ]  # fmt: skip
    return draw(view.job.name, f"{view.job.id} · {view.job.state}", lines)


def draw(title: str, subtitle: str, lines: Sequence[Line]) -> str:
    """The picture as SVG text. `lines` as `core.explain.timeline` gives them, in order."""
    lanes = list(dict.fromkeys(line.provider for line in lines if line.provider))
    marks = _place(lines, lanes)
    width = (marks[-1].x if marks else LANES_LEFT) + RIGHT + 40
    width = max(width, 860.0)
    below = TOP + LANE * (len(lanes) + 1)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    height = below + 34 + ROW * len(lines)
    root.set("viewBox", f"0 0 {width:.0f} {height}")
    root.set("width", f"{width:.0f}")
    root.set("height", f"{height}")
    ET.SubElement(root, "title").text = f"Timeline of {title}"
    ET.SubElement(root, "style").text = STYLE
    _add(root, "rect", "card", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=12)
    _text(root, 28, 40, title, "ink head")
    _text(root, 28, 62, _subtitle(subtitle, lines), "soft")
    _lanes(root, lanes, width)
    _episodes(root, marks, below)
    _bars(root, marks)
    _threads(root, marks)
    for mark in marks:
        _mark(root, mark)
    _sentences(root, marks, below + 30)
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode") + "\n"


def _subtitle(text: str, lines: Sequence[Line]) -> str:
    return f"{text} · {span((lines[-1].at - lines[0].at) // 1000)}" if lines else text


def _place(lines: Sequence[Line], lanes: Sequence[str]) -> list[Mark]:
    """Marks in order: a fixed step each, and a share of STRETCH by how long it took to get there."""
    whole = max(lines[-1].at - lines[0].at, 1) if lines else 1
    marks: list[Mark] = []
    x = LANES_LEFT + 28.0
    for n, line in enumerate(lines, 1):
        if marks:
            x += STEP + STRETCH * (line.at - marks[-1].line.at) / whole
        row = lanes.index(line.provider) + 1 if line.provider else 0
        marks.append(Mark(n, line, x, TOP + LANE * row + LANE / 2))
    return marks


def _bar_list(marks: Sequence[Mark]) -> Iterator[Bar]:
    """What the attempts did between marks, read from the kinds in each lane."""
    since: dict[str, tuple[str, Mark]] = {}
    for mark in marks:
        lane, kind = mark.line.provider, mark.line.kind
        style = _phase(mark.line)
        if lane in since and (style or kind in ("Fenced", "Ended")):
            before, start = since.pop(lane)
            yield Bar(before, start, mark)
        if style:
            since[lane] = (style, mark)


def _phase(line: Line) -> str:
    accepted = line.kind == "OfferAnswered" and line.tone is Tone.GOOD
    if accepted:
        return "launching"
    return {"Started": "running", "SeenAgain": "running", "WentUnknown": "unknown"}.get(line.kind, "")


def _lanes(root: ET.Element, lanes: Sequence[str], width: float) -> None:
    for row, name in enumerate(("", *lanes)):
        y = TOP + LANE * row
        if row:
            _add(root, "rect", "lane", x=20, y=y + 5, width=width - 40, height=LANE - 10, rx=8)
        _text(root, 36, y + LANE / 2 + 5, name or "job", "ink name" if name else "soft")


def _bars(root: ET.Element, marks: Sequence[Mark]) -> None:
    for bar in _bar_list(marks):
        x, y = bar.start.x, bar.start.y
        _add(root, "rect", bar.style, x=x, y=y - 9, width=bar.end.x - x, height=18)


def _threads(root: ET.Element, marks: Sequence[Mark]) -> None:
    """The story's thread from mark to mark, and what was carried over from a lost attempt to the next."""
    for a, b in pairwise(marks):
        if a.y != b.y:
            middle = (a.x + b.x) / 2
            _add(root, "path", "thread", d=f"M{a.x:.1f} {a.y} C{middle:.1f} {a.y} {middle:.1f} {b.y} {b.x:.1f} {b.y}")
    starts = [mark for mark in marks if mark.line.kind == "Started"]
    for a, b in pairwise(starts):
        lost = [m for m in marks if m.line.kind in LOST and a.n < m.n < b.n and m.y == a.y]
        if lost and "resumed" in b.line.plain:
            _carry(root, lost[-1], b)


def _carry(root: ET.Element, a: Mark, b: Mark) -> None:
    """The checkpoint's way from the attempt that was lost to the one that resumed it."""
    floor = max(a.y, b.y) + LANE / 2 - 12
    bend = min(90.0, (b.x - a.x) / 2)
    down = f"M{a.x:.1f} {a.y + 12} C{a.x:.1f} {floor} {a.x + bend / 2:.1f} {floor} {a.x + bend:.1f} {floor}"
    _add(
        root,
        "path",
        "carry",
        d=f"{down} L{b.x - bend / 2:.1f} {floor} C{b.x:.1f} {floor} {b.x:.1f} {floor} {b.x:.1f} {b.y + 12}",
    )
    _text(root, a.x + bend, floor - 6, "checkpoint", "link tag")


def _episodes(root: ET.Element, marks: Sequence[Mark], below: float) -> None:
    """A line before each mark that opens a new episode."""
    for before, mark in pairwise(marks):
        if mark.line.plain.startswith("episode "):
            x = (before.x + mark.x) / 2
            _add(root, "path", "border", d=f"M{x:.1f} {TOP} V{below}")
            _text(root, x + 8, TOP + 16, mark.line.plain.partition(":")[0], "soft tag")


def _elapsed(ms: int) -> str:
    """Minutes and seconds since the beginning."""
    return f"{ms // 60_000}:{ms / 1000 % 60:04.1f}"


def _mark(root: ET.Element, mark: Mark) -> None:
    _add(root, "circle", mark.line.tone.value, cx=round(mark.x, 1), cy=mark.y, r=11)
    _text(root, mark.x, mark.y + 4, str(mark.n), "number", "middle")
    _text(root, mark.x, mark.y - 16, _short(mark.line), "soft tag", "middle")


def _short(line: Line) -> str:
    """One or two words on the mark; the sentence beneath says the rest."""
    if "passed over" in line.plain:
        return "passed over"
    if line.kind == "OfferAnswered":
        return "accepted" if line.tone is Tone.GOOD else line.plain.partition(": ")[2] or "declined"
    if line.kind == "Started" and "resumed" in line.plain:
        return "resumed"
    if line.kind == "Ended" and line.tone is Tone.GOOD:
        return "done"
    return SHORT.get(line.kind, line.kind)


def _sentences(root: ET.Element, marks: Sequence[Mark], top: float) -> None:
    for row, mark in enumerate(marks):
        y = top + ROW * row
        _add(root, "circle", mark.line.tone.value, cx=40, cy=y - 4, r=9)
        _text(root, 40, y, str(mark.n), "number", "middle")
        _text(root, 112, y, _elapsed((mark.line.at - marks[0].line.at) // 1000), "soft time", "end")
        sentence = _text(root, 134, y, mark.line.plain, "ink")
        if mark.line.detail:
            detail = ET.SubElement(sentence, "tspan", {"class": "soft", "dx": "8"})
            detail.text = mark.line.detail


def _add(root: ET.Element, tag: str, style: str, **attributes: object) -> ET.Element:
    return ET.SubElement(root, tag, {"class": style, **{name: _number(value) for name, value in attributes.items()}})


def _text(root: ET.Element, x: float, y: float, words: str, style: str, anchor: str = "start") -> ET.Element:
    element = ET.SubElement(root, "text", {"x": _number(x), "y": _number(y), "class": style, "text-anchor": anchor})
    element.text = words
    return element


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
