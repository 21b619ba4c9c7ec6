"""The chart's schema refuses what the server would refuse at its start, and takes what the server takes."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest
import yaml
from obstore import parse_scheme
from obstore.exceptions import BaseError
from typer.testing import CliRunner

from orchestrator.cli.exits import Exit
from orchestrator.cli.main import app
from orchestrator.settings import BadSettings, Policy, Settings, describe, load
from tests.deploy.helm import CHART, VALUES, Doc, objects, one, template

SCHEMA = json.loads((CHART / "values.schema.json").read_text())["properties"]
SET_BY_THE_CHART = set(re.findall(r"ORCHESTRATOR_([A-Z_]+)", (CHART / "templates" / "deployment.yaml").read_text()))
OPEN = sorted({name.removeprefix("ORCHESTRATOR_") for name, _, _ in describe()} - SET_BY_THE_CHART)
"""Settings that the values name."""
FIELDS = chain(Settings.model_fields.values(), Policy.model_fields.values())
WORDS = {word for field in FIELDS for word in get_args(field.annotation) if isinstance(word, str)}
DURATIONS = {
    "0s", "1ms", "0999ms", "1000ms", "500ms", "10s", "15m", "12h", "1d", "1w", "1.5h", "-1s", "10 s", "10S", "never",
}  # fmt: skip
SIZES = {
    "1.5 GB", ".5MB", "256 KiB", "128MiB", "128Mi", "1m", "64 kb", "1e6", "12 bytes", "B", "MiB", "1,5 MB", "1 MB each",
}  # fmt: skip


def takes(part: Doc, word: str) -> bool:
    return word in part["enum"] if "enum" in part else bool(re.search(part["pattern"], word))


def starts(monkeypatch: pytest.MonkeyPatch, name: str, word: str) -> bool:
    """Would the server? Check and limit are judged together, so the other one is as lenient as can be."""
    for at, value in {"POLICY__CHECK": "1ms", "POLICY__LIMIT": "never", name: word}.items():
        monkeypatch.setenv(f"ORCHESTRATOR_{at}", value)
    try:
        load()
    except BadSettings:
        return False
    return True


@pytest.mark.parametrize("name", OPEN)
def test_a_setting_s_words_are_those_of_the_server(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (part,) = [part for known, part in SCHEMA["settings"]["patternProperties"].items() if re.search(known, name)]
    words = sorted(WORDS | DURATIONS | SIZES | {"", "0", "1", "5", "5x", "banana", "DEBUG"})
    assert len(WORDS) >= 9
    taken = [word for word in words if takes(part, word)]
    assert taken == [word for word in words if starts(monkeypatch, name, word)] != []


@pytest.mark.parametrize("url", [
    "file:///runs", "s3://runs/eu", "s3a://runs", "gs://runs", "az://box/eu", "adl://box/eu", "azure://box/eu",
    "abfs://box@a.dfs.core.windows.net/eu", "abfss://box/eu", "https://s3.eu-west-1.amazonaws.com/runs",
    "https://x.r2.cloudflarestorage.com/runs", "https://a.blob.core.windows.net/box",
    "http://foo", "https://foo/runs", "https://storage.googleapis.com/runs", "ftp://runs", "memory:///runs",
    "gcs://runs", "s3:///runs", "runs:eu",
])  # fmt: skip
def test_a_store_s_scheme_is_one_where_run_logs_can_live(url: str) -> None:
    try:
        lives = parse_scheme(url) in ("local", "s3", "gcs", "azure")
    except BaseError:
        lives = False
    assert takes(SCHEMA["store"]["properties"]["url"], url) == lives


@pytest.mark.helm
def test_amounts_are_those_of_kubernetes(tmp_path: Path) -> None:
    given: Doc = {"requests": {"cpu": 1.5, "memory": "2G", "ephemeral-storage": "10Gi", "nvidia.com/gpu": 1}}
    given["limits"] = {"cpu": "250m", "memory": "1.5Gi", "hugepages-2Mi": "64Mi"}
    (tmp_path / "amounts.yaml").write_text(yaml.safe_dump({"resources": given}))
    deployment = one(objects(template("least", "-f", str(tmp_path / "amounts.yaml"))), "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == given


@pytest.mark.parametrize(("seal", "code", "said"), [(4, Exit.OK, "ok"), ("many", Exit.REFUSED, "providers.here.seal")])
def test_documents_can_be_looked_at_beforehand(tmp_path: Path, seal: object, code: Exit, said: str) -> None:
    """As deploy/README.md says."""
    providers = yaml.safe_load((VALUES / "least.yaml").read_text())["providers"]["document"]
    (tmp_path / "providers.yaml").write_text(providers.replace("seal: 4", f"seal: {seal}"))
    done = CliRunner().invoke(app, ["providers", "check", str(tmp_path / "providers.yaml")])
    assert done.exit_code == code and said in done.output
