"""A suite that did not run is counted, named and, where required, fails the run."""

import pytest

pytest_plugins = ["pytester"]

NEEDY = "import pytest\n@pytest.mark.ray\ndef test_a(): pass\ndef test_b(): pass\n"
MARKS = "[pytest]\nasyncio_default_fixture_loop_scope = function\nmarkers =\n  ray: r\n  heavy: h\n"


@pytest.fixture
def suite(
    pytester: pytest.Pytester, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    monkeypatch.delenv("REQUIRE", raising=False)  # what is required of the run around this one
    source = (request.config.rootpath / "tests" / "conftest.py").read_text()
    pytester.makeconftest(source.replace('find_spec("ray")', 'find_spec("no_such_module")'))
    pytester.makeini(MARKS)
    pytester.makepyfile(NEEDY)
    return pytester


def test_an_absent_need_is_one_line_and_not_a_pass(suite: pytest.Pytester) -> None:
    ran = suite.runpytest_inprocess("-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, skipped=1)
    ran.stdout.fnmatch_lines(["not run: 1 test · ray: pip install *"])
    assert ran.ret == 0


def test_a_required_need_that_is_absent_fails(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE", "ray")
    ran = suite.runpytest_inprocess("-p", "no:cacheprovider")
    ran.stdout.fnmatch_lines(["FAILED: ray was required and did not run"])
    assert ran.ret == 1


def test_what_takes_minutes_runs_only_when_asked(suite: pytest.Pytester) -> None:
    suite.makepyfile("import pytest\n@pytest.mark.heavy\ndef test_c(): pass\n")
    suite.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_c").assert_outcomes(skipped=1)
    suite.runpytest_inprocess("-p", "no:cacheprovider", "-k", "test_c", "--heavy").assert_outcomes(passed=1)
