"""Sphinx's configuration: `python -m sphinx -W --keep-going docs docs/_build/html` builds the site."""

import logging
import shutil
from pathlib import Path

from jupyter_client import KernelManager

import histeq

# Notebooks are executed without a line about each of them, and without a warning of each kernel that it
# is not encrypted.
logging.getLogger("traitlets").setLevel(logging.WARNING)
if hasattr(KernelManager, "transport_encryption"):
    KernelManager.transport_encryption.default_value = "auto"

project = "histeq"
author = "The histeq developers"
copyright = "the histeq developers"
release = version = histeq.__version__

extensions = [
    "myst_nb",  # pages in Markdown; those with {code-cell}, and notebooks, are executed
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]
nitpicky = True
smartquotes = False  # "opencv" and --help are things to type
# Words in the types of attributes: "array of int64, read-only".
nitpick_ignore = [("py:class", word) for word in ("array", "float64", "int64", "read-only", "shape")]

autodoc_typehints = "none"  # the docstrings say it in words
autosummary_filename_map = {"histeq.Flicker": "histeq.Flicker-result"}  # flicker, where case is ignored
default_role = "autolink"  # `equalize` in a docstring is a link, and the name of an argument is not
napoleon_google_docstring = False
napoleon_use_param = False  # what an argument may be is a phrase, in which no word is looked up
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_merge_streams = True  # one box for what a cell prints
nb_execution_raise_on_error = True
nb_execution_timeout = 120
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"histeq {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

shutil.rmtree(Path(__file__).parent / "generated", ignore_errors=True)  # pages of names that are no more


def setup(app):
    """Adapt what autodoc and sphinx-click write."""
    app.connect("autodoc-process-signature", signature)
    app.connect("sphinx-click-process-description", escape)
    app.connect("sphinx-click-process-options", escape)
    app.connect("sphinx-click-process-epilog", examples)


def signature(app, what, name, *_):
    """Leave the signatures of results out: of all classes only an Equalizer is made by its caller."""
    return ("", "") if what == "class" and name != "histeq.Equalizer" else None


def escape(app, context, lines):
    """Take the stars in texts of the command line for stars, and an address in them for no link."""
    lines[:] = [line.replace("*", r"\*").replace("://", r"\://") for line in lines]


def examples(app, context, lines):
    """Show the examples at the end of a command's help as commands."""
    commands = [line.removeprefix("|").strip() for line in lines]
    if "Examples:" in commands:
        shown = [f"   $ {command}" for command in commands if command and command != "Examples:"]
        lines[:] = [".. rubric:: Examples", "", ".. code-block:: console", "", *shown, ""]
