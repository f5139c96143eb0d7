"""Chapters that have run -> HTML pages, each complete in itself: no network, light and dark."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from convcore import __version__
from convcore.extras import import_markdown_it, import_pygments
from convcore.study.article.chapter import Chapter
from convcore.study.article.figures import Drawing, formula
from convcore.study.article.files import WHERE
from convcore.study.article.runner import Result

__all__ = ["chapter_page", "index_page"]

_FOLDER = Path(__file__).parent
_TITLE = "Deep learning for medical images, as something you can run"
_ABOUT = (
    "Every page here is a program: prose, code, and what the code gave when it ran on this machine. "
    "The subject is that of a series of articles from 2017, told in our own words, with today's tools; "
    "where the series was wrong, or Keras does something else, the chapter says so."
)
_GIVE = (
    "Some files are too large, or not ours to pass on. Put those that you have anywhere into a folder, under "
    "these names, and run <code>convcore study --article -o PAGES --data FOLDER</code>."
)


def chapter_page(
    chapter: Chapter,
    results: Sequence[Result],
    previous: Chapter | None = None,
    following: Chapter | None = None,
) -> str:
    """Return a chapter's page: prose, code and what the code gave, in order."""
    words = _Words()
    parts = []
    told: set[str] = set()
    for result in results:
        if result.cell.kind == "markdown":
            parts.append(words.html(result.cell.text))
        else:
            parts.append(_cell(result))
        if result.missing:
            parts.append(_missing(result.missing, words, told.issuperset(result.missing)))
            told.update(result.missing)
    content = "\n".join(parts).replace("<h1>", f'<h1><span class="number">{_number(chapter)}</span>', 1)
    navigation = '<a href="index.html">All chapters</a>'
    before = (
        f'<a rel="prev" href="{previous.name}.html">← {words.line(previous.title)}</a>' if previous else ""
    )
    after = (
        f'<a rel="next" href="{following.name}.html">{words.line(following.title)} →</a>' if following else ""
    )
    return _page(_plain(chapter.title), content, navigation, f"<span>{before}</span><span>{after}</span>")


def index_page(chapters: Sequence[tuple[Chapter, Sequence[Result]]]) -> str:
    """Return the page that lists the chapters, and what files each could not be given."""
    words = _Words()
    items = []
    wanted: set[str] = set()
    for chapter, results in chapters:
        files = sorted({name for result in results for name in result.missing})
        wanted.update(files)
        note = f'<p class="note">Left out, for want of a file: {_files(files)}</p>' if files else ""
        items.append(
            f'<li><a href="{chapter.name}.html">{int(chapter.name[:2])}. {words.line(chapter.title)}</a>'
            f"<p>{words.line(chapter.summary)}</p>{note}</li>"
        )
    content = f'<h1>{_TITLE}</h1>\n<p>{_ABOUT}</p>\n<ol class="chapters">\n{"".join(items)}\n</ol>'
    if wanted:
        content += f"\n<h2>What you can give</h2>\n<p>{_GIVE}</p>\n{_where(sorted(wanted), words)}"
    return _page(_TITLE, content, f"<span>convcore {__version__}</span>", "")


def _page(title: str, content: str, navigation: str, footer: str) -> str:
    return Template((_FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=(_FOLDER / "page.css").read_text(encoding="utf-8").rstrip(),
        navigation=navigation,
        content=content,
        footer=footer,
        version=__version__,
    )


def _number(chapter: Chapter) -> str:
    return f"Chapter {int(chapter.name[:2])}"


def _plain(markdown: str) -> str:
    return re.sub(r"[`*$]", "", markdown)


# ---- cells ----------------------------------------------------------------------------------------


def _cell(result: Result) -> str:
    parts = [_code(result.cell.text)]
    for text in (result.printed, result.value):
        if text.strip():
            parts.append(f'<pre class="out"><samp>{html.escape(text.rstrip())}</samp></pre>')
    parts += [_figure(drawing) for drawing in result.figures]
    return f'<div class="cell">{"".join(parts)}</div>'


def _figure(drawing: Drawing) -> str:
    label = html.escape(drawing.caption, quote=True)
    svg = drawing.svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return f"<figure>{svg}<figcaption>{html.escape(drawing.caption)}</figcaption></figure>"


def _missing(names: Sequence[str], words: _Words, told: bool) -> str:
    """Say what a cell lacks; at length the first time."""
    if told:
        return f'<p class="missing">Not run: this needs {_files(names)}, too.</p>'
    return (
        '<div class="missing"><p>Not run: this needs a file that is not part of convcore. Put it anywhere '
        f"into a folder and name the folder with <code>--data</code>.</p>{_where(names, words)}</div>"
    )


def _where(names: Sequence[str], words: _Words) -> str:
    """Say where files come from."""
    items = []
    for name in names:
        where = words.line(f", from {WHERE[name]}") if name in WHERE else ""
        items.append(f"<li><strong>{html.escape(name)}</strong>{where}</li>")
    return f"<ul>{''.join(items)}</ul>"


def _files(names: Sequence[str]) -> str:
    return ", ".join(f"<code>{html.escape(name)}</code>" for name in names)


def _code(text: str) -> str:
    """Highlight Python with four classes: more colours would say less."""
    import_pygments()
    from pygments.lexers.python import PythonLexer
    from pygments.token import Comment, Keyword, Number, Operator, String

    classes = [(Comment, "c"), (String, "s"), (Number, "m"), (Keyword, "k"), (Operator.Word, "k")]
    pieces = []
    for kind, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens(text):
        name = next((name for group, name in classes if kind in group), "")
        escaped = html.escape(value, quote=False)
        pieces.append(f'<span class="{name}">{escaped}</span>' if name else escaped)
    return f'<pre class="code"><code>{"".join(pieces)}</code></pre>'


# ---- prose ----------------------------------------------------------------------------------------


class _Words:
    """Markdown to HTML; formulas between dollar signs become drawings with their TeX as the text."""

    def __init__(self) -> None:
        markdown_it = import_markdown_it()
        self._markdown: Any = markdown_it.MarkdownIt("commonmark", {"html": False}).enable("table")
        self._markdown.inline.ruler.before("escape", "formula", _formula_rule)
        self._markdown.add_render_rule("formula", _formula_html)

    def html(self, text: str) -> str:
        """Render a cell."""
        page = str(self._markdown.render(text))
        page = page.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
        # A paragraph that is nothing but one formula stands by itself.
        return re.sub(
            r'<p>(<svg class="formula"[^>]*>(?:(?!</?p>).)*?</svg>)</p>', r'<p class="display">\1</p>', page
        )

    def line(self, text: str) -> str:
        """Render a title or a sentence, without a paragraph around it."""
        return str(self._markdown.renderInline(text))


_FORMULA = re.compile(r"\$\$?(?! )([^$]+?)(?<! )\$\$?")


def _formula_rule(state: Any, silent: bool) -> bool:
    found = _FORMULA.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = found[1]
    state.pos = found.end()
    return True


def _formula_html(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    tex = tokens[index].content
    drawn = formula(tex)
    label = html.escape(tex, quote=True)
    box = f"0 {-(drawn.height - drawn.depth):.3f} {drawn.width:.3f} {drawn.height:.3f}"
    return (
        f'<svg class="formula" role="img" aria-label="{label}" viewBox="{box}" '
        f'style="--w:{drawn.width:.3f}em;--h:{drawn.height:.3f}em;--d:{-drawn.depth:.3f}em">'
        f'<path d="{drawn.path}"/></svg>'
    )
