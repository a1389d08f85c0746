"""Claims are judged at the end of a session, from the store over the declared grid."""

import pytest

from tests.harness.toys import toys

CONFTEST = toys("toy")
CONFTEST += """
claims = (identical("weights_sha256", "fixed"), lower("perplexity", "better", than="worse"))
axes = {"model": ("toy",), "method": ("fixed", "better", "worse")}
register_study(Study("claimed", "?", axes, (1, 2, 3, 4), reads={"model": ""}, claims=claims))
"""

BODY = """
import pytest

MEANS = {"fixed": 5.0, "better": BETTER, "worse": 6.0}

@pytest.mark.study("claimed")
def test_claimed(cell, record):
    noise = 0.0 if cell.method == "fixed" else 0.01 * cell.seed
    record.update(perplexity=MEANS[cell.method] + noise)
    record.update(weights_sha256=f"{cell.method}-{SALT if cell.method == 'fixed' else cell.seed}")
"""


@pytest.fixture
def claimed(pytester):
    """Run the claimed study with a mean for ``better`` and a fixed or moving digest."""

    def run(*args: str, better: float = 5.0, salt: str = "'same'") -> pytest.RunResult:
        pytester.makeconftest(CONFTEST)
        body = BODY.replace("BETTER", str(better)).replace("SALT", salt)
        pytester.makepyfile(test_claimed=body)
        return pytester.runpytest_subprocess("test_claimed.py", *args)

    return run


@pytest.mark.parametrize("workers", ["0", "2"])
def test_held_claims_are_counted_and_the_session_passes(claimed, workers):
    result = claimed("-n", workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["claimed: 12 of 12 cells; claims: 2 held", "report: *index.html"])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_violated_determinism_claim_fails_the_session(claimed, workers):
    result = claimed("-n", workers, salt="cell.seed")
    result.assert_outcomes(passed=12)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*violated: fixed is bit-identical over seeds*"])


def test_a_violated_comparison_fails_only_with_strict_claims(claimed):
    result = claimed(better=7.0)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*violated: better has lower perplexity than worse*"])
    assert claimed("--strict-claims", better=7.0).ret == pytest.ExitCode.TESTS_FAILED


def test_what_matters_is_given_on_the_command_line_and_changes_no_cell(claimed):
    result = claimed("--strict-claims", "--margin=perplexity=30%", better=7.0)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*trivially different: better has lower perplexity than worse*", "*12 passed*"]
    )
    again = claimed("--strict-claims", "--margin", "perplexity=0.5", better=7.0)
    assert again.ret == pytest.ExitCode.TESTS_FAILED
    again.stdout.fnmatch_lines(["*violated: better has lower perplexity*", "*12 cached*"])


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        ("perplexty=1", "*unknown metric in --margin: 'perplexty'*Did you mean 'perplexity'*"),
        ("perplexity", "*--margin 'perplexity' cannot be read*"),
        ("perplexity=-1", "*the margin '-1' of perplexity cannot be read*"),
    ],
)
def test_a_margin_that_cannot_be_read_is_refused(claimed, margin, said):
    result = claimed(f"--margin={margin}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_the_missing_cells_of_a_selection_are_named_with_their_command(claimed):
    result = claimed("-k", "better")
    result.stdout.fnmatch_lines(
        ["claimed: 4 of 12 cells*", "*8 missing*", "*pytest test_claimed.py -m*"]
    )
    rest = claimed("-n", "2")
    rest.stdout.fnmatch_lines(["claimed: 12 of 12 cells; claims: 2 held", "*8 passed, 4 cached*"])


def test_a_method_of_ones_own_joins_a_study_by_one_line(claimed, pytester):
    claimed()
    conftest = CONFTEST + "\nfrom benchsuite.study import study\n"
    conftest += "register_study(study('claimed').with_methods('mine'))\n"
    pytester.makeconftest(conftest)
    source = (pytester.path / "test_claimed.py").read_text()
    pytester.makepyfile(test_claimed=source.replace('"worse": 6.0', '"worse": 6.0, "mine": 4.0'))
    result = pytester.runpytest_subprocess("test_claimed.py", "-k", "mine")
    result.assert_outcomes(passed=4, deselected=12)


def test_cells_that_measure_nothing_pass_and_are_named(pytester):
    pytester.makeconftest(CONFTEST.replace("claims=claims", "claims=()"))
    pytester.makepyfile(
        test_claimed="""
        import pytest

        @pytest.mark.study("claimed")
        def test_claimed(cell, record):
            if cell.method == "better":
                record.update(perplexty=5.0, steps=3)
            if cell.method == "worse":
                record.update(perplexity=6.0)
        """
    )

    told = pytester.runpytest_subprocess("test_claimed.py")

    told.assert_outcomes(passed=12)
    told.stdout.fnmatch_lines(
        [
            "  4 cells passed and recorded nothing: toy-fixed-seed1, * and 1 more",
            "  4 cells recorded none of what the study compares (perplexity): toy-better-seed1, *; "
            "the first holds perplexty, steps",
        ]
    )
    page = (pytester.path / "reports/index.html").read_text(encoding="utf-8")
    assert "4 cells passed and recorded nothing: toy-fixed-seed1" in page
