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

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": str(_ROOT / "examples"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"(demo|certify_on_a_cluster)\.py",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "within_subsection_order": "FileNameSortKey",
    "min_reported_time": 3600,
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


def complete_page(app, docname, source):
    """Fill in what a page takes from elsewhere in the repository."""
    if docname == "changelog":
        source[0] += changelog_as_rest((_ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if docname == "reproduction":
        source[0] = source[0].replace(".. the pages in docs/results are listed here", results())


def changelog_as_rest(text):
    """Return the Markdown change log as reST, without its title."""
    text = text.partition("\n")[2]
    text = re.sub(r"`([^`]+)`", r"``\1``", text)
    text = re.sub(r"\[([^\]]+)\]\((\S+?)\)", r"`\1 <\2>`__", text)
    for marks, line in (("###", "~"), ("##", "-")):
        heading = re.compile(rf"^{marks} (.+)$", re.MULTILINE)
        text = heading.sub(lambda match, line=line: f"{match[1]}\n{line * len(match[1])}", text)
    return text


def results():
    """Return a table of contents of the result pages, which may be none: benchmarks write them."""
    pages = sorted(page.stem for page in (_ROOT / "docs" / "results").glob("*.rst"))
    if not pages:
        return ""
    entries = "".join(f"   results/{page}\n" for page in pages)
    return f".. toctree::\n   :maxdepth: 1\n\n{entries}"


def escape_types(app, what, name, obj, options, lines):
    """Keep reST from reading ``(n_draws, *shape)`` and ``(n_features_in_,)`` as markup."""
    for number, line in enumerate(lines):
        if re.search(r"\bshape \(", line) and "`" not in line:
            lines[number] = re.sub(r"\*(?=\w)|(?<=\w)_(?=,)", r"\\\g<0>", line)


def skip_routing(app, what, name, obj, skip, options):
    """Leave out the methods that scikit-learn generates for metadata routing."""
    return True if re.fullmatch(r"(set_\w+_request)", name) else None


def setup(app):
    app.connect("source-read", complete_page)
    app.connect("autodoc-process-docstring", escape_types, priority=100)
    app.connect("autodoc-skip-member", skip_routing)
    # Pages are read anew when what they take from elsewhere has changed.
    app.connect("env-get-outdated", lambda *_: ["changelog", "reproduction"])
