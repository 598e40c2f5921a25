"""Figures as SVG text that follows the page: transparent, text and axes in `currentColor`, lines in CSS variables.

The text is the same, byte for byte, each time the same figure is written. Line k of the palette becomes
`var(--line-k, <colour for white pages>)`; `css()` defines these variables for light and for dark pages.
"""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from .style import COLOURED, DARK, GREY, LIGHT, line

FONTS = 'system-ui, "DejaVu Sans", sans-serif'
LIGHT_PAGE, DARK_PAGE = ("#16181d", "#ffffff"), ("#e8e9ec", "#14161a")  # text and background


def svg(figure: Figure, description: str) -> str:
    """A figure as one SVG document that follows the reader's light or dark setting, for a README or a web page.

    `description` is what a reader who cannot see the figure is told. Assumes a figure drawn on matplotlib's light
    defaults (black text), as the functions of this package do.

    >>> from matplotlib.figure import Figure
    >>> text = svg(Figure(), "an empty figure")
    >>> text.startswith("<svg"), 'aria-label="an empty figure"' in text
    (True, True)
    """
    text = _themed(figure, description)
    theme = f"<style>{css('svg')}</style>"
    return re.sub(r"(<svg[^>]*>)", lambda match: match[1] + theme, text, count=1)


def inline_svg(figure: Figure, description: str, prefix: str) -> str:
    """A figure as an SVG element for a page that has `css()`; ids start with `prefix`, so figures never mix theirs."""
    text = _themed(figure, description)
    text = re.sub(r' (?:width|height)="[\d.]+pt"| xmlns(?::xlink)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    return re.sub(r'xlink:href="#', f'href="#{prefix}-', text)


def swatch(k: int) -> str:
    """A short piece of the k-th line (from 0) as inline SVG, for a table."""
    stroke, width = (f"var(--line-{k + 1})", 3) if k < COLOURED else (GREY, 1)
    style = line(k).get("linestyle", "-")
    dashes = "" if style == "-" else f' stroke-dasharray="{" ".join(f"{2.2 * d:g}" for d in style[1])}"'
    shape = f'<line x1="0" x2="30" y1="5" y2="5" stroke="{stroke}" stroke-width="{width}"{dashes}/>'
    return f'<svg width="30" height="10" aria-hidden="true">{shape}</svg>'


def css(selector: str) -> str:
    """The colours of text, page and lines as CSS variables on a selector, for light and for dark pages."""
    light, dark = (
        f"color: {text}; --page: {page}; " + " ".join(f"--line-{k}: {c};" for k, c in enumerate(lines, start=1))
        for (text, page), lines in ((LIGHT_PAGE, LIGHT), (DARK_PAGE, DARK))
    )
    return f"{selector} {{ {light} }}\n@media (prefers-color-scheme: dark) {{ {selector} {{ {dark} }} }}"


def _themed(figure: Figure, description: str) -> str:
    """SVG text without date, prologue and metadata, its colours replaced by those of the page."""
    buffer = io.StringIO()
    # text stays text (small, searchable, in the page's font); the salt makes the ids of clips and markers repeatable
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deeplinear"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r" font-family: [^;]*;", "", text)
    text = text.replace("#000000", "currentColor")
    for k, colour in enumerate(LIGHT, start=1):
        text = text.replace(colour, f"var(--line-{k}, {colour})")
    # matplotlib leaves black out of text and filled shapes, so they take the fill of the root
    root = f"fill: currentColor; font-family: {FONTS}; stroke-linejoin: round; stroke-linecap: butt"
    label = f'role="img" aria-label="{escape(description)}" style=\'{root}\''
    return text.replace("<svg", f"<svg {label}", 1)
