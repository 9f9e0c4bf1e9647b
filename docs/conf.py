"""Sphinx's settings of the site; `docs/build.py` lays out the pages that they are applied to."""

import os

from docutils import nodes
from math_core import LatexToMathML

project = "papers_lib"
author = copyright = "The papers_lib contributors"
# The only place that knows the repository's address, as owner/name: GitHub's runners set it. Without
# it a page has no links to Binder and Colab.
repository = os.environ.get("GITHUB_REPOSITORY", "")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "notebooks/index"
nb_execution_mode = "off"  # what is shown are the committed outputs
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
suppress_warnings = ["mystnb.unknown_mime_type"]
autodoc_typehints = "none"  # they stand in the signature
autodoc_member_order = "bysource"
default_role = "code"  # a single backtick of a docstring

html_theme = "furo"
html_title = "papers_lib"
html_static_path = ["site.css"]
html_favicon = "favicon.svg"
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"

ELSEWHERE = {
    "Binder": "https://mybinder.org/v2/gh/{0}/HEAD?urlpath=lab/tree/{1}.ipynb",
    "Colab": "https://colab.research.google.com/github/{0}/blob/HEAD/{1}.ipynb",
}


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("html-page-context", open_elsewhere)
    app.connect("html-page-context", level_captions, priority=900)  # after the theme


def inline_math(writer, node):
    """As `display_math`, within a line."""
    writer.body.append(LatexToMathML().convert_with_local_state(node.astext(), displaystyle=False))
    raise nodes.SkipNode


def display_math(writer, node):
    """Math as MathML, which a browser draws without a script; a faulty formula stops the build."""
    tex = node.astext()
    if r"\tag" in tex:  # its number needs an environment that has one
        tex = rf"\begin{{gather}}{tex}\end{{gather}}"
    mathml = LatexToMathML().convert_with_local_state(tex, displaystyle=True)
    writer.body.append(f'<div class="math" tabindex="0">{mathml}</div>\n')
    raise nodes.SkipNode


def open_elsewhere(app, page, template, context, doctree):
    """Above a chapter: where it can be opened without an installation."""
    if repository and page.startswith("notebooks/"):
        links = [
            f'<a href="{url.format(repository, page)}">Open in {name}</a>' for name, url in ELSEWHERE.items()
        ]
        context["body"] = f"<p>{' · '.join(links)}</p>{context['body']}"


def level_captions(app, page, template, context, doctree):
    """Sphinx gives the captions of its contents the role of a heading and no level."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')
