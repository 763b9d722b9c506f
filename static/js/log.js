// SPDX-License-Identifier: GPL-3.0-or-later
// The log: follow keeps the newest line in sight, wrap breaks long lines. Scrolling up stops following.
"use strict";
(() => {
  const linesOf = (control) => control.closest("[data-log]").querySelector(".log-lines");
  const toEnd = (lines) => { lines.scrollTop = lines.scrollHeight; };
  const followed = (log) => log.querySelector("[data-log-follow][aria-pressed='true']");

  function press(button, on) {
    button.setAttribute("aria-pressed", String(on));
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-log-follow], [data-log-wrap]");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    press(button, on);
    if (button.matches("[data-log-wrap]")) linesOf(button).classList.toggle("log-nowrap", !on);
    else if (on) toEnd(linesOf(button));
  });
  document.addEventListener("wheel", (event) => {
    const log = event.deltaY < 0 && event.target.closest("[data-log]");
    if (log && followed(log)) press(followed(log), false);
  }, { passive: true });

  function follow() {
    for (const log of document.querySelectorAll("[data-log]")) if (followed(log)) toEnd(log.querySelector(".log-lines"));
  }
  document.addEventListener("DOMContentLoaded", follow);
  document.addEventListener("htmx:afterSettle", follow);
})();
