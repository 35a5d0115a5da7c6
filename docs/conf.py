"""How Sphinx makes the site of these pages: `make docs`. Neither building nor reading it loads anything from the network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # the site is that of this checkout, not of an installed Heron

from heron.version import VERSION  # noqa: E402

project = "Heron"
author = copyright = "the authors of Heron"
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "mathml", "outside", "pictures", "plain_docstrings"]
exclude_patterns = ["_build", "_ext"]
root_doc = "index"

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 4
myst_dmath_allow_space = False
myst_dmath_allow_digits = False  # `$5` is money

smartquotes = False  # `--seed` is no dash

html_theme = "furo"
html_title = f"Heron {VERSION}"
html_static_path = ["_static"]
html_css_files = ["heron.css"]
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "mathml"
pygments_style = "tango"
pygments_dark_style = "a11y-high-contrast-dark"

python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
INNER = (
    "Function", "Finished", "Sheet", "LoraRequest", "Seat", "Policy", "OpenSession", "EnvironmentConfig", "Lines", "Evaluation",
    r"environments\.tools\.Outcome",
)
nitpick_ignore_regex = [
    ("py:.*", r"(?!heron\.).*"),  # types of other packages have no page here
    ("py:class", rf"heron\..*\b({'|'.join(INNER)})"),  # nor have those that only pass through
]

linkcheck_timeout = 20
linkcheck_workers = 4
