// SPDX-License-Identifier: GPL-3.0-or-later
// "/" or Ctrl-K (Cmd-K) goes to the quick search; Escape leaves it.
"use strict";
document.addEventListener("keydown", (event) => {
  const field = document.querySelector("[data-quick-search]");
  if (!field) return;
  if (event.key === "Escape" && document.activeElement === field) return field.blur();
  const typing = event.target.closest("input, textarea, select, [contenteditable], dialog[open]");
  const slash = event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey;
  const k = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
  if (!slash && !k) return;
  event.preventDefault();
  field.focus();
  field.select();
});
