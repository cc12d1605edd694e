// Renews the numbers of the status page every two seconds; the page is whole without it.
"use strict";
(() => {
  const PERIOD = 2000; // ms
  let before = null;
  const whole = new Intl.NumberFormat("en-US");

  const show = (name, text) => {
    for (const place of document.querySelectorAll(`[data-field="${name}"]`)) {
      if (place.textContent !== text) place.textContent = text;
    }
  };

  const bytes = (count) => {
    let unit = 0;
    while (count >= 1024 && unit < 4) { count /= 1024; unit += 1; }
    return `${count.toFixed(unit ? 1 : 0)} ${["B", "KB", "MB", "GB", "TB"][unit]}`;
  };

  const renew = (status) => {
    const now = performance.now();
    for (const [name, count] of Object.entries(status.counts)) show(name, whole.format(count));
    for (const name of ["pending_events", "live_codes", "findings", "waiting_rows"]) {
      show(name, whole.format(status[name]));
    }
    for (const name of ["state_bytes", "waiting_bytes"]) show(name, bytes(status[name]));
    for (const name of ["last_offset", "taken_offset", "checkpoint_offset"]) {
      show(name, whole.format(status[name]));
    }
    for (const name of ["watermark", "closed_through", "checkpoint_at"]) {
      show(name, status[name] ? status[name].replace("T", " ").replace(/\.\d+|\+08:00/g, "") : "—");
    }
    if (before) {
      const seconds = (now - before.at) / 1000;
      show("rate", whole.format(Math.max(0, Math.round((status.counts.rows - before.rows) / seconds))));
    }
    before = { at: now, rows: status.counts.rows };
    document.querySelector(".tile[data-alert]").classList.toggle("alert", status.counts.rejects > 0);
    const kind = status.state;
    const box = document.querySelector(".state");
    box.className = `state ${kind === "ready" ? "good" : kind === "failed" ? "bad" : ""}`;
    for (const text of box.querySelectorAll("[data-state]")) text.hidden = text.dataset.state !== kind;
  };

  const poll = async () => {
    try {
      const answer = await fetch(`${location.origin}/v1/status`, { headers: { Accept: "application/json" } });
      if (answer.ok) renew(await answer.json());
      if (answer.status === 401) return; // the key was revoked: the page stays as it is
    } catch {
      const box = document.querySelector(".state");
      box.className = "state bad";
      for (const text of box.querySelectorAll("[data-state]")) text.hidden = text.dataset.state !== "gone";
      before = null;
    }
    setTimeout(poll, document.hidden ? 5 * PERIOD : PERIOD);
  };
  poll();
})();
