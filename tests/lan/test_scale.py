"""The figures of `make proof-lan`, in small."""

from __future__ import annotations

import pytest

from tests.lan.figures import Figure, meeting, one_host

pytestmark = [pytest.mark.lan, pytest.mark.usefixtures("namespaces")]


@pytest.mark.parametrize("measured", [1.0, 1.9, 2.1])
def test_a_figure_has_a_limit_and_some_slack(measured: float) -> None:
    figure = Figure(what="sample", value=measured, limit=1.0)
    assert figure.holds == (measured < 2.0)
    assert ("BEYOND" in str(figure)) != figure.holds


def test_many_hosts_meet_in_time_and_notice_who_is_killed() -> None:
    assert [str(figure) for figure in meeting(16, quiet=2.0) if not figure.holds] == []


def test_many_peers_that_start_at_once_on_one_host_meet() -> None:
    assert [str(figure) for figure in one_host(60) if not figure.holds] == []
