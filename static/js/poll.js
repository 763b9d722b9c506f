// SPDX-License-Identifier: GPL-3.0-or-later
// Fragments marked data-pause-hidden do not poll while the tab is hidden, and refresh at once when it is seen again.
// Their trigger lists the event too: hx-trigger="every 5s, seen-again".
"use strict";
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.closest("[data-pause-hidden]")) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[data-pause-hidden]")) {
    element.dispatchEvent(new CustomEvent("seen-again"));
  }
});
