"""The settings of the documentation's site, which `make docs` builds with Sphinx."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

import siamfast

project = "siamfast"
author = "the siamfast authors"
copyright = "the siamfast authors; Apache License 2.0"
version = release = siamfast.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

default_role = "py:obj"  # the docstrings' `names`: a link where there is something to link to, else code
highlight_language = "none"
pygments_style, pygments_dark_style = "friendly", "monokai"
maximum_signature_line_length = 72

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Boxes", "Padding", "Places")}
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_param = False  # "scale, bias: numbers" documents two arguments in one line
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source", "Sources"]

html_theme = "furo"
html_title = f"siamfast {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}

# Pages at the root of the repository, and the pages of the site that show them.
_PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(#[^)\s]*)?\)")


def _keep_links_inside(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links out of docs/ lead to the page that shows the file, or become its name: the site has no other files."""
    folder = Path(app.env.doc2path(docname)).parent
    root = Path(app.srcdir).parent

    def replaced(link: re.Match[str]) -> str:
        text, target, anchor = link[1], (folder / link[2]).resolve(), link[3] or ""
        if target.is_relative_to(app.srcdir):
            return link[0]
        if not target.exists():
            raise FileNotFoundError(f"{docname}: link to {link[2]}, which is not there")
        name = target.relative_to(root).as_posix()
        if name in _PAGES:
            return f"[{text}]({os.path.relpath(Path(app.srcdir) / _PAGES[name], folder)}{anchor})"
        return f"`{name}`" if text.strip("`").endswith(name) else f"{text} (`{name}`)"

    source[0] = _LINK.sub(replaced, source[0])


def _link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """`siamfast.xcorr` in a page leads to its entry in the reference, where there is one."""
    entries = app.env.domains.python_domain.objects
    for literal in list(doctree.findall(nodes.literal)):
        entry = entries.get(literal.astext())
        if entry is None or isinstance(literal.parent, nodes.reference) or entry.docname == docname:
            continue
        address = app.builder.get_relative_uri(docname, entry.docname)
        link = nodes.reference("", "", internal=True, refuri=f"{address}#{entry.node_id}")
        literal.replace_self(link)
        link += literal


def _math(writer: Any, node: nodes.Element, display: str) -> None:
    """Equations as MathML, which browsers show by themselves, also without a network."""
    writer.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def _inline_math(writer: Any, node: nodes.Element) -> None:
    _math(writer, node, "inline")


def _block_math(writer: Any, node: nodes.Element) -> None:
    _math(writer, node, "block")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _keep_links_inside)
    app.connect("doctree-resolved", _link_names)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


html_math_renderer = "mathml"
