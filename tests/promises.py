"""What do users of other schedulers suffer from, and which tests show that ours do not? The closed list, by number.

A test that shows a promise carries the number of the complaint in its docstring, with the project that it was made to:
`(dstack#4246)`. Read by `test_promises`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
NUMBER = re.compile(r"\b(?:armada|dstack|kuberay|kueue|skypilot)#\d+")

_BY_PROMISE = {
    "out of reach is not dead: nothing is replaced before it has ended, or has had time to": (
        "skypilot#6133 skypilot#10123 skypilot#10155 skypilot#10157 skypilot#10162"
    ),
    "whoever lost a job is passed over for a while": "skypilot#10021",
    "one provider is asked at a time": "skypilot#7967 kueue#8303",
    "a no is remembered, and capacity that comes free ends that": "skypilot#7115",
    "what is to run at one holder alone never spills over": "skypilot#4766",
    "who is asked first was agreed, whatever they are called": "kueue#9270 kueue#12854",
    "who accepts and cannot launch has refused": "kueue#2560 kueue#8089",
    "a thousand jobs at a cluster are a matter of seconds": "kueue#8564 kueue#14973",
    "every candidate is asked, or passed over with a reason": "dstack#1046 dstack#1740 dstack#2442",
    "by priority, then age, when room is free again": "dstack#4246",
    "first come, first served inside a priority": "skypilot#5493",
    "a gang or nothing": "dstack#4146",
    "what nobody needs any more is stopped until it is gone": (
        "skypilot#2990 skypilot#4410 skypilot#4443 dstack#2068 dstack#3449"
    ),
    "nothing runs twice, nothing done runs again, nothing of others is touched": (
        "skypilot#656 kueue#11849 kueue#14734"
    ),
    "controllers come and go, jobs run on": "armada#315 skypilot#7707 skypilot#9749",
    "one writer, and one commit for many": "skypilot#1507 skypilot#4649",
    "the law of a job binds its checkpoints too": "skypilot#3114 skypilot#8504",
    "why, where to and why not elsewhere is told": "armada#703 kueue#4749 kueue#11132 skypilot#8947",
    "no more is paid than was accepted": "dstack#1886 dstack#1890",
    "user code is started once, and a start that never comes ends": (
        "kuberay#2376 kuberay#2393 kuberay#4178 kuberay#4945"
    ),
}
PROMISES = {number: promise for promise, numbers in _BY_PROMISE.items() for number in numbers.split()}
"""Number → what we promise."""
NOT_YET = {
    "skypilot#7837": "limits of spending: there are no budgets; a ceiling is of a price alone",
    "skypilot#3775": "a word to a URL when a job's state changes: webhooks tell suppliers of offers, nobody of jobs",
    "skypilot#10639": "metrics of single jobs: they count by provider, and the API tells of each job",
}
"""Number → why nobody can show it: this version does not do it."""


def carried() -> dict[str, list[str]]:
    """number → the tests whose docstrings carry it, as the files stand."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if NUMBER.search(text):
            for name, number in _of(ast.parse(text)):
                found[number].append(f"{path.relative_to(TESTS)}::{name}")
    return found


def _of(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield from ((node.name, number) for number in NUMBER.findall(ast.get_docstring(node) or ""))
