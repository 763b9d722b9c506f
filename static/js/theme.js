// SPDX-License-Identifier: GPL-3.0-or-later
// Light, dark or as the system has it; remembered in this browser. Loaded before the page is painted.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const read = () => { try { return localStorage.getItem("theme") || "system"; } catch { return "system"; } };
  const apply = (choice) => {
    if (choice === "system") delete root.dataset.theme; else root.dataset.theme = choice;
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
  };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => apply(read()));
  window.addEventListener("storage", () => apply(read()));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (!button) return;
    try { localStorage.setItem("theme", button.dataset.themeChoice); } catch { /* private window: for this page only */ }
    apply(button.dataset.themeChoice);
  });
})();
