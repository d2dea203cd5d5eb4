"""Parameters that several commands share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from zq.cli.render import Render, Template, json_line, raw

Command = Callable[..., Any]
SECONDS = click.FloatRange(min=0.0)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
every_line_is_json = click.option("--json", "every_line_is_json", is_flag=True, help="Every line is JSON.")


DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
SECONDS_IN = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def to_seconds(ctx: click.Context | None, param: click.Parameter | None, value: str | None) -> float | None:
    """A callback for `90s`, `10m`, `1.5h`, `7d`, `2w`."""
    if value is None:
        return None
    found = DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration; such as 90s, 10m, 1.5h, 7d or 2w", ctx, param)
    return float(found[1]) * SECONDS_IN[found[2]]


def to_position(ctx: click.Context | None, param: click.Parameter | None, value: str | None) -> Any:
    """A callback for where a subscription begins: `beginning`, `end`, `-10`, `10m`, `2026-11-24T10:00`."""
    if value is None or value in ("beginning", "end"):
        return value
    if re.fullmatch(r"-\d+", value):
        return int(value[1:])
    if DURATION.fullmatch(value):
        return timedelta(seconds=to_seconds(ctx, param, value) or 0.0)
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no position; say beginning, end, -10 (the last ten), 10m (so long ago: s, m, h, d, w) or "
            "2026-11-24T10:00",
            ctx,
            param,
        ) from None


def ending(command: Command) -> Command:
    """Adds `--count` and `--timeout`: when a receiving command ends by itself."""
    command = click.option(
        "--timeout",
        type=SECONDS,
        metavar="S",
        help="End after S seconds without a message; with 3 if fewer than N came.",
    )(command)
    return click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="End after N messages.")(command)


def rendering(default: Render) -> Callable[[Command], Command]:
    """Adds `--json`, `--raw` and `--format`; the command gets one function, `render`."""

    def decorate(command: Command) -> Command:
        @as_json
        @click.option("--raw", "as_is", is_flag=True, help="Text and bytes as they are.")
        @click.option("--format", "template", metavar="TEXT", help="Such as '{topic} {data[celsius]:.1f}'.")
        @functools.wraps(command)
        def with_render(*, as_json: bool, as_is: bool, template: str | None, **rest: Any) -> Any:
            return command(render=choose(default, as_json=as_json, as_is=as_is, template=template), **rest)

        return with_render

    return decorate


def choose(default: Render, *, as_json: bool, as_is: bool, template: str | None) -> Render:
    """The rendering that the flags ask for; a usage error if they contradict each other."""
    if as_json + as_is + (template is not None) > 1:
        raise click.UsageError("--json, --raw and --format exclude each other")
    if template is not None:
        try:
            return Template(template)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--format") from None
    return json_line if as_json else raw if as_is else default
