// SPDX-License-Identifier: GPL-3.0-or-later
// <time data-time="ago|exact">: exact time of this browser's zone on hover, "2 hours ago" kept current.
"use strict";
(() => {
  const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const short = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
  const UNITS = [[2700, 60, "minute"], [79200, 3600, "hour"], [3888000, 86400, "day"], [27648000, 2630016, "month"], [Infinity, 31557600, "year"]];

  function ago(seconds) {
    const distance = Math.abs(seconds);
    if (distance < 45) return seconds >= 0 ? "just now" : "in a moment";
    const [, grain, word] = UNITS.find(([limit]) => distance < limit);
    const n = Math.max(1, Math.round(distance / grain));
    if (word === "day" && n === 1) return seconds >= 0 ? "yesterday" : "tomorrow";
    const text = `${n} ${word}${n === 1 ? "" : "s"}`;
    return seconds >= 0 ? `${text} ago` : `in ${text}`;
  }

  function refresh(root) {
    for (const element of (root || document).querySelectorAll("time[data-time]")) {
      const moment = new Date(element.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      element.title = full.format(moment);
      const text = element.dataset.time === "ago" ? ago((Date.now() - moment) / 1000) : short.format(moment);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  document.addEventListener("DOMContentLoaded", () => refresh());
  document.addEventListener("htmx:afterSettle", (event) => refresh(event.target.parentElement));
  setInterval(() => { if (!document.hidden) refresh(); }, 20000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
