"""The small pieces of the HTML report, and the one way by which text from outside gets into it.

`text` is that way: it alone takes what was written elsewhere. The values of `facts` and the fields of `table` are HTML already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from html import escape

from stretto.core.states import Status
from stretto.reports import human
from stretto.reports.model import JobReport, format_time
from stretto.reports.terminal import SYMBOLS, plain


def text(raw: str) -> str:
    """Return a text from outside, harmless and escaped for element content and quoted attributes alike."""
    return escape(plain(raw))


def time(at: datetime | None, zone: tzinfo | None) -> str:
    """Return a time for people with the exact one for machines, `-` for None."""
    if at is None:
        return human.NOTHING
    return f'<time datetime="{format_time(at)}">{text(human.moment(at, zone))}</time>'


def symbol(status: Status, color: str | None = None) -> str:
    """Return a status as a symbol that a screen reader reads as a word."""
    return f'<span class="symbol {color or status}" role="img" aria-label="{status}">{SYMBOLS[status][0]}</span>'


def pill(status: Status, reason: str | None) -> str:
    """Return a status, with its reason, as a filled label."""
    return f'<span class="pill {status}">{SYMBOLS[status][0]} {status}{f": {text(reason)}" if reason else ""}</span>'


def color_of(job: JobReport) -> str:
    """Return the class that colours a job: its status, or `allowed` where it failed as it may."""
    return "allowed" if job.allow_failure and job.status is Status.FAILED else job.status.value


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return names and values as a list in columns; long ones get two."""
    items = []
    for name, value in pairs:
        wide = ' class="wide"' if name in ("Repository", "Message") else ""
        items.append(f"<div{wide}><dt>{name}</dt><dd>{value}</dd></div>")
    return f"<dl>{''.join(items)}</dl>"


def table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table that scrolls by itself where the page is too narrow; nothing where there are no rows."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = "".join("<tr>" + "".join(f"<td>{field}</td>" for field in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
