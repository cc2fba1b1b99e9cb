"""Two versions in figures: pairs of bars on one scale each, and nothing claimed of what nobody measured."""

from prompts.admin.comparison import VersionSide, compare_versions
from prompts.ports import CallNumbers
from prompts.statistics import RunNumbers


def side(version: str, calls: int, *, errors: int = 0, p95_ms: int = 0, runs: int = 0, failed: int = 0) -> VersionSide:
    numbers = CallNumbers(
        version=version,
        calls=calls,
        errors=errors,
        input_tokens=10 * calls,
        output_tokens=3 * calls,
        charged_nanousd=7 * calls,
        p50_ms=p95_ms // 2,
        p95_ms=p95_ms,
    )
    ran = RunNumbers(model="m", runs=runs, failed=failed, tokens=0, cost_nanousd=0, p50_ms=0, p95_ms=0)
    return VersionSide(calls=numbers, runs=(ran,) if runs else ())


def test_each_figure_is_a_pair_on_one_scale_with_the_change_of_the_new_one() -> None:
    old, new = side("1.0.0", 90, errors=9, p95_ms=400), side("1.1.0", 10, p95_ms=300)
    found = {figure.label: figure for figure in compare_versions(old, new)}
    latency = found["Latency, p95"]
    assert [(bar.version, bar.text, bar.width) for bar in latency.bars] == [
        ("1.0.0", "400 ms", 100),
        ("1.1.0", "300 ms", 75),
    ]
    assert latency.change == "-25 %"
    assert [bar.text for bar in found["Error rate"].bars] == ["10.0 %", "0.0 %"]
    assert found["Charged a call"].change == "the same"
    assert [bar.text for bar in found["Charged a call"].bars] == ["0.000000007 USD"] * 2


def test_what_nobody_called_or_tested_is_no_data_and_no_change() -> None:
    assert compare_versions(side("1.0.0", 0), side("1.1.0", 0)) == []
    figures = {f.label: f for f in compare_versions(side("1.0.0", 5, p95_ms=9), side("1.1.0", 0, runs=4, failed=1))}
    assert [bar.text for bar in figures["Latency, p95"].bars] == ["9 ms", "no data"]
    assert figures["Latency, p95"].change == ""
    assert [(bar.text, bar.width) for bar in figures["Test runs passed"].bars] == [("no data", 0), ("75 % of 4", 100)]
