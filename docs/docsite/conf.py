# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx renders the documentation site; see tests/tools/docs."""
from __future__ import annotations

project = "agentless.hyperv"
copyright = "The agentless.hyperv authors"
extensions = ["sphinx_antsibull_ext"]
html_theme = "alabaster"
_FONTS = "system-ui, -apple-system, 'Segoe UI', sans-serif"
html_theme_options = {
    "description": "Protects Hyper-V virtual machines with Ansible", "page_width": "1240px", "body_max_width": "none",
    "sidebar_width": "240px", "fixed_sidebar": True, "show_relbar_bottom": True, "font_family": _FONTS, "head_font_family": _FONTS,
    "font_size": "16px"}
html_static_path = ["static"]  # custom.css, which the theme looks for
html_show_sphinx = False
html_extra_path = ["extra"]  # the JSON Schemas, which guides lead to
html_copy_source = False
# references of other collections lead to sites that are not asked while this one is made
suppress_warnings = ["ref.ref"]
