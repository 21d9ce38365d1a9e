// The npm package `eventsource`, used as Pluto, Juniper and trigger-mybinder-build use it: node eventsource.cjs FOLDER URL CLOSES
const { createRequire } = require("node:module");
const { join } = require("node:path");

const [folder, url, closes] = process.argv.slice(2);
const { EventSource } = createRequire(join(folder, "package.json"))("eventsource");
const source = new EventSource(url);
const tell = (event) => process.stdout.write(JSON.stringify(event) + "\n");
source.onmessage = (message) => {
  const event = JSON.parse(message.data);
  tell({ ...event, id: message.lastEventId });
  if (closes === "true" && ["ready", "failed"].includes(event.phase)) source.close();
};
source.onerror = (error) => {
  tell({ error: true, state: source.readyState, code: error.code ?? null });
  if (source.readyState === EventSource.CLOSED) process.exit(0);
};
