"""Commands against a real server: what they print, and how they exit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.model import event as kinds
from orchestrator.model.documents import load_job
from orchestrator.ports.desk import Progress
from tests.cli.conftest import Run
from tests.served import Served

FILE = """
apiVersion: orchestrator.dev/v1alpha1
kind: TrainingJob
metadata: {name: digits}
spec: {run: {command: [python, train.py], package: {dir: .}}, maxRuntime: 12h, ceilingUsdPerGpuHour: 2.50}
"""


def submitted(cli: Run) -> str:
    return cli("run", "-d", "--", "python", "train.py").stdout.strip()


def test_run_follows_a_command_to_its_end(cli: Run, lively: Served) -> None:
    ran = cli("run", "--", "python", "train.py", "--epochs", "3")
    assert (ran.exit_code, ran.stdout) == (0, "step 1 loss 0.5\n")
    assert "submitted" in ran.stderr and "launching at oracle" in ran.stderr and "done at oracle" in ran.stderr
    document = json.loads(cli("jobs", "--json").stdout)[0]
    shown = json.loads(cli("job", document["id"], "--json").stdout)["document"]
    assert shown["spec"]["run"]["command"] == ["python", "train.py", "--epochs", "3"]


def test_for_a_program_the_answer_is_one_document_and_the_output_is_beside_it(cli: Run, lively: Served) -> None:
    Path("job.yaml").write_text(FILE)
    for asked in (("run", "--json", "--", "python", "train.py"), ("submit", "--follow", "--json", "-f", "job.yaml")):
        ran = cli(*asked)
        assert json.loads(ran.stdout)["state"] == "succeeded"
        assert "step 1 loss 0.5\n" in ran.stderr


def test_run_fails_when_the_job_fails(cli: Run, server: Served) -> None:
    job = submitted(cli)
    server.tell(lambda desk: desk.play(job, exit_code=3))
    assert cli("cancel", job, "--wait").exit_code == 0
    assert cli("logs", "-f", job).stdout == "step 1 loss 0.5\n"
    shown = cli("job", job)
    assert "failed: user code failed" in shown.stdout and "$1.30" in shown.stdout


def test_run_takes_a_range_of_workers(cli: Run, server: Served) -> None:
    job = cli("run", "-d", "--workers", "2:8", "--gpus", "1", "--", "python", "train.py").stdout.strip()
    shown = json.loads(cli("job", job, "--json").stdout)["document"]["spec"]["workers"]
    assert shown["count"] == {"min": 2, "max": 8}
    assert "2 to 8 worker(s) x 1 GPU: python train.py" in cli("job", job).stdout
    wrong = cli("run", "-d", "--workers", "2-8", "--", "python", "train.py")
    assert wrong.exit_code == 2 and "'2-8' is no number of workers" in wrong.stderr


def test_run_may_be_divided(cli: Run, server: Served) -> None:
    job = cli("run", "-d", "--workers", "8", "--divisible", "--", "python", "train.py").stdout.strip()
    assert json.loads(cli("job", job, "--json").stdout)["document"]["spec"]["divisible"] is True
    one = cli("run", "-d", "--divisible", "--", "python", "train.py")
    assert one.exit_code != 0 and "one worker is one piece" in one.stderr


def test_run_describes_the_workers(cli: Run, server: Served) -> None:
    asked = "run -d --gpus 4 --workers 2 --memory 32Gi --accelerator H100 --accelerator A100 --max-runtime 12h"
    more = ["--ceiling", "2.50", "--env", "LR=0.1", "--name", "digits", "--class", "research", "--spot"]
    ran = cli(*asked.split(), *more, "--", "python", "train.py")
    spec = json.loads(cli("job", ran.stdout.strip(), "--json").stdout)["document"]["spec"]
    assert spec["workers"] == {
        "accelerator": ["H100", "A100"], "count": 2, "cpus": 1, "gpus": 4, "memory": 32 * 2**30,
    }  # fmt: skip
    told = (spec["class"], spec["ceilingUsdPerGpuHour"], spec["run"]["environment"], spec["spot"])
    assert told == ("research", 2_500_000, {"LR": "0.1"}, True)


def test_without_a_server_nothing_is_started(cli: Run, home: Path) -> None:
    ran = cli("run", "--", "python", "train.py")
    assert ran.exit_code == 5 and "orchestrator serve" in ran.stderr
    assert list(home.iterdir()) == []


def test_everything_wrong_is_said_at_once(cli: Run, server: Served, tmp_path: Path) -> None:
    ran = cli("run", "--memory", "3 bags", "--max-runtime", "long", "--accelerator", "H100", "--", "python", "t.py")
    assert ran.exit_code == 4
    assert all(field in ran.stderr for field in ("spec.workers.memory", "spec.maxRuntime"))
    (tmp_path / "job.yaml").write_text(FILE.replace("maxRuntime", "maxRuntim"))
    ran = cli("submit", "-f", str(tmp_path / "job.yaml"))
    assert ran.exit_code == 4 and "Did you mean maxRuntime?" in ran.stderr
    assert json.loads(cli("jobs", "--json").stdout) == []


def test_what_is_not_honoured_yet_exits_3(cli: Run, server: Served, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(FILE.replace("maxRuntime", "retries: 3, maxRuntime"))
    ran = cli("submit", "-f", str(tmp_path / "job.yaml"))
    assert ran.exit_code == 3 and "spec.retries" in ran.stderr


def test_a_file_is_submitted_once_under_its_key(cli: Run, server: Served, tmp_path: Path) -> None:
    (tmp_path / "code" / "job.yaml").write_text(FILE)
    ids = {cli("submit", "-f", str(tmp_path / "code" / "job.yaml"), "--key", "k").stdout for _ in range(2)}
    assert len(ids) == 1
    (tmp_path / "code" / "job.yaml").write_text(FILE.replace("12h", "13h"))
    assert cli("submit", "-f", str(tmp_path / "code" / "job.yaml"), "--key", "k").exit_code == 4


def test_pack_prints_the_digest_of_a_folder(cli: Run, server: Served, tmp_path: Path) -> None:
    said = cli("pack", str(tmp_path / "code"), "--project", "team-a").stdout.strip()
    assert said.startswith("sha256:") and server.store.list("team-a/packages")[0].endswith(f"{said[7:]}.zip")
    assert cli("pack").exit_code == 2


def test_pack_prints_a_job_that_can_be_submitted(cli: Run, server: Served, tmp_path: Path) -> None:
    (tmp_path / "code" / "job.yaml").write_text(FILE)
    packed = load_job(cli("pack", "-f", str(tmp_path / "code" / "job.yaml")).stdout)
    assert packed.spec.run.package.digest.startswith("sha256:") and packed.spec.max_runtime == 43_200_000


def test_a_folder_that_is_not_there_is_a_fault_of_the_document(cli: Run, server: Served, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(FILE.replace("dir: .", "dir: nowhere"))
    ran = cli("submit", "-f", str(tmp_path / "job.yaml"))
    assert ran.exit_code == 4 and "job.yaml is refused" in ran.stderr
    assert "spec.run.package.dir: " in ran.stderr and "nowhere is not a folder. Name the one that" in ran.stderr


def test_a_secret_left_out_is_told(cli: Run, server: Served, tmp_path: Path) -> None:
    (tmp_path / "code" / ".env").write_text("KEY=1")
    assert "left out .env" in cli("run", "-d", "--", "python", "train.py").stderr


def test_listings_are_tables_and_json(cli: Run, server: Served) -> None:
    assert "no jobs" in cli("jobs").stdout
    job = submitted(cli)
    server.tell(lambda desk: desk.play(job))
    assert re.search(rf"{job}.*succeeded.*oracle", cli("jobs").stdout)
    assert re.search(r"o1 +azure +msft/rofr +declined +capacity", cli("offers", job).stdout)
    assert "now: done" in cli("explain", job).stdout
    for command in (
        ["jobs"],
        ["job", job],
        ["offers", job],
        ["explain", job],
        ["providers"],
        ["providers", "list"],
        ["providers", "check"],
    ):
        assert json.loads(cli(*command, "--json").stdout)


def test_into_a_pipe_a_row_is_a_line(cli: Run, lively: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    name = "a-name-as-long-as-a-whole-terminal-is-wide-or-nearly-so-one-day"
    job = cli("run", "-d", "--name", name, "--", "python", "train.py").stdout.strip()
    assert re.search(rf"{job} +{name} +default ", cli("jobs").stdout)
    assert re.search(r"offered to azure.*\n.*azure declined.*\n", cli("explain", job).stdout)


def test_a_life_has_dates_and_a_job_its_command(cli: Run, lively: Served) -> None:
    job = cli("run", "-d", "--gpus", "4", "--accelerator", "H100", "--", "python", "train.py", "a b").stdout.strip()
    assert re.match(r"\d{4}-\d\d-\d\d UTC\n\d\d:\d\d:\d\d  submitted", cli("explain", job).stdout)
    assert "1 worker(s) x 4 H100: python train.py 'a b'" in cli("job", job).stdout


def test_a_picture_that_cannot_be_written_is_named(cli: Run, lively: Served) -> None:
    ran = cli("job", submitted(cli), "--timeline", "/nowhere/life.svg")
    assert ran.exit_code == 2 and "/nowhere/life.svg cannot be written" in ran.stderr


def test_a_listing_that_was_cut_says_so(cli: Run, server: Served) -> None:
    submitted(cli)
    assert "the newest 1; --limit shows more" in cli("jobs", "--limit", "1").stderr
    assert cli("jobs", "--state", "banana").exit_code == 2
    assert "no such jobs" in cli("jobs", "--state", "held").stdout


def test_names_from_outside_cannot_move_the_terminal(cli: Run, server: Served) -> None:
    job = submitted(cli)
    evil = kinds.OfferAnswered(n=1, accepted=False, reason="error", detail="\x1b[2J[bold]gone")
    opened = kinds.OfferOpened(
        n=1, provider="azure", episode=1, round=1, contract=1, providers=1, terms="0", window=1_000_000
    )
    server.tell(lambda desk: desk.tell(job, opened, kinds.OfferDelivered(n=1, ref="", sent="0"), evil))
    told = cli("explain", job).stdout
    assert "\x1b" not in told and "[bold]gone" in told


def test_a_held_job_is_resumed(cli: Run, server: Served) -> None:
    job = submitted(cli)
    refused = cli("resume", job)
    assert refused.exit_code == 4 and "not held" in refused.stderr
    server.tell(lambda desk: desk.tell(job, kinds.Held(reason="over_ceiling")))
    assert cli("resume", job).exit_code == 0


def test_a_job_is_scaled(cli: Run, server: Served) -> None:
    job = submitted(cli)
    assert cli("scale", job, "--workers", "4:8").exit_code == 0
    assert "4 to 8 worker(s)" in cli("job", job).stdout
    told = cli("scale", job, "--workers", "4:8")
    assert "nothing was changed" in told.stderr and not told.stdout
    shown = json.loads(cli("scale", job, "--workers", "6", "--json").stdout)
    assert shown == json.loads(cli("job", job, "--json").stdout) and shown["workers"] == 6


def test_a_wish_is_shown_as_the_job_is(cli: Run, server: Served) -> None:
    job = submitted(cli)
    server.tell(lambda desk: desk.play_on(job))
    server.tell(lambda desk: desk.report(job, Progress(epoch=1, step=7)))
    for wish in (("scale", job, "--workers", "4"), ("cancel", job)):
        shown = json.loads(cli(*wish, "--json").stdout)
        assert shown["progress"] and shown == json.loads(cli("job", job, "--json").stdout)


@pytest.mark.parametrize("size", ["many", "0", "-1", "0:2", "2:1", "100001", "4:100001", ""])
def test_what_is_no_size_is_said_in_one_sentence(cli: Run, server: Served, size: str) -> None:
    told = cli("scale", submitted(cli), "--workers", size)
    said = " ".join(re.sub(r"[│\n ]+", " ", told.stderr).split())
    sentence = f"{size!r} is no number of workers; give a number from 1 to 100000, or a range of them, least first"
    assert (told.exit_code, sentence in said) == (2, True), told.stderr


def test_a_running_job_is_scaled_once_it_has_stopped(cli: Run, server: Served) -> None:
    job = submitted(cli)
    server.tell(lambda desk: desk.play_on(job))
    server.desk.noticed[job] = ["zeus is asked first"]
    told = cli("scale", job, "--workers", "2:3")
    words = "what is under way is asked to save and stop; then it is to have 2 to 3 workers"
    assert words in told.stderr and "zeus is asked first" in told.stderr and not told.stdout
    assert words in cli("job", job).stdout


def test_an_unknown_job_is_the_callers_fault(cli: Run, server: Served) -> None:
    ran = cli("job", "nonsense")
    assert ran.exit_code == 2 and "orchestrator jobs" in ran.stderr


def test_a_wrong_token_exits_6(cli: Run, server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", server.url)
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", "x" * 40)
    assert cli("jobs").exit_code == 6


def test_a_timeline_is_drawn(cli: Run, server: Served, tmp_path: Path) -> None:
    job = submitted(cli)
    server.tell(lambda desk: desk.play(job))
    assert cli("job", job, "--timeline", str(tmp_path / "life.svg")).exit_code == 0
    assert (tmp_path / "life.svg").read_text().startswith("<svg")


def test_providers_check_fails_where_something_is_missing(cli: Run, server: Served) -> None:
    assert "azure" in cli("providers").stdout
    ran = cli("providers", "check")
    assert ran.exit_code == 1 and "set ORACLE_KEY" in ran.stdout


def test_doctor_names_what_is_wrong(cli: Run, server: Served) -> None:
    ran = cli("doctor")
    assert ran.exit_code == 1 and "set ORACLE_KEY" in ran.stdout and server.url in ran.stdout


def test_doctor_does_not_send_to_the_doctor(cli: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ORCHESTRATOR_TOKEN", "t" * 43)
    ran = cli("doctor")
    assert ran.exit_code == 1 and "Start it: `orchestrator serve`" in ran.stdout and "doctor" not in ran.stdout


def test_a_store_that_is_gone_is_told_by_doctor_and_by_logs(cli: Run, server: Served) -> None:
    job = cli("run", "-d", "--", "true").stdout.strip()
    assert cli("logs", job).exit_code == 0
    server.tell(lambda desk: desk.stores.update(main=("the disk is gone; put it back",)))
    told = cli("doctor")
    assert "store main" in told.stdout and "the disk is gone; put it back" in told.stdout
    logs = cli("logs", job)
    assert logs.exit_code == 5 and "the disk is gone" in logs.output


def test_output_is_told_line_by_line_to_a_program(cli: Run, server: Served) -> None:
    job = cli("run", "-d", "--", "true").stdout.strip()
    server.tell(lambda desk: (desk.play(job), desk.say(job, b'step 2 "half\nline\nlast')))
    told = [json.loads(line) for line in cli("logs", job, "--json").stdout.splitlines()]
    assert told == [{"line": text} for text in ("step 1 loss 0.5", 'step 2 "half', "line", "last")]


def test_what_there_is_to_know_of_a_job_is_said_when_it_is_submitted_and_looked_at(cli: Run, server: Served) -> None:
    async def noticed(_: object) -> list[str]:
        return ["spec.residency `mars`: it limits nothing"]

    server.tell(lambda desk: setattr(desk, "notices", noticed))
    made = cli("run", "-d", "--residency", "mars", "--", "true")
    job = made.stdout.split()[0]
    for said in (made, cli("job", job), cli("explain", job)):
        assert "note: spec.residency `mars`: it limits nothing" in said.output
    assert "note:" not in cli("run", "-d", "--", "true").output


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            ["python", "p.py", "--pause", "3"],
            2,
            "--pause; if it is your command's, put `--` before that",
        ),
        (["-e", "=x", "--", "true"], 2, "'=x' is not NAME=VALUE"),
        (["--dir", "empty", "--", "true"], 2, "--no-package, or folder=None"),
    ],
)
def test_what_is_commonly_mistaken_is_told_with_its_remedy(
    cli: Run, server: Served, arguments: list[str], code: int, told: str
) -> None:
    Path("empty").mkdir()
    ran = cli("run", "-d", *arguments)
    assert ran.exit_code == code and told in " ".join(ran.output.replace("│", " ").split())


def test_a_job_is_read_from_standard_input(home: Path, server: Served) -> None:
    job = "apiVersion: orchestrator.dev/v1alpha1\nkind: TrainingJob\nspec: {run: {command: [true-ish]}}\n"
    ran = CliRunner().invoke(app, ["submit", "-f", "-"], input=job)
    assert ran.exit_code == 0 and len(server.tell(lambda desk: desk._rows)) == 1
    wrong = CliRunner().invoke(app, ["submit", "-f", "-"], input="kind: [")
    assert wrong.exit_code == 4 and "standard input" in wrong.output
    assert CliRunner().invoke(app, ["submit", "-f", "nowhere.yaml"]).exit_code == 2


@pytest.mark.parametrize("split", [False, True])
def test_ctrl_c_detaches_and_the_job_goes_on(server: Served, cli: Run, split: bool) -> None:
    """Of one that was split meanwhile, what was left of it is named too."""
    rest = cli("run", "-d", "--no-package", "--", "python").stdout.strip() if split else ""
    command = [sys.executable, "-m", "orchestrator.cli.main", "run", "--", "python", "train.py"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        assert process.stderr is not None
        while "submitted\n" not in (line := process.stderr.readline()):
            assert line
        job = line.split()[1]
        server.tell(lambda desk: desk._rows.update({job: replace(desk._rows[job], rest=rest)}))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    going = [job, rest] if split else [job]
    assert process.returncode == 130
    assert re.findall("orchestrator cancel (.*)", said) == re.findall("orchestrator logs -f (.*)", said) == going
    assert not any(job.cancel_asked for job in server.desk._rows.values())


@pytest.mark.parametrize(
    "command", ["", "run", "submit", "jobs", "job", "logs", "explain", "offers", "cancel", "serve", "doctor"]
)
def test_help_has_examples_or_says_what_it_is(cli: Run, command: str) -> None:
    ran = cli(*command.split(), "--help")
    assert ran.exit_code == 0 and "Usage" in ran.stdout


def test_the_help_of_serve_shows_every_setting(cli: Run) -> None:
    from orchestrator.settings import describe

    shown = cli("serve", "--help").stdout
    assert all(name in shown for name, _, _ in describe())
