"""What plain values does a piece of YAML 1.2 (or JSON) say, and is it safe to look at?

Called by `base.load_text`. Numbers with a point become Decimal of their own text, dates stay text, so
that nothing is lost before the digest. Refused with a path: duplicate keys, values that contain
themselves, aliases that unfold to more than MAX_VALUES, documents over MAX_BYTES, MAX_PARTS or
MAX_DEPTH, tags, more than one document. Never builds objects.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator.model.documents.errors import DocumentError, Problem, path_of

MAX_BYTES = 256 * 1024  # a contract set of a hundred contracts has 50 KiB; reading takes 20 us a byte
MAX_PARTS = 40_000  # keys, values, begins and ends of lists; reading takes 0.15 ms each, and 5 KiB have 650
MAX_DEPTH = 32  # the deepest document of ours has 9
MAX_VALUES = 100_000  # after aliases are unfolded
MAX_EXPONENT = 18  # 1e18 of anything is a mistake, and long to write out

_TAG = "tag:yaml.org,2002:"
Steps = tuple[str | int, ...]


def plain(text: str | bytes, most: int = MAX_PARTS) -> tuple[Any, list[Problem]]:
    """The document as dicts, lists, str, int, Decimal, bool and None, with the problems that leave
    something to read (duplicate keys, odd scalars). `most`: parts that are read. `DocumentError` where
    nothing can be read."""
    decoded = _decode(text)
    try:
        _guard(decoded, most)
        root = YAML(typ="safe", pure=True).compose(decoded)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "(document)"
        said = error.problem or error.context or "not YAML"
        raise _refuse(where, f"not YAML: {said}", "mend the syntax there", "syntax") from error
    except DocumentError:
        raise
    except (YAMLError, ValueError) as error:
        raise _refuse("(document)", f"not YAML: {error}", "mend the syntax", "syntax") from error
    if root is None:
        raise _refuse("(document)", "it is empty", "write apiVersion, kind and spec", "empty")
    reader = _Reader()
    return reader.value(root, ()), reader.problems


def _decode(text: str | bytes) -> str:
    size = len(text)
    if size > MAX_BYTES:
        raise _refuse("(document)", f"{size} bytes, more than {MAX_BYTES}", "split it", "too_large")
    try:
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise _refuse("(document)", "not UTF-8", "save it as UTF-8", "encoding") from error


def _guard(text: str, most: int) -> None:
    """Refuse size, depth, second documents and reused anchors before anything recursive looks at them."""
    depth = documents = 0
    anchors: set[str] = set()
    for count, event in enumerate(YAML(typ="safe", pure=True).parse(text)):
        if count > most:
            raise _refuse("(document)", f"more than {most} keys and values", "split it", "too_large")
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _refuse("(document)", f"nested deeper than {MAX_DEPTH}", "flatten it", "too_deep")
        if not isinstance(event, AliasEvent) and (anchor := getattr(event, "anchor", None)):
            if anchor in anchors:
                raise _refuse("(document)", f"the anchor {anchor} is set twice", "rename one", "anchor")
            anchors.add(anchor)
        documents += type(event).__name__ == "DocumentStartEvent"
        if documents > 1:
            raise _refuse("(document)", "more than one document", "keep one per file", "documents")


def _refuse(path: str, reason: str, remedy: str, code: str) -> DocumentError:
    return DocumentError([Problem(path, reason, remedy, code)])


class _Reader:
    """Walks composed nodes once, aliases included, and counts what it unfolds."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._left = MAX_VALUES
        self._above: set[int] = set()

    def value(self, node: Node, steps: Steps) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _refuse(path_of(steps), "its aliases unfold without end", "write values out", "alias_bomb")
        if id(node) in self._above:
            raise _refuse(path_of(steps), "it contains itself", "remove the alias", "self_reference")
        if isinstance(node, ScalarNode):
            return self._scalar(node, steps)
        self._above.add(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(item, (*steps, at)) for at, item in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, steps)
        finally:
            self._above.discard(id(node))
        return self._odd(steps, f"the tag {node.tag} is not known", "remove the tag", "tag")

    def _mapping(self, node: MappingNode, steps: Steps) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                self._odd(steps, "a key is not a word", "write a plain key", "key")
                continue
            if key in found:
                line = key_node.start_mark.line + 1
                self._odd((*steps, key), f"the key is given twice, again in line {line}", "keep one", "duplicate_key")
                continue
            found[key] = self.value(value_node, (*steps, key))
        return found

    def _scalar(self, node: ScalarNode, steps: Steps) -> Any:
        text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
        try:
            match kind:
                case "str" | "timestamp" | "value" | "merge":
                    return text
                case "null":
                    return None
                case "bool" if text.lower() in ("true", "false"):
                    return text.lower() == "true"
                case "int":
                    return int(text, 0 if text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
                case "float":
                    return _decimal(text)
        except (ValueError, InvalidOperation):
            return self._odd(steps, f"{text[:40]} is no number that we take", "write plain digits", "number")
        return self._odd(steps, f"the tag {node.tag} is not known", "remove the tag", "tag")

    def _odd(self, steps: Steps, reason: str, remedy: str, code: str) -> None:
        self.problems.append(Problem(path_of(steps), reason, remedy, code))


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT or len(text) > 40:
        raise ValueError(text)
    return number
