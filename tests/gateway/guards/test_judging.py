"""What a judge is asked, and what its answers mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat.counting import count_text
from gateway.guards.checking import check_rule
from gateway.guards.combining import combine
from gateway.guards.errors import GuardRuleInvalid
from gateway.guards.judging import (
    Verdict,
    body_of_question,
    join_texts,
    read_verdict,
    room_for_text,
    split_text,
)
from gateway.guards.said import AnswerTexts
from gateway.guards.texts import Text
from gateway.guards.values import Judge, Surface
from tests.gateway.guards.rules import make_rule

JUDGE = Judge(model="small", instructions="Medical {advice}.", key_line_id=1, environment="live")
SECRET = b"secret"


def ask(text: str, secret: bytes = SECRET) -> tuple[str, str]:
    body = body_of_question(JUDGE, text, secret=secret, takes_sampling=True)
    system, user = body["messages"]
    return system["content"], user["content"]


def test_the_text_stands_between_marks_that_depend_on_it_and_on_a_secret() -> None:
    system, user = ask("hello")
    mark = user.split("\n")[0].strip("<>")
    assert user == f"<{mark}>\nhello\n</{mark}>"
    assert f"<{mark}>" in system
    assert "Medical {advice}." in system
    assert ask("hello") == (system, user)
    assert mark not in ask("hello.")[1]
    assert mark not in ask("hello", b"other")[1]


def test_a_model_that_chooses_its_own_sampling_is_not_told_a_temperature() -> None:
    asked = [body_of_question(JUDGE, "x", secret=SECRET, takes_sampling=takes) for takes in (True, False)]
    assert [body.get("temperature") for body in asked] == [0, None]


@pytest.mark.parametrize(
    ("output", "verdict"),
    [
        ({"violates": True, "reason": "so"}, Verdict(True, "so")),
        ({"violates": False, "reason": ""}, Verdict(False, "")),
        ({"violates": 1, "reason": "so"}, None),
        ({"reason": "so"}, None),
        ("true", None),
        (None, None),
    ],
)
def test_only_a_whole_verdict_is_one(output: object, verdict: Verdict | None) -> None:
    assert read_verdict(output) == verdict  # type: ignore[arg-type]


def test_one_text_is_told_as_it_is_and_several_with_their_places() -> None:
    one, two = Text(Surface.USER, "messages[0].content", "ab"), Text(Surface.TOOL, "messages[1].content", "cde")
    mail = Text(Surface.USER, "inputs.mail", "f")
    assert tuple(join_texts([one])) == ("messages[0].content", "ab", 2)
    assert tuple(join_texts([one, two])) == (
        "messages",
        "[messages[0].content, user]\nab\n\n[messages[1].content, tool]\ncde",
        5,
    )
    assert join_texts([one, mail]).place == "input"


@given(st.text(alphabet="ab \n漢", min_size=1, max_size=3_000), st.integers(200, 400))
def test_pieces_are_small_overlap_and_leave_nothing_out(text: str, most_tokens: int) -> None:
    pieces = list(split_text(text, most_tokens))
    assert all(count_text(piece) <= most_tokens for piece in pieces)
    rest, place = text, 0
    for piece in pieces:
        found = rest.find(piece)
        assert 0 <= found <= place
        place = found + len(piece)
    assert place == len(text)


def test_a_text_of_one_piece_is_not_cut() -> None:
    assert list(split_text("short", 200)) == ["short"]


@pytest.mark.parametrize(
    ("window", "percent", "room"), [(128_000, 100, 3_000), (2_000, 100, range(900, 1_200)), (1_000, 100, 0)]
)
def test_the_room_for_a_text_is_what_the_window_leaves(window: int, percent: int, room: int | range) -> None:
    found = room_for_text(JUDGE, window_tokens=window, estimate_percent=percent)
    assert found in room if isinstance(room, range) else found == room


def test_a_tokenizer_that_makes_more_tokens_leaves_less_room() -> None:
    narrow, wide = (room_for_text(JUDGE, window_tokens=3_000, estimate_percent=p) for p in (200, 100))
    assert 0 < narrow < wide


def test_a_judge_is_asked_about_the_surfaces_of_its_rule_and_scans_nothing() -> None:
    rule = make_rule("model", "block", judge=JUDGE, surfaces=frozenset({Surface.USER, Surface.ANSWER}))
    guard = combine((rule,))
    assert set(guard) == {Surface.USER, Surface.ANSWER}
    assert (guard[Surface.USER].scanner, guard[Surface.USER].judges) == (None, (rule,))


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"model": ""}, "judge_model"),
        ({"key_line_id": 0}, "judge_key"),
        ({"instructions": " "}, "instructions"),
        ({"instructions": "x" * 4_001}, "instructions"),
        ({"deadline_ms": 99}, "deadline_ms"),
        ({"deadline_ms": 10_001}, "deadline_ms"),
    ],
)
def test_a_judge_that_cannot_work_is_refused(changed: dict[str, object], param: str) -> None:
    check_rule(make_rule("model", "block", judge=JUDGE))
    with pytest.raises(GuardRuleInvalid) as caught:
        check_rule(make_rule("model", "block", judge=JUDGE._replace(**changed)))  # type: ignore[arg-type]
    assert caught.value.param == param


def test_a_stream_says_what_its_whole_answer_would() -> None:
    call = {"type": "function", "function": {"name": "send", "arguments": '{"to": 1}'}}
    whole, pieces = AnswerTexts(), AnswerTexts()
    whole.read_completion(
        {"choices": [{"index": 0, "message": {"content": "a b", "reasoning_content": "hm", "tool_calls": [call]}}]}
    )
    parts = [
        {"content": "a ", "reasoning_content": "h"},
        {"content": "b", "reasoning_content": "m"},
        {"tool_calls": [{"index": 0, "function": {"name": "send", "arguments": '{"to"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"content": None},
    ]
    for delta in parts:
        pieces.read_chunk({"choices": [{"index": 0, "delta": delta}]})
    assert whole.texts() == pieces.texts()
    assert [text.text for text in whole.texts()] == ["a b", "hm", 'send{"to": 1}']
