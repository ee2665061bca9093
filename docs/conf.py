"""The site: Sphinx's settings. `python -m sphinx -W --keep-going -b html docs site`."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import qgenx_jax  # noqa: E402

project = "qgenx_jax"
author = "the authors of qgenx_jax"
copyright = "2026, the authors of qgenx_jax"
version = release = qgenx_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.githubpages",  # hosts leave out folders named _x without its file
    "sphinx_copybutton",
    "docs.extensions.docstrings",
    "docs.extensions.signatures",
    "docs.extensions.rooms",
    "docs.extensions.mathml",
    "docs.extensions.elsewhere",
    "docs.extensions.names",
    "docs.extensions.gallery",
]
exclude_patterns = ["extensions"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

smartquotes_action = "D"  # dashes; quotes are those of strings

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_numpy_docstring = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"qgenx_jax {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"
pygments_dark_style = "monokai"
