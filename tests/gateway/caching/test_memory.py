from gateway.caching.entries import MAX_CACHED_BYTES, pack_answer, unpack_answer
from gateway.caching.memory import AnswerMemory
from tests.gateway.caching.answers import SECOND_US, make_answer

SIZE = make_answer().size_bytes


def test_the_least_used_goes_first_and_the_bound_holds() -> None:
    memory = AnswerMemory(limit_bytes=3 * SIZE)
    for key in (b"a", b"b", b"c"):
        memory.keep(key, make_answer())
    assert memory.find(b"a", 0) is not None
    memory.keep(b"d", make_answer())
    assert [memory.find(key, 0) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    assert (len(memory), memory.used_bytes) == (3, 3 * SIZE)


def test_what_is_over_is_forgotten_and_what_is_replaced_counts_once() -> None:
    memory = AnswerMemory(limit_bytes=10 * SIZE)
    memory.keep(b"a", make_answer())
    memory.keep(b"a", make_answer(body=b"longer than it was before"))
    assert memory.used_bytes == make_answer(body=b"longer than it was before").size_bytes
    assert memory.find(b"a", 60 * SECOND_US) is None
    assert (len(memory), memory.used_bytes) == (0, 0)


def test_nothing_is_kept_without_room_for_it() -> None:
    small, large = AnswerMemory(limit_bytes=0), AnswerMemory(limit_bytes=10 * MAX_CACHED_BYTES)
    small.keep(b"a", make_answer())
    large.keep(b"a", make_answer(body=b"x" * MAX_CACHED_BYTES))
    assert len(small) == len(large) == 0


def test_age_decides_for_each_reader() -> None:
    answer = make_answer()
    assert answer.is_fresh(30 * SECOND_US, 30)
    assert not answer.is_fresh(31 * SECOND_US, 30)
    assert not answer.is_fresh(60 * SECOND_US, 3_600)
    assert (answer.age_seconds(30 * SECOND_US), answer.age_seconds(-5 * SECOND_US)) == (30, 0)


def test_an_answer_survives_redis_whole() -> None:
    short, long = make_answer(body=b'{"a":\n1}'), make_answer(body=b"\n".join([b'{"choices":[]}'] * 1_000))
    for answer in (short, long):
        assert unpack_answer(pack_answer(answer)) == answer
    assert len(pack_answer(long)) < len(long.body)


def test_what_cannot_be_read_is_no_answer() -> None:
    packed = pack_answer(make_answer())
    for broken in (b"", b"\n", b"[]\n", packed.replace(b'"format":1', b'"format":2'), packed.replace(b"tokens", b"t")):
        assert unpack_answer(broken) is None
