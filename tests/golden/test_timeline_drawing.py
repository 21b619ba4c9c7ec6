"""The picture says what the sentences say, is well-formed, and nothing in it overlaps."""

from itertools import pairwise
from xml.etree import ElementTree as ET

from orchestrator.cli.timeline import STEP, draw
from orchestrator.core.explain import timeline
from tests.core.test_explain import STORY

LINES = timeline((second * 5_000_000, event) for second, event in enumerate(STORY))
SVG = "{http://www.w3.org/2000/svg}"


def drawn() -> ET.Element:
    return ET.fromstring(draw("digits", "01J · succeeded", LINES))


def test_every_sentence_is_in_the_picture() -> None:
    words = [text.text for text in drawn().iter(f"{SVG}text")]
    assert [line.plain for line in LINES if line.plain not in words] == []


def test_every_provider_has_a_lane_in_order_of_appearance() -> None:
    names = [text.text for text in drawn().iter(f"{SVG}text") if text.get("class") == "ink name"]
    assert names == ["azure", "coreweave", "oracle"]


def test_marks_never_overlap() -> None:
    marks = [float(circle.get("cx", "0")) for circle in drawn().iter(f"{SVG}circle") if circle.get("r") == "11"]
    assert min(b - a for a, b in pairwise(marks)) >= STEP


def test_attempts_are_launched_running_then_unknown() -> None:
    bars = [rect.get("class") for rect in drawn().iter(f"{SVG}rect")]
    assert [bar for bar in bars if bar in ("launching", "running", "unknown")] == [
        "launching", "running", "unknown", "launching", "running",
    ]  # fmt: skip


def test_names_from_outside_are_text_and_nothing_else() -> None:
    assert "<script" not in draw("<script>alert(1)</script>", "", LINES)


def test_a_job_that_was_only_submitted_can_be_drawn() -> None:
    assert ET.fromstring(draw("young", "queued", LINES[:1])).tag == f"{SVG}svg"
