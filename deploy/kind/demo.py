"""`make kind-demo`: a cluster of kind's, KubeRay, the chart, and a job that two providers are asked about.

It makes the cluster `orchestrator-demo`, builds and loads three images, installs KubeRay and the chart, submits the
example's job: team a has the first right and no GPU free, so it runs at b; there its RayJob is deleted by hand while
a's GPUs come free; a is asked first again and the job is resumed there. The cluster is deleted afterwards (--keep:
left). Exit codes: 0 done; 1 a step failed, and what it said; 2 something is missing, one line each with its remedy.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = ROOT / "deploy" / "kind"
NAME, CONTEXT, SPACE = "orchestrator-demo", "kind-orchestrator-demo", "orchestrator"
IMAGES = {
    "localhost/orchestrator:demo": ("deploy/Containerfile", "."),
    "localhost/digits-environment:demo": ("examples/kubernetes/Containerfile", "examples/kubernetes"),
    "localhost/demo-store:demo": ("deploy/kind/store.Containerfile", "deploy/kind"),
}
KUBERAY = ("https://ray-project.github.io/kuberay-helm/", "1.6.0")
GPUS = 4
"""That the node claims to have: a number, with no device behind it."""
REMEDIES = {
    "kind": "install it: https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "install it: https://kubernetes.io/docs/tasks/tools/",
    "helm": "install 3.12 or later: https://helm.sh/docs/intro/install/",
}
ENGINES = ("docker", "podman")
FAILED, MISSING = 1, 2


class StepFailed(Exception):
    """A command of the demo ended badly; holds what it said."""


def missing() -> list[str]:
    """What this machine lacks, one line each with the remedy."""
    lines = [f"{program}: not found; {remedy}" for program, remedy in REMEDIES.items() if not shutil.which(program)]
    if engine() is None:
        there = [name for name in ENGINES if shutil.which(name)]
        said = f"{there[0]} is installed, but does not answer `{there[0]} info`; start it" if there else (
            "none of docker and podman found; install one: https://docs.docker.com/engine/install/"
        )  # fmt: skip
        lines.append(f"container engine: {said}")
    return lines


def engine() -> str | None:
    """The container engine that answers; None: none does."""
    for name in ENGINES:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, timeout=60).returncode == 0:
            return name
    return None


def run(*command: str, stdin: str | None = None) -> str:
    """What a command prints. Raises StepFailed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise StepFailed(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def kubectl(*words: str, stdin: str | None = None) -> str:
    """At the demo's cluster."""
    return run("kubectl", "--context", CONTEXT, *words, stdin=stdin)


def say(line: str) -> None:
    """To whoever watches."""
    print(f"── {line}", flush=True)


# ---- steps -----------------------------------------------------------------------------------------------------------


def images(by: str, folder: Path) -> None:
    """Build them, and give them to the cluster."""
    for name, (file, context) in IMAGES.items():
        run(by, "build", "--tag", name, "--file", file, context)
    archive = folder / "images.tar"
    many = ["--multi-image-archive"] if by == "podman" else []
    run(by, "save", *many, "--output", str(archive), *IMAGES)
    run("kind", "load", "image-archive", str(archive), "--name", NAME)


def furnish() -> None:
    """GPUs, two teams, the store."""
    nodes = kubectl("get", "nodes", "-o", "name").split()
    capacity = json.dumps({"status": {"capacity": {"nvidia.com/gpu": str(GPUS)}}})
    for node in nodes[:1]:
        kubectl("patch", node, "--subresource=status", "--type=merge", "-p", capacity)
    kubectl("apply", "-f", str(HERE / "cluster.yaml"))
    kubectl("wait", "-n", "team-a", "pod/somebody-else", "--for=condition=Ready", "--timeout=180s")
    kubectl("rollout", "status", "-n", SPACE, "deployment/store", "--timeout=180s")
    bucket = "import urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:9000/runs', method='PUT'))"
    kubectl("exec", "-n", SPACE, "deployment/store", "--", "python", "-c", bucket)


def install() -> str:
    """KubeRay, then the server; the owner's token."""
    url, version = KUBERAY
    helm = ("helm", "--kube-context", CONTEXT, "upgrade", "--install", "--create-namespace", "--wait", "--timeout=300s")
    run(*helm, "kuberay-operator", "kuberay-operator", "--repo", url, "--version", version, "--namespace", "kuberay")
    secret = run(sys.executable, str(ROOT / "deploy" / "make_tokens.py"), "--namespace", SPACE)
    kubectl("apply", "-f", "-", stdin=secret)
    documents = [f"providers.document={HERE / 'providers.yaml'}"]
    documents.append(f"contracts.document={ROOT / 'examples' / 'kubernetes' / 'contracts.yaml'}")
    files = [word for document in documents for word in ("--set-file", document)]
    chart = str(ROOT / "helm" / "orchestrator")
    run(*helm, "orchestrator", chart, "--namespace", SPACE, "--values", str(HERE / "values.yaml"), *files)
    token: str = json.loads(secret)["stringData"]["owner"]
    return token


@contextmanager
def reached(token: str) -> Iterator[Mapping[str, str]]:
    """The environment in which the command line reaches the server, by a port that kubectl forwards."""
    command = ["kubectl", "--context", CONTEXT, "port-forward", "-n", SPACE, "service/orchestrator", ":7380"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            assert forward.stdout is not None, "it was asked for"
            line = forward.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if not found:
                raise StepFailed(f"kubectl port-forward: {line.strip()}")
            url = f"http://127.0.0.1:{found[1]}"
            yield {**os.environ, "ORCHESTRATOR_URL": url, "ORCHESTRATOR_TOKEN": token}
        finally:
            forward.terminate()


def make_cluster(play: Path, keep: bool) -> None:
    """Everything, from nothing to nothing."""
    by = engine() or ENGINES[0]
    if by == "podman":
        os.environ["KIND_EXPERIMENTAL_PROVIDER"] = "podman"
    folder = ROOT / ".kind-demo"
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    try:
        say(f"a cluster of kind's, by {by}")
        run("kind", "create", "cluster", "--name", NAME, "--wait", "180s")
        say("three images: ours, the user's, and an S3 server; built and loaded")
        images(by, folder)
        say("two teams, and a store; team a's GPUs are taken by somebody else")
        furnish()
        say("KubeRay and the server")
        token = install()
        with reached(token) as environment:
            say("a job")
            ended = subprocess.run([sys.executable, str(play), CONTEXT], env=environment, cwd=ROOT)
        if ended.returncode:
            raise StepFailed("the job did not end as it should; see above")
        say(f"done in {time.monotonic() - began:.0f} s")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if keep:
            say(f"the cluster is left: kubectl --context {CONTEXT} get pods -A; kind delete cluster --name {NAME}")
        else:
            subprocess.run(["kind", "delete", "cluster", "--name", NAME], capture_output=True)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the cluster")
    parser.add_argument("--play", type=Path, default=HERE / "play.py", help="what to run against the server instead")
    asked = parser.parse_args()
    if lacking := missing():
        print("the demo on kind cannot run here; missing:", *lacking, sep="\n  ", file=sys.stderr)
        return MISSING
    try:
        make_cluster(asked.play, asked.keep)
    except StepFailed as error:
        print(f"failed: {error}", file=sys.stderr)
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
