# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in Hyper-V host: a WS-Management server with a CIM repository, written from public facts about Windows.

Nothing here imports the collection's code: two independent readings of the protocol check each other.
"""
