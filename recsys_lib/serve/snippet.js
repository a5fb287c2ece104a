/* Alluvium's browser snippet.

     <script src="https://collect.example/snippet.js"></script>
     <script>
       const alluvium = Alluvium({url: "https://collect.example/events", token: "..."});
       alluvium.send({user: "u1", item: "i1", type: "view", time: new Date().toISOString()});
     </script>

   Events are batched, outlive the page, and are sent again until the collector has them; each has
   an id of its own, so one that arrives twice is one row. A token in a page is public: give pages
   one of their own. Not sendBeacon: it can neither carry a token nor say whether it arrived. */
"use strict";

function Alluvium({url, token, seconds = 2, batch = 50, most = 1000}) {
  const PREFIX = "alluvium:";
  const BYTES = 60000; // browsers refuse more with keepalive
  const memory = new Map();
  const disk = {
    set: (key, text) => localStorage.setItem(key, text),
    get: (key) => localStorage.getItem(key),
    remove: (key) => localStorage.removeItem(key),
    keys: () => Object.keys(localStorage),
  };
  const volatile = {
    set: (key, text) => memory.set(key, text),
    get: (key) => memory.get(key) ?? null,
    remove: (key) => memory.delete(key),
    keys: () => [...memory.keys()],
  };
  const fresh = () =>
    crypto.randomUUID?.() ??
    [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  let [timer, busy, failures] = [null, false, 0];

  // One key an event: tabs share the store and need no lock, a doubled event has one id.
  const stores = () => [disk, volatile];
  const waiting = () =>
    stores().flatMap((store) => {
      try {
        return store.keys().filter((key) => key.startsWith(PREFIX)).map((key) => [store, key]);
      } catch {
        return []; // storage is switched off
      }
    });

  function send(event) {
    const id = event.event_id ?? fresh();
    const text = JSON.stringify({...event, event_id: id});
    if (waiting().length >= most) return null;
    try {
      disk.set(PREFIX + id, text);
    } catch {
      volatile.set(PREFIX + id, text);
    }
    if (waiting().length >= batch && !failures) flush();
    else later(seconds);
    return id;
  }

  function later(wait) {
    timer ??= setTimeout(flush, wait * 1000);
  }

  function next() {
    const taken = [];
    let bytes = 2;
    for (const [store, key] of waiting()) {
      const text = store.get(key);
      if (text === null) continue; // another tab was faster
      bytes += new TextEncoder().encode(text).length + 1;
      if (taken.length && (taken.length >= batch || bytes > BYTES)) break;
      taken.push([store, key, text]);
    }
    return taken;
  }

  async function flush() {
    clearTimeout(timer);
    timer = null;
    const taken = next();
    if (busy || !taken.length) return;
    busy = true;
    let wait = 0;
    try {
      const body = "[" + taken.map(([, , text]) => text).join(",") + "]";
      const headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"};
      const keepalive = new TextEncoder().encode(body).length <= BYTES;
      const answer = await fetch(url, {method: "POST", headers, body, keepalive});
      // 400 and 207: the collector has kept the bad ones too, so they are done with.
      if (answer.status === 413 && taken.length > 1) batch = Math.ceil(taken.length / 2);
      else if ([202, 207, 400, 413].includes(answer.status))
        for (const [store, key] of taken) store.remove(key);
      else throw answer;
      failures = 0;
    } catch (error) {
      failures += 1;
      const asked = Number(error.headers?.get("Retry-After")) || 0;
      wait = Math.max(asked, Math.min(60, 2 ** failures)) * (1 + Math.random() / 2);
    }
    busy = false;
    if (waiting().length) later(wait);
  }

  globalThis.addEventListener?.("pagehide", flush);
  globalThis.document?.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "hidden") flush();
  });
  later(0); // what an earlier page left
  return {send, flush, waiting: () => waiting().length};
}
