"""Pages: how the project's HTML pages are made from templates, and the look that they share. A foundation.

A page is one file that loads nothing: `page.css` and, for pages that are read from top to bottom, `columns.css` are put
into it. Not here: what a page says.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tasks.wording import beside, finalized, number, percent, seconds

if TYPE_CHECKING:
    from jinja2 import Template

LOOK: Final = Path(__file__).parent
STYLES: Final = tuple(sorted(LOOK.glob("*.css")))


@functools.cache
def template(path: Path) -> Template:
    """The template in a file, compiled once a process, which takes as long as drawing a figure.

    Whatever it shows is escaped, and what could deceive a reader is spelled out; a name that nobody gave is an error.
    It has the filters `percent`, `seconds`, `number` and `beside`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only where a page is made

    environment = Environment(
        loader=FileSystemLoader([path.parent, LOOK]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "seconds": seconds, "number": number, "beside": beside}
    return environment.get_template(path.name)
