// SPDX-License-Identifier: GPL-3.0-or-later
// <div data-tab-state="running|waiting|ok|bad|none" data-tab-title="62 % Backing up web-01">: a tab tells how its job is.
"use strict";
(() => {
  function show() {
    const source = document.querySelector("[data-tab-state]");
    const link = document.querySelector("link[rel='icon']");
    if (!source || !link) return;
    const icon = link.dataset[source.dataset.tabState] || link.dataset.none;
    if (link.getAttribute("href") !== icon) link.setAttribute("href", icon);
    if (source.dataset.tabTitle) document.title = source.dataset.tabTitle;
  }
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("htmx:afterSettle", show);
})();
