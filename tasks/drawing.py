"""Drawing: what all figures share, as SVG for pages and as PNG for the Prefect UI. A foundation.

SVGs take their colours from the page's CSS variables, so that one figure serves the light and the dark scheme, and
their text stays text. Equal input gives equal bytes. matplotlib is imported when the first figure is drawn. Not here:
any figure.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PIXELS = 72  # an inch of a figure is so many CSS pixels of the page
INK, MUTED, RULE, FIRST, SECOND = "#1c2127", "#59636e", "#dfe3e7", "#0d6f78", "#b5500b"
_VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", FIRST: "first", SECOND: "second"}
NO_NAMES: Any = {"Software": None}  # None keeps matplotlib's name and version out, which its stubs do not know
_STYLE: Any = {  # rcParams; its keys are a Literal of hundreds in the stubs
    "svg.fonttype": "none",
    "svg.hashsalt": "stepwise",
    "image.composite_image": False,
    "text.parse_math": False,  # a class may be called "$"
    "font.size": 12.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 4.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw in the project's style."""
    import matplotlib as mpl  # nobody who draws nothing waits for matplotlib

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # the browser has fonts for class names that matplotlib's own font lacks; PNGs check beforehand
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def new_figure(width: int, height: int) -> Figure:
    """An empty figure of so many CSS pixels."""
    from matplotlib.figure import Figure  # as above

    return Figure(figsize=(width / PIXELS, height / PIXELS), layout="constrained")


def as_png(figure: Figure) -> bytes:
    """A figure as PNG on white, at twice its size."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * PIXELS, facecolor="white", metadata=NO_NAMES)
    return buffer.getvalue()


def as_svg(figure: Figure, name: str, title: str, least: float = 0.0) -> str:
    """A figure as SVG to stand in a page.

    Args:
        figure: What was drawn.
        name: Its class, and the beginning of its ids.
        title: What it shows, for those who do not see it.
        least: The share of its width below which it is not shrunk.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r"<[^>]*>", lambda tag: _own_tag(tag[0], name, used), text)  # never what stands between tags
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)  # it would style the page
    text = re.sub(r"\s*\n\s*", " ", text)
    width, height = round(figure.get_figwidth() * PIXELS), round(figure.get_figheight() * PIXELS)
    opening = (
        f'<svg class="{name}" role="img" aria-label="{title}" viewBox="0 0 {width} {height}" stroke-linejoin="round" '
        f'style="max-width: {width}px; min-width: {round(least * width)}px" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"^<svg[^>]*>", opening, text).strip()


def _own_tag(tag: str, name: str, used: set[str]) -> str:
    """A tag in the page's own font and colours; ids are the figure's own, and only where something in it points."""
    tag = tag.replace(' id="mark"', ' class="mark"')
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var(--{variable}, {colour})")
    tag = re.sub(r"font-family: [^;\"]+;? ?", "", tag)
    tag = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", tag)
    return re.sub(r'(url\(|href=")#', rf"\1#{name}-", tag)


def data_uri(png: bytes) -> str:
    """A PNG as a data URI, for an image in HTML or markdown."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def picture_uris(pictures: NDArray[np.uint8]) -> list[str]:
    """(K, rows, columns) pictures as PNG data URIs, ink on paper."""
    from matplotlib.image import imsave  # nobody who draws nothing waits for matplotlib

    uris = []
    for picture in pictures:
        buffer = io.BytesIO()
        imsave(buffer, picture, cmap="gray_r", vmin=0, vmax=255, format="png", metadata=NO_NAMES)
        uris.append(data_uri(buffer.getvalue()))
    return uris


def grey(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures (K, ...) as uint8, each stretched between its own least and greatest value: 17 shades are seen too."""
    if not pictures.size:
        return pictures.astype(np.uint8)
    wide, each = pictures.astype(np.float64), tuple(range(1, pictures.ndim))
    low, high = wide.min(each, keepdims=True), wide.max(each, keepdims=True)
    shades: NDArray[np.uint8] = ((wide - low) / np.where(high > low, high - low, 1) * 255).astype(np.uint8)
    return np.where(high > low, shades, pictures) if pictures.dtype == np.uint8 else shades
