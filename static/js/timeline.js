// SPDX-License-Identifier: GPL-3.0-or-later
// Arrow keys in the restore-point timeline: left and right by point, up and down by day at about the same hour.
"use strict";
(() => {
  const visibleDays = (box) => [...box.querySelectorAll(".tl-day")].filter((day) => day.checkVisibility());

  // One stop for Tab: the chosen point, or the newest.
  function settle() {
    for (const box of document.querySelectorAll("[data-timeline]")) {
      const dots = [...box.querySelectorAll(".tl-dot")];
      const stop = dots.find((dot) => dot.ariaCurrent) || dots[0];
      for (const dot of dots) dot.tabIndex = dot === stop ? 0 : -1;
      const scroll = box.querySelector(".tl-scroll");
      if (stop && stop.ariaCurrent && scroll && !scroll.contains(document.activeElement)) {
        const place = stop.getBoundingClientRect().top - scroll.getBoundingClientRect().top;
        if (place > scroll.clientHeight - 40 || place < 40) scroll.scrollTop += place - scroll.clientHeight / 2;
      }
    }
  }

  function nearest(box, dot, step) {
    const days = visibleDays(box);
    const day = days[days.indexOf(dot.closest(".tl-day")) + step];
    if (!day) return null;
    const off = (other) => Math.abs(other.dataset.hour - dot.dataset.hour);
    return [...day.querySelectorAll(".tl-dot")].reduce((best, other) => (off(other) < off(best) ? other : best));
  }

  function target(key, box, dot) {
    if (key === "ArrowUp") return nearest(box, dot, -1);
    if (key === "ArrowDown") return nearest(box, dot, 1);
    // Rows go from new to old, dots within a row from early to late.
    const ordered = visibleDays(box).reverse().flatMap((day) => [...day.querySelectorAll(".tl-dot")]);
    const here = ordered.indexOf(dot);
    return { ArrowLeft: ordered[here - 1], ArrowRight: ordered[here + 1], Home: ordered[0], End: ordered.at(-1) }[key];
  }

  document.addEventListener("DOMContentLoaded", settle);
  document.addEventListener("htmx:afterSettle", settle);
  document.addEventListener("keydown", (event) => {
    const dot = event.target.closest("[data-timeline] .tl-dot");
    if (!dot || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
    event.preventDefault();
    const next = target(event.key, dot.closest("[data-timeline]"), dot);
    if (!next) return;
    dot.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
})();
