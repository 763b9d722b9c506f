# SPDX-License-Identifier: GPL-3.0-or-later
"""The Manager's machine: a private root that is reached by SSH, with the Manager's own tools and a real PostgreSQL."""
