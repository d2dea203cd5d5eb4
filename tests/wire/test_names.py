"""Names and filters: what is refused, what matches, and that a subscriber asks for all it wants."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq import errors
from zq.wire.limits import NAME
from zq.wire.names import Filter, check_filter, check_name, check_queue

SEGMENTS = st.sampled_from(["a", "b", "ab", "x.y", "-", ":"])
TOPICS = st.lists(SEGMENTS, min_size=1, max_size=7).map("/".join)
FILTERS = st.lists(SEGMENTS | st.sampled_from(["*", "**", "**"]), min_size=1, max_size=7).map("/".join)


def matches_naively(wanted: list[str], topic: list[str]) -> bool:
    """The definition of a filter, as directly as it can be written."""
    if not wanted:
        return not topic
    if wanted[0] == "**":
        return any(matches_naively(wanted[1:], topic[skipped:]) for skipped in range(len(topic) + 1))
    return bool(topic) and wanted[0] in ("*", topic[0]) and matches_naively(wanted[1:], topic[1:])


@pytest.mark.parametrize("name", ["a", "A-Z/a_z:0.9", "sensors/kitchen", "x" * NAME, "a/" * 127 + "b"])
def test_good_names_come_back_as_they_are(name: str) -> None:
    assert check_name(name, "topic") is name
    assert check_queue(name) is name


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "at least one character"),
        ("a b", "' ' at position 1"),
        ("a/*", "'*' at position 2"),
        ("caf\u00e9", "'\u00e9' at position 3"),
        ("a\0", "'\\x00' at position 1"),
        ("a\n", "'\\n' at position 1"),
        ("/a", "an empty segment at position 0"),
        ("a/", "an empty segment at position 2"),
        ("a//b", "an empty segment at position 2"),
        ("/", "an empty segment at position 0"),
        ("x" * (NAME + 1), "256 characters; 255 are the limit"),
    ],
)
def test_bad_names_are_refused_with_the_reason_and_the_place(name: str, complaint: str) -> None:
    with pytest.raises(errors.Refused, match=re.escape(complaint)):
        check_name(name, "topic")
    with pytest.raises(ValueError, match="queue"):
        check_queue(name)


def test_a_name_of_another_type_is_refused() -> None:
    with pytest.raises(errors.Refused, match="a realm is named by a str, not by b'a'"):
        check_name(b"a", "realm")  # type: ignore[arg-type]
    with pytest.raises(errors.Refused, match="a filter is a str, not None"):
        check_filter(None)  # type: ignore[arg-type]


def test_one_cannot_push_to_a_dead_queue_but_pull_from_it() -> None:
    with pytest.raises(errors.Refused, match=r"reserved"):
        check_queue("jobs.dead")
    assert check_name("jobs.dead", "queue") == "jobs.dead"
    assert check_queue("jobs.dead/x") == "jobs.dead/x"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a/b*", "'b*' at position 2"),
        ("*a/**", "'*a' at position 0"),
        ("***", "'***' at position 0"),
        ("", "at least one character"),
        ("**//a", "an empty segment at position 3"),
        ("/**", "an empty segment at position 0"),
        ("a/?", "'?' at position 2"),
        ("**/" * 85 + "a", "256 characters"),
    ],
)
def test_bad_filters_are_refused_with_the_reason_and_the_place(text: str, complaint: str) -> None:
    with pytest.raises(errors.Refused, match=re.escape(complaint)):
        Filter(text)


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("a/b", (b"a/b\0",)),
        ("a/**", (b"a\0", b"a/")),
        ("a/**/**", (b"a\0", b"a/")),
        ("a/*/c", (b"a/",)),
        ("a/**/c", (b"a/",)),
        ("a/b/*", (b"a/b/",)),
        ("*/b", (b"",)),
        ("**", (b"",)),
        ("**/b", (b"",)),
    ],
)
def test_prefixes_are_as_few_and_as_long_as_possible(text: str, prefixes: tuple[bytes, ...]) -> None:
    assert Filter(text).prefixes() == prefixes


def test_filters_are_equal_and_hash_by_their_text() -> None:
    assert {Filter("a/**"), Filter("a/**"), Filter("a/*")} == {Filter("a/*"), Filter("a/**")}
    assert str(Filter("a/**")) == Filter("a/**").text == "a/**"


@given(FILTERS, TOPICS)
@settings(deadline=None)
def test_a_filter_matches_what_its_definition_says(text: str, topic: str) -> None:
    assert Filter(text).matches(topic) == matches_naively(text.split("/"), topic.split("/"))


@given(FILTERS, TOPICS)
@settings(deadline=None)
def test_every_match_begins_with_a_prefix(text: str, topic: str) -> None:
    if matches_naively(text.split("/"), topic.split("/")):
        assert (topic.encode() + b"\0").startswith(Filter(text).prefixes())


@given(TOPICS)
@settings(deadline=None)
def test_a_topic_as_filter_selects_itself_only(topic: str) -> None:
    assert Filter(topic).matches(topic)
    assert not Filter(topic).matches(topic + "/a")
    assert not Filter(topic).matches(topic + "a")


@pytest.mark.parametrize(
    "text", ["**/" * 80 + "x", "/".join(["**/a"] * 50) + "/**/b", "/".join(["**/*"] * 50) + "/**/b"]
)
def test_no_filter_is_slow(text: str) -> None:
    """A pattern with `.*` for `**` would not come back in a lifetime."""
    wanted, topic = Filter(text), "/".join(["a"] * 127)
    begun = time.process_time()
    assert not wanted.matches(topic)
    assert wanted.matches(topic[:-1] + text[-1])
    assert time.process_time() - begun < 0.1  # s; measured 0.0002
