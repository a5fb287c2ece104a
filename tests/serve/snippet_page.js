// A page for the snippet, without a browser: node page.js SNIPPET URL TOKEN FROM TO
const {readFileSync} = require("fs");
const [, , snippet, url, token, from, to] = process.argv;
const store = new Map();
globalThis.localStorage = new Proxy(
  {
    setItem: (key, text) => store.set(key, text),
    getItem: (key) => store.get(key) ?? null,
    removeItem: (key) => store.delete(key),
  },
  {ownKeys: () => [...store.keys()], getOwnPropertyDescriptor: () => ({enumerable: true, configurable: true})},
);
store.set("alluvium:left", JSON.stringify({event_id: "left", user: "u", item: "left behind"}));
store.set("other", "not ours");
// The first request never arrives; the answer to the second is lost on its way back.
const real = fetch;
let calls = 0;
globalThis.fetch = async (...all) => {
  calls += 1;
  if (calls === 1) throw new TypeError("no network");
  const answer = await real(...all);
  if (calls === 2) throw new TypeError("connection lost");
  return answer;
};
const soon = setTimeout;
// Our own waits are shortened, not those of fetch.
globalThis.setTimeout = (task, wait, ...more) =>
  soon(task, task.name === "flush" ? wait / 50 : wait, ...more);
eval(readFileSync(snippet, "utf8") + ";globalThis.Alluvium = Alluvium");
const alluvium = Alluvium({url, token, batch: 10});
for (let n = Number(from); n < Number(to); n++) alluvium.send({user: "u", item: `i${n}`});
const wait = () => {
  if (alluvium.waiting()) return soon(wait, 20);
  console.log(JSON.stringify({calls, left: [...store.keys()]}));
  process.exit(0);
};
wait();
