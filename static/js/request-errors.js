// SPDX-License-Identifier: GPL-3.0-or-later
// A refresh or an action that got no answer, or a refusal: said in words above the page, gone again with the next success.
"use strict";
(() => {
  const box = () => document.getElementById("notices");

  // Refusals come as a fragment (components/_error.html); it belongs above the page, not into what asked.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr } = event.detail;
    if (xhr.status < 400 || xhr.status === 422 || !box()) return;
    const fragment = (xhr.getResponseHeader("Content-Type") || "").startsWith("text/html") && !/<html[\s>]/i.test(xhr.responseText);
    if (!fragment) return say(xhr.status === 403 || xhr.status === 404
      ? "This is no longer here, or no longer yours to see. Reload the page to see what is."
      : "The portal could not answer this request. Nothing on this page was changed by it; try again in a minute.");
    event.detail.shouldSwap = true;
    event.detail.isError = false;
    event.detail.target = box();
    event.detail.swapOverride = "innerHTML";
  });
  document.addEventListener("htmx:sendError", () => {
    const time = new Date().toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
    say(`The portal cannot be reached. What you see is as of ${time}; it refreshes by itself once the portal answers.`);
  });
  document.addEventListener("htmx:afterOnLoad", (event) => {
    const { xhr } = event.detail;
    if (xhr.status < 400 && box()) box().querySelector("[data-said]")?.remove();
  });

  function say(text) {
    if (!box()) return;
    const notice = document.createElement("div");
    notice.className = "notice notice-bad";
    notice.dataset.said = "";
    notice.textContent = text;
    box().replaceChildren(notice);
  }
})();
