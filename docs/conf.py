"""How the documentation is built: `sphinx-build -W --keep-going -n -b html docs docs/_build/html`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent / "fakes"))

from notnow import __version__  # noqa: E402

project = "notnow"
author = "The notnow maintainers"
copyright = f"2026, {author}"  # noqa: A001
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "notnow_reference"]
exclude_patterns = ["_build", "generated/scenario", "generated/command-line.md", "generated/control.md"]
default_role = "code"  # docstrings write `name` for a name
highlight_language = "none"

myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
toc_object_entries = False

# What signatures name and no page of ours describes: the standard library, and types that are not public.
nitpick_ignore_regex = [("py:.*", r".*")]

html_theme = "furo"
html_title = f"notnow {release}"
html_static_path = ["_static"]
html_css_files = ["notnow.css"]
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
