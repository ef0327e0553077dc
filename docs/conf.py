"""Build of the documentation: ``make docs``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import matplotlib

import randsmooth

os.environ.setdefault("OMP_NUM_THREADS", "1")
matplotlib.use("Agg")

_ROOT = Path(__file__).resolve().parent.parent

project = "randsmooth"
author = "the randsmooth developers"
project_copyright = f"2026, {author}"
version = release = randsmooth.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "**/README.txt"]
# Single backticks link where there is something to link to, and are code everywhere else.
default_role = "py:obj"
# The reproduction page lists whatever results are there, which may be none.
suppress_warnings = ["toc.empty_glob"]

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": str(_ROOT / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"demo\.py",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "min_reported_time": 0,
    "write_computation_times": False,
    "remove_config_comments": True,
    "capture_repr": (),
}

html_theme = "pydata_sphinx_theme"
html_title = f"randsmooth {version}"
html_static_path = ["_static"]
html_css_files = ["randsmooth.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "randsmooth"},
    "navbar_align": "left",
    "show_toc_level": 2,
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    page: [] for page in ("index", "getting_started", "what_a_certificate_says", "changelog")
}


def changelog_as_rest(app, docname, source):
    """Append the Markdown change log of the repository to its page, as reST."""
    if docname != "changelog":
        return
    text = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    text = text.partition("\n")[2]  # the page has a title of its own
    text = re.sub(r"\[([^\]]+)\]\((\S+?)\)", r"`\1 <\2>`__", text)
    text = re.sub(r"(?<![`\w])`([^`<]+)`(?!`|_)", r"``\1``", text)
    for marks, line in (("###", "~"), ("##", "-")):
        heading = re.compile(rf"^{marks} (.+)$", re.MULTILINE)
        text = heading.sub(lambda match, line=line: f"{match[1]}\n{line * len(match[1])}", text)
    source[0] += text


def setup(app):
    app.connect("source-read", changelog_as_rest)
    app.add_config_value("changelog", str(_ROOT / "CHANGELOG.md"), "env")
