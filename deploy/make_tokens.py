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
    "controller": ["viewer", "submitter"],
    "viewer": ["viewer"],
}


def main() -> None:
    """Print the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="orchestrator")
    parser.add_argument("--name", default="orchestrator-tokens")
    asked = parser.parse_args()
    tokens = {name: secrets.token_urlsafe(32) for name in SCOPES}
    file = {"tokens": [{"name": n, "token": t, "scopes": SCOPES[n]} for n, t in tokens.items()]}
    metadata = {"name": asked.name, "namespace": asked.namespace}
    data = {"tokens.json": json.dumps(file, indent=2), **tokens}
    print(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}, indent=2))


if __name__ == "__main__":
    main()
