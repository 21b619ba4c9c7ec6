"""How does a pydantic document look as a structural schema, the kind that Kubernetes takes in CRDs? Pure.

Called by `crds`. What JSON schema can say and a structural schema cannot (unions, tuples, keys by pattern) is left to
admission, which asks the documents themselves: the schema lets more in, and less only where a list is absurdly long.
There are no defaults in it, because digests are of the fields that an author set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]
ANY: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_KEPT = ("type", "description", "enum", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems")
_NUMBERS = ("minimum", "maximum")
_DEEPEST = 2  # lists around a rule; deeper, the API server finds any rule too dear, and admission alone judges


def structural(kind: type[BaseModel], rules: Mapping[str, Sequence[Schema]], most: int) -> Schema:
    """The schema of a model and its parts; `rules` are CEL validations by the name of the part.

    `most`: items of a list that names no maximum, because the cost of rules is reckoned from it.
    """
    whole = kind.model_json_schema(by_alias=True)
    return _Walk(whole.get("$defs", {}), rules, most).of(whole | {"title": kind.__name__})


class _Walk:
    """One walk through a schema and what it refers to."""

    def __init__(self, parts: Mapping[str, Schema], rules: Mapping[str, Sequence[Schema]], most: int) -> None:
        self._parts, self._rules, self._most = parts, rules, most
        self._depth = 0

    def of(self, schema: Schema) -> Schema:
        schema = self._resolved(schema)
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            return self._union([self._resolved(option) for option in options], schema)
        found = {key: schema[key] for key in _KEPT if key in schema}
        if "const" in schema:
            found["enum"] = [schema["const"]]
        if found.get("type") in ("integer", "number"):
            found |= _bounds(schema)
        if found.get("type") == "integer":
            found["format"] = "int64"
        if found.get("type") == "array":
            found |= self._array(schema)
        if found.get("type") == "object":
            found |= self._object(schema)
        if (rules := self._rules.get(schema.get("title", ""))) and self._depth <= _DEEPEST:
            found["x-kubernetes-validations"] = list(rules)
        return found if "type" in found else ANY | found

    def _resolved(self, schema: Schema) -> Schema:
        """With its reference followed, and named after the part."""
        if "$ref" not in schema:
            return schema
        name = schema["$ref"].rpartition("/")[2]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {**self._parts[name], "title": name, **beside}

    def _array(self, schema: Schema) -> Schema:
        self._depth += 1
        items = self.of(schema["items"]) if isinstance(schema.get("items"), dict) else dict(ANY)
        self._depth -= 1
        return {"items": items, "maxItems": schema.get("maxItems", self._most)}

    def _object(self, schema: Schema) -> Schema:
        if properties := schema.get("properties"):
            found: Schema = {"properties": {name: self.of(part) for name, part in properties.items()}}
            return found | ({"required": schema["required"]} if schema.get("required") else {})
        values = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
        if not isinstance(values, dict) or not values:
            return dict(ANY)
        most = {"maxProperties": schema.get("maxProperties", self._most)}
        return {"additionalProperties": self.of(values), **most}

    def _union(self, options: Sequence[Schema], schema: Schema) -> Schema:
        real = [option for option in options if option.get("type") != "null"]
        beside = {"nullable": True} if len(real) < len(options) else {}
        if "description" in schema:
            beside |= {"description": schema["description"]}
        if len(real) == 1:
            return self.of(real[0]) | beside
        if "discriminator" in schema:
            return self._closed(real, schema["discriminator"]["propertyName"]) | beside
        if {option.get("type") for option in real} == {"integer", "string"}:
            pattern = {key: option[key] for option in real for key in ("pattern",) if key in option}
            return {"x-kubernetes-int-or-string": True, **pattern, **beside}
        return ANY | beside

    def _closed(self, options: Sequence[Schema], tag: str) -> Schema:
        """A closed union as one object of all its fields; rules say which field belongs to which member."""
        members = {option["properties"][tag]["const"]: self.of(option) for option in options}
        fields: dict[str, list[tuple[str, Schema]]] = {}
        for name, member in members.items():
            for field, part in member["properties"].items():
                fields.setdefault(field, []).append((name, part))
        properties = {field: _agreed([part for _, part in parts]) for field, parts in fields.items()}
        properties[tag] = {"type": "string", "enum": list(members)}
        common = set.intersection(*(set(member["required"]) for member in members.values()))
        return {
            "type": "object",
            "properties": properties,
            "required": sorted(common),
            "x-kubernetes-validations": list(_membership(tag, members, fields, properties)),
        }


def _bounds(schema: Schema) -> Schema:
    """Bounds as OpenAPI 3.0 writes them: exclusiveness is a flag."""
    found = {key: schema[key] for key in _NUMBERS if key in schema}
    if "exclusiveMinimum" in schema:
        found |= {"minimum": schema["exclusiveMinimum"], "exclusiveMinimum": True}
    return found


def _agreed(parts: Sequence[Schema]) -> Schema:
    """What all members say of a field; anything goes where they differ."""
    same = all(part == parts[0] for part in parts)
    return dict(parts[0]) if same else dict(ANY)


def _membership(
    tag: str, members: Mapping[str, Schema], fields: Mapping[str, list[tuple[str, Schema]]], properties: Schema
) -> Sequence[Schema]:
    """Rules: what a member must have, and what only some members may have."""
    rules = []
    for name, member in members.items():
        needed = [f for f in member["required"] if f != tag and len(fields[f]) < len(members) and _seen(properties[f])]
        if needed:
            has = " && ".join(f"has(self.{field})" for field in needed)
            rules.append({"rule": f"self.{tag} != '{name}' || ({has})", "message": f"{name} needs {_and(needed)}"})
    for field, parts in fields.items():
        if len(parts) < len(members) and _seen(properties[field]):
            names = [name for name, _ in parts]
            among = ", ".join(f"'{name}'" for name in names)
            rule = f"!has(self.{field}) || self.{tag} in [{among}]"
            rules.append({"rule": rule, "message": f"{field} belongs to {_and(names)} only"})
    return rules


def _seen(part: Schema) -> bool:
    """Whether CEL sees a field: only those with a type."""
    return "type" in part or "x-kubernetes-int-or-string" in part


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
