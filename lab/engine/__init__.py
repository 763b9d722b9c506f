# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine behind the REST interface: its objects, its commands and their slow, asynchronous ways."""
