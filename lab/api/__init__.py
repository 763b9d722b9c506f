# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST interface of the stand-in Manager: single sign-on, `/ovirt-engine/api` in XML, version 4."""
