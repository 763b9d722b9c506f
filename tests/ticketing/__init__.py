# SPDX-License-Identifier: GPL-3.0-or-later
"""A small ticketing system, a program of its own: it knows the portal by HTTP and by its documentation alone."""
