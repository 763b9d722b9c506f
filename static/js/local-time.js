// SPDX-License-Identifier: GPL-3.0-or-later
// <time data-time="ago|exact|day">: exact time of this browser's zone on hover, "2 hours ago" and "yesterday 22:04" kept current.
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

  // As portal/wording.py says a day and a time.
  function day(moment) {
    const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
    const days = Math.round((midnight(new Date()) - midnight(moment)) / 86400000);
    const format = (options) => new Intl.DateTimeFormat("en-GB", options).format(moment);
    const sameYear = moment.getFullYear() === new Date().getFullYear();
    const date = () => format({ day: "numeric", month: "long", ...(sameYear ? {} : { year: "numeric" }) });
    const name = days === 0 ? "today" : days === 1 ? "yesterday" : days > 1 && days < 7 ? format({ weekday: "long" }) : date();
    return `${name} ${format({ hour: "2-digit", minute: "2-digit" })}`;
  }

  function words(kind, moment) {
    if (kind === "ago") return ago((Date.now() - moment) / 1000);
    return kind === "day" ? day(moment) : short.format(moment);
  }

  function refresh(root) {
    for (const element of (root || document).querySelectorAll("time[data-time]")) {
      const moment = new Date(element.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      element.title = full.format(moment);
      const text = words(element.dataset.time, moment);
      if (element.textContent !== text) element.textContent = text;
    }
  }

  document.addEventListener("DOMContentLoaded", () => refresh());
  document.addEventListener("htmx:afterSettle", (event) => refresh(event.target.parentElement));
  setInterval(() => { if (!document.hidden) refresh(); }, 20000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
