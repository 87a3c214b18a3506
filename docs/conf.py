"""Sphinx: Markdown by MyST, the furo theme.  Built with `-n -W`: every broken link is an error."""

from importlib.metadata import version as version_of

project = "lbhealth"
author = "The lbhealth developers"
release = version_of("lbhealth")
version = release

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"lbhealth {release}"
html_copy_source = False
