// SPDX-License-Identifier: GPL-3.0-or-later
// <button data-copy="text"> or <button data-copy-from="#element">: copies, then says so for two seconds.
"use strict";
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (!button) return;
  const source = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
  const text = source ? source.innerText.trim() : button.dataset.copy;
  const say = button.querySelector("[data-copy-label]") || button;
  const before = say.textContent;
  const done = await write(text, source || button);
  say.textContent = done ? "Copied" : "Press Ctrl-C";
  button.toggleAttribute("data-copied", done);
  setTimeout(() => { say.textContent = before; button.removeAttribute("data-copied"); }, 2000);
});

// The clipboard interface exists only on https and localhost; elsewhere the older command still works.
async function write(text, near) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr-only";
    (near.closest("dialog") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
