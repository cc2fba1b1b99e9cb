"""What reads lists counts, whatever it is that reads: the work of a template is bounded where no filter can say it."""

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prompts import engine
from prompts.counted_values import CountedList, CountedObject, Reads, count_reads
from prompts.engine import Messages, MessageSource
from prompts.errors import PromptRenderFailed, PromptTooLarge
from prompts.json_values import JsonObject, JsonValue

MEMBERS = 1_000
NUMBERS: JsonValue = list(range(MEMBERS))
NAMES: JsonValue = {f"k{number}": number for number in range(MEMBERS)}
ROWS: JsonValue = [[number] * 100 for number in range(MEMBERS // 100)]


def fill(source: str, inputs: JsonObject, *, input_bytes: int | None = None) -> str:
    messages = Messages((MessageSource(role="user", source=source, literals=frozenset()),))
    size = len(orjson.dumps(inputs)) if input_bytes is None else input_bytes
    (message,) = messages.render(inputs, input_bytes=size)
    return message.content


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda reads: monkeypatch.setattr(engine, "_MOST_READ", reads)


READERS: list[tuple[str, JsonValue, int]] = [
    ("'x' in a", NUMBERS, MEMBERS),
    ("'x' is in a", NUMBERS, MEMBERS),
    ("a|tojson|length", NUMBERS, MEMBERS),
    ("a|tojson|length", NAMES, 2 * MEMBERS),
    ("a|tojson|length", ROWS, MEMBERS),
    ("a|string|length", NUMBERS, MEMBERS),
    ("a|string|length", NAMES, MEMBERS),
    ("a|upper|length", ROWS, MEMBERS),
    ("(a ~ 'x')|length", NUMBERS, MEMBERS),
    ("a == b", NUMBERS, MEMBERS),
    ("a == b", NAMES, MEMBERS),
    ("a is eq b", ROWS, MEMBERS),
    ("a < b", NUMBERS, MEMBERS),
    ("a|list|list|last", NAMES, MEMBERS),
    ("a[1:]|list|last", NUMBERS, MEMBERS - 1),
    ("(a + a)|tojson|length", NUMBERS, 2 * MEMBERS),
    ("a|reverse|list|last", NUMBERS, MEMBERS),
    ("a|items|list|length", NAMES, MEMBERS),
    ("'x' in a|sort", NUMBERS, 2 * MEMBERS),
    ("'x' in a|unique", NUMBERS, 2 * MEMBERS),
    ("[a]|tojson|length", NUMBERS, MEMBERS),
]


@pytest.mark.parametrize(("reader", "value", "reads"), READERS)
def test_every_turn_of_a_loop_takes_what_it_reads(
    allow: Callable[[int], None], reader: str, value: JsonValue, reads: int
) -> None:
    turns = 10
    template = f"{{% for i in range({turns}) %}}{{% if {reader} %}}{{% endif %}}{{% endfor %}}"
    inputs: JsonObject = {"a": value, "b": copy.deepcopy(value)}
    allow(turns * reads - 1)
    with pytest.raises(PromptRenderFailed, match="lists are read too often"):
        fill(template, inputs)
    # What else it takes, to make one list of another and for the loop, is of the same size.
    allow(turns * 5 * reads)
    assert fill(template, inputs) == ""


@pytest.mark.parametrize(
    ("reader", "reads"),
    [
        ("'x' in range(1000)", MEMBERS),
        ("range(1000)|tojson|length", MEMBERS),
        ("range(1000)|length", MEMBERS),
        ("text|list|length", MEMBERS),
        ("text|split('x')|length", MEMBERS),
        ("text|split('')|length", MEMBERS),
        ("words|split|length", MEMBERS),
    ],
)
def test_lists_that_are_made_count_as_well(allow: Callable[[int], None], reader: str, reads: int) -> None:
    template = f"{{% for i in [1, 2, 3] %}}{{% if {reader} %}}{{% endif %}}{{% endfor %}}"
    inputs: JsonObject = {"text": "x" * MEMBERS, "words": "x " * MEMBERS}
    allow(3 * reads - 1)
    with pytest.raises(PromptRenderFailed, match="lists are read too often"):
        fill(template, inputs)
    allow(3 * 2 * reads + 3)
    assert fill(template, inputs) == ""


@pytest.mark.parametrize("reader", ["a|tojson|length", "'x' in a", "a == b", "a|string|length", "'x' in range(9999)"])
def test_a_hostile_loop_ends_after_the_last_read_and_one_more_list(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the engine has begun it reads to its end; what it begins after that is empty."""
    kept: list[Reads] = []

    class Kept(Reads):
        def __init__(self, left: int) -> None:
            super().__init__(left)
            kept.append(self)

    monkeypatch.setattr(engine, "Reads", Kept)
    monkeypatch.setattr(engine, "_MOST_READ", 10 * MEMBERS)
    value: JsonValue = list(range(MEMBERS))
    with pytest.raises(PromptRenderFailed):
        fill(
            f"{{% for i in range(5000) %}}{{% if {reader} %}}{{% endif %}}{{% endfor %}}",
            {"a": value, "b": copy.deepcopy(value)},
        )
    (reads,) = kept
    # Every one of the 5,000 turns would have taken as many as there were for all.
    assert -10 * MEMBERS < reads.left < 0


def test_what_a_template_usually_does_is_far_from_the_bound() -> None:
    orders: list[JsonValue] = [{"id": n, "name": f"thing {n}", "tags": ["new", "red"]} for n in range(500)]
    template = "{% for o in orders %}{% if o.id in seen and 'red' in o.tags %}{{ o.name }}\n{% endif %}{% endfor %}"
    filled = fill(template, {"orders": orders, "seen": list(range(0, 500, 2))})
    assert filled.count("\n") == 250
    assert filled.startswith("thing 0\nthing 2\n")


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{ ['abc'|list, m|list, a|list] }}", '[["a","b","c"],["x","y"],[1,"b"]]'),
        ("{{ 'a b  c '|split }}", '["a","b","c"]'),
        ("{{ 'abc'|split('') }}", '["","a","b","c",""]'),
        ("{{ 'a,b,c'|split(',', 1) }}", '["a","b,c"]'),
        ("{{ ' a  b c d'|split(none, 1) }}", '["a","b c d"]'),
        ("{{ [range(3)|list, range(5, 1, -1)|list, range(3, 1)|list, range(-3)|list] }}", "[[0,1,2],[5,4,3,2],[],[]]"),
        ("{{ range(3)[1] }}{{ range(3)|last }}{{ range(100000)|length }}", "12100000"),
        ("{% for n in range(3) %}{{ loop.length }}{{ n }} {% endfor %}", "30 31 32 "),
    ],
)
def test_what_makes_lists_gives_what_the_engines_own_does(template: str, filled: str) -> None:
    assert fill(template, {"m": {"x": 1, "y": 2}, "a": [1, "b"]}) == filled


@pytest.mark.parametrize(
    "template",
    [
        "{{ 5|list }}",
        "{{ 5|split }}",
        "{{ range(1, 5, 0) }}",
        "{{ range(100001) }}",
        "{{ range('3') }}",
        "{{ u|list }}",
    ],
)
def test_what_the_engines_own_refuses_is_refused(template: str) -> None:
    with pytest.raises(PromptRenderFailed):
        fill(template, {})


def test_texts_cannot_be_made_longer_in_every_turn() -> None:
    template = "{% for i in range(5000) %}{% if a|replace('a', 'bbbbbbbbbb')|length %}{% endif %}{% endfor %}"
    assert fill(template, {"a": "a" * 100}) == ""
    with pytest.raises(PromptRenderFailed, match="take it out of the loop"):
        fill(template, {"a": "a" * 10_000})


def test_an_expression_that_joins_a_long_text_over_and_over_has_little_fuel() -> None:
    joined = "~".join(["a"] * 100)
    template = f"{{% if ({joined})|length %}}x{{% endif %}}"
    assert fill(template, {"a": "a" * 1_000}) == "x"
    with pytest.raises(PromptRenderFailed):
        fill(template * 3, {"a": "a" * 900_000})
    # Few are as free as ever.
    assert fill("{{ (a ~ a ~ a ~ a)|length }}", {"a": "a" * 900_000}) == "3600000"


def test_no_python_object_comes_out_of_what_counts() -> None:
    inputs: JsonObject = {"a": NUMBERS, "b": NAMES}
    for source in ("{{ a.append }}", "{{ a._reads }}", "{{ a['_cost'] }}", "{{ b.keys }}", "{{ b['_reads'] }}"):
        with pytest.raises(PromptRenderFailed):
            fill(source, inputs)


def test_a_value_that_is_written_out_is_bounded_by_its_text_alone() -> None:
    assert fill("{{ a }}", {"a": NUMBERS}) == orjson.dumps(NUMBERS).decode()
    with pytest.raises(PromptTooLarge):
        fill("{% for i in range(5000) %}{{ a }}{% endfor %}", {"a": NUMBERS})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=50) | st.dictionaries(st.text(), inner, max_size=50),
    max_leaves=200,
)


@given(json_values)
def test_counting_changes_nothing_but_the_count(value: Any) -> None:
    before = copy.deepcopy(value)
    reads = Reads(1_000_000)
    counted = count_reads(value, reads)
    assert orjson.dumps(counted) == orjson.dumps(value) == orjson.dumps(before)
    assert counted == value
    assert repr(counted) == repr(value)
    if isinstance(counted, CountedList | CountedObject):
        before_reading = reads.left
        list(counted)
        assert before_reading - reads.left >= len(value)


def test_small_values_stay_as_they_are_and_what_they_are_in_pays_for_them() -> None:
    reads = Reads(1_000)
    few: JsonValue = {"id": 1, "tags": [1, 2]}
    assert count_reads(few, reads) is few
    counted = count_reads([few] * 100, reads)
    assert counted[7] is few
    assert reads.left == 1_000 - 5
