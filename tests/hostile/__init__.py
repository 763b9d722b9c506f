# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal used by somebody who means harm. Found elsewhere: mass wrong logins (tests/portal/test_sign_in_limits.py),
forged and misleading sign-ins (tests/portal/test_sign_in_hostile.py), names and logs that want to be scripts
(tests/browser/test_hostile_names.py), guessed tokens (tests/api/test_tokens.py),
hostile file systems of repositories (tests/backups/test_import_repository.py), made-up requests
(tests/api/test_made_up_requests.py)."""
