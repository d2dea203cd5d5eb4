"""The options that every command has, made from the table in `zq.options`, and the peer that comes of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

import zq
from zq.cli.notes import note
from zq.options import OPTIONS

SETTLE = 5.0  # s until a command goes on with those who have answered; a peer that is found has 1 s to do so

ON_COMMAND_LINE = tuple(option for option in OPTIONS if option.on_command_line)


def setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags of all settings; the command gets `settings`, the arguments of `zq.Peer` that were given."""

    @functools.wraps(command)
    def with_settings(**parameters: Any) -> Any:
        given = {option.name: parameters.pop(option.name) for option in ON_COMMAND_LINE}
        settings = {
            option.name: given[option.name].split(",") if option.kind == "list" else given[option.name]
            for option in ON_COMMAND_LINE
            if given[option.name] is not None
        }
        return command(settings=settings, **parameters)

    decorated: Callable[..., Any] = with_settings
    for option in reversed(ON_COMMAND_LINE):
        text = f"{option.help[0].upper()}{option.help[1:]}. [{option.environment}; default: {option.otherwise}]"
        if option.kind == "flag":
            decorated = click.option(option.flag, option.name, is_flag=True, default=None, help=text)(decorated)
        else:
            metavar = "A,B,..." if option.kind == "list" else "TEXT"
            decorated = click.option(option.flag, option.name, metavar=metavar, help=text)(decorated)
    return decorated


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags of all settings; the command gets `peer`, not yet opened."""

    @functools.wraps(command)
    def with_peer(*, settings: dict[str, Any], **parameters: Any) -> Any:
        return command(peer=zq.Peer(**settings), **parameters)

    return setting_options(with_peer)


def settle(peer: zq.Peer) -> None:
    """Returns when everybody who can be found has told what it does, or has had its chance."""
    try:
        peer.settle(timeout=SETTLE)
    except zq.Timeout:
        note(f"discovery has not finished within {SETTLE:g} s; going on with those who have answered")
