// SPDX-License-Identifier: GPL-3.0-or-later
// After a form came back with errors, the first wrong field has the focus.
"use strict";
(() => {
  const focus = (root) => {
    const field = root.querySelector("[aria-invalid='true']");
    if (field) field.focus();
  };
  document.addEventListener("DOMContentLoaded", () => focus(document));
  document.addEventListener("htmx:afterSettle", (event) => focus(event.target));
})();
