"""Which tokens does a fresh deployment have? Prints a Secret with new ones, for `kubectl apply -f -`.

It holds the tokens file of the server, and beside it each token by its name for whoever mounts or reads just one.
Called by people, once; the standard library only. Printed nowhere else, and kept nowhere.
"""

from __future__ import annotations

import argparse
import json
import secrets

SCOPES = {
    "owner": ["viewer", "submitter", "attester", "operator", "provider"],
    "controller": ["viewer", "submitter", "operator"],
    "viewer": ["viewer"],
}


TEAM = ["viewer", "submitter"]


def _team(text: str) -> tuple[str, list[str]]:
    name, _, projects = text.partition("=")
    if not name or not all(projects.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PROJECT[,PROJECT…], e.g. vision=team-a,team-b")
    return name, projects.split(",")


def _supplier(text: str) -> tuple[str, str]:
    name, _, provider = text.partition("=")
    if not name or not provider:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PROVIDER, e.g. azure-sales=azure")
    return name, provider


def main() -> None:
    """Print the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="orchestrator")
    parser.add_argument("--name", default="orchestrator-tokens")
    team = "also a token NAME that may read and submit in these projects (namespaces) only; may be repeated"
    parser.add_argument("--team", action="append", default=[], type=_team, metavar="NAME=PROJECT[,PROJECT…]", help=team)
    supplier = "also a token NAME by which people of this provider answer its offers by hand; may be repeated"
    parser.add_argument(
        "--supplier", action="append", default=[], type=_supplier, metavar="NAME=PROVIDER", help=supplier
    )
    asked = parser.parse_args()
    rows = [{"name": name, "token": secrets.token_urlsafe(32), "scopes": SCOPES[name]} for name in SCOPES]
    for name, projects in asked.team:
        rows.append({"name": name, "token": secrets.token_urlsafe(32), "scopes": TEAM, "projects": projects})
    for name, provider in asked.supplier:
        rows.append({"name": name, "token": secrets.token_urlsafe(32), "scopes": ["provider"], "provider": provider})
    tokens = {row["name"]: row["token"] for row in rows}
    if len(tokens) < len(rows):
        parser.error("two tokens have one name; name each team and supplier once, and none " + ", ".join(SCOPES))
    file = {"tokens": rows}
    metadata = {"name": asked.name, "namespace": asked.namespace}
    data = {"tokens.json": json.dumps(file, indent=2), **tokens}
    print(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}, indent=2))


if __name__ == "__main__":
    main()
