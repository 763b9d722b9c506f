// SPDX-License-Identifier: GPL-3.0-or-later
// <button data-opens="dialog-id"> opens a <dialog>, [data-closes] closes it; a destructive one unlocks when the name is typed.
"use strict";
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  const dialog = opener && document.getElementById(opener.dataset.opens);
  if (dialog && !dialog.open) return dialog.showModal();
  const open = event.target.closest("dialog[open]");
  if (open && (event.target === open || event.target.closest("[data-closes]"))) open.close();
});

function lock(form) {
  const field = form.querySelector("[data-type-name]");
  if (!field) return;
  form.querySelector("[data-verb]").disabled = field.value.trim() !== field.dataset.typeName;
}
document.addEventListener("input", (event) => { if (event.target.matches("[data-type-name]")) lock(event.target.form); });
document.addEventListener("DOMContentLoaded", () => {
  for (const field of document.querySelectorAll("[data-type-name]")) lock(field.form);
});
document.addEventListener("htmx:afterSettle", () => {
  for (const field of document.querySelectorAll("[data-type-name]")) lock(field.form);
});
