// The launch page: starts a launch, shows its stages and its log, and goes to the server that it gives.

import { NO_KEY, headers } from "./access.js";
import * as estimate from "./estimate.js";
import { Layers } from "./layers.js";
import { Log } from "./log.js";
import { LogTools } from "./logtools.js";
import { Stages, stageOf } from "./stages.js";
import "./gesture.js";
import { follow } from "./stream.js";

const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const root = by("launch");
const stages = new Stages(by("stages"));
const layers = new Layers(by("layers"));
const log = new Log(by("log"), by("follow"));
const tools = new LogTools(log, `${data.repository.replace(/[^\w.-]+/g, "-")}.log`);
const KEY = `launch:${location.pathname}${location.search}`;
const NAME = document.title;
const LOADED = Date.now();
const LEARN_AGAIN = 15000; // while a queue moves, or others' launches end
const PATIENCE = 120; // seconds, with a server that shuts down: longer than another takes to start in its place

const SAYS = {
  waiting: "Looking up the repository",
  building: "Building the environment. The first launch of a version takes a while, later ones take seconds.",
  pushing: "Storing the environment for the next launch",
  launching: "Starting your server",
};
const LOST = "The connection was lost. Trying to get it back …";
const STOPPED = "This server is being stopped or started again. Going on as soon as one answers …";
const TITLES = { waiting: "Waiting", building: "Building", pushing: "Storing", launching: "Launching" };

let launch; // what is kept over a reload: {session, first, times}
let known = null; // what is known of the image: how long things may take
let learned;
let queued = false; // and shown the place
let clock;
let running = false;
let at = location; // of the server that launches; a redirector may choose it
let blocked = false;

function state(name, title) {
  by("favicon").href = `${root.dataset.icons}-${name === "running" ? "building" : name}.svg`;
  root.dataset.state = name;
  document.title = `${title} · ${NAME}`;
}

function save() {
  sessionStorage.setItem(KEY, JSON.stringify(launch));
}

/** Where a server is asked about this link. */
function path(endpoint) {
  const query = data.urlpath ? `?${new URLSearchParams({ urlpath: data.urlpath })}` : "";
  return `${data.base}${endpoint}/${data.provider}/${data.spec}${query}`;
}

const isHere = () => at.host === location.host;

/** The address of `path` at the server that launches. */
const there = (path) => (isHere() ? "" : at.origin) + path;

async function learn() {
  learned = Date.now();
  try {
    const response = await fetch(there(path("api/v1/images")), { headers: isHere() ? headers() : {} });
    if (response.ok) known = await response.json();
  } catch {
    // An estimate is a convenience; whether the server answers, the launch itself tells.
  }
}

function tick() {
  if (["waiting", "launching"].includes(stages.now) && Date.now() - learned > LEARN_AGAIN) learn();
  stages.showTimes();
  by("estimate").textContent = estimate.during(stages.now, stages.elapsed, known, queued);
}

function enter(name) {
  if (!stages.enter(name)) return;
  by("status").textContent = SAYS[name];
  state("running", TITLES[name]);
  save();
}

function begin(session, times = {}) {
  launch = { session, first: null, times };
  queued = false;
  stages.reset(times);
  layers.clear();
  log.clear();
  enter("waiting");
}

/** Where to go: the path in the server that was asked for, if it is one, with the server's token. */
function target(url, token, urlpath) {
  const server = new URL(url);
  if (!["http:", "https:"].includes(server.protocol)) throw new Error("the server's address is no web address");
  let goal = new URL(urlpath.replace(/^\/+/, ""), server);
  if (goal.origin !== server.origin) goal = server;
  if (token) goal.searchParams.set("token", token); // none where people log in
  return goal.href;
}

function end(outcome) {
  running = false;
  stages.leave(stages.now, outcome);
  sessionStorage.removeItem(KEY);
  clearInterval(clock);
  stages.showTimes();
  layers.clear();
  by("status").textContent = "";
  by("estimate").textContent = "";
}

function ready(event) {
  end("done");
  state("ready", "Ready");
  by("open").href = target(event.url, event.token, event.urlpath ?? data.urlpath);
  by("ready").hidden = false;
  by("open").focus();
  // Replaced, so that the way back does not lead here and launch once more.
  location.replace(by("open").href);
}

function failed(event) {
  end("failed");
  state("failed", "Failed");
  by("cause").textContent = (event.cause ?? event.message).trim();
  for (const name of ["line", "advice"]) {
    by(name).textContent = event[name] ?? "";
    by(name).hidden = !event[name];
  }
  by("show-line").hidden = !event.line;
  by("full-log").hidden = !event.log;
  if (event.log) by("full-log").href = there(data.base + event.log);
  by("log-card").hidden ||= !log.kept.length; // an empty one tells nothing
  by("failed").hidden = false;
  by("failed").focus({ preventScroll: true }); // not a button, which a key could press by chance
}

function waiting(event) {
  queued = Boolean(event.queue);
  by("status").textContent = queued ? estimate.place(event.queue) : event.message.trim();
  if (queued) state("running", `Queued (${event.queue.position})`);
}

function show(id, event) {
  const phase = event.phase.toLowerCase();
  const session = id.split(".")[0];
  if (launch.session !== session) begin(session); // the first event, or a new launch after the server was restarted
  if (id === `${session}.0`) {
    launch.first = event;
    save();
  }
  if (phase === "ready") return ready(event);
  if (stageOf(phase)) enter(stageOf(phase));
  if (event.progress) {
    by("status").textContent = [SAYS.pushing, layers.show(event.progress)].filter(Boolean).join(": ");
  } else if (phase === "launching" || phase === "built") layers.clear();
  if (phase === "waiting") waiting(event);
  if (event.message && !event.progress) log.add(event.message);
  return phase === "failed" ? failed(event) : undefined;
}

function opened(url) {
  const isNew = url.host !== at.host;
  at = url;
  by("at").hidden = isHere();
  by("at").textContent = `at ${at.host}`;
  if (isNew) learn(); // it has images of its own
  if (running) by("status").textContent = SAYS[stages.now];
}

function noKey() {
  if (isHere()) return { message: NO_KEY };
  return {
    message: `This launch was redirected to ${at.host}, which demands a token of its own.`,
    advice: `Open the link there: ${there(location.pathname + location.search)}`,
  };
}

async function run() {
  if (running) return;
  running = true;
  by("ask").hidden = true;
  by("stages").hidden = false;
  by("log-card").hidden = false;
  const stored = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  let lastId = "";
  begin("");
  clock = setInterval(tick, 500);
  learn();
  if (stored?.first) {
    begin(stored.session, stored.times);
    lastId = `${stored.session}.0`;
    show(lastId, stored.first);
  }
  try {
    const fresh = Date.now() - LOADED < 1000 * data.token_seconds;
    blocked = false;
    const seen = await follow(path("build"), {
      lastId,
      token: fresh ? data.build_token : "",
      silence: data.silence,
      patience: PATIENCE,
      // Pages of other origins need a permission to send it, as this one would after a redirect.
      headers: { ...headers(), ...(data.by_cookie && { "X-Xsrftoken": "page" }) },
      isBlocked: () => blocked,
      onEvent: show,
      onOpen: opened,
      onLost: (stopped) => {
        by("status").textContent = stopped ? STOPPED : LOST;
      },
    });
    if (seen === 401) failed(noKey());
    else if (seen.message) failed(seen);
    else if (!seen) failed({ message: "This launch is no longer known to the server. Please try again." });
  } catch (error) {
    failed({ message: `This page could not go on: ${error.message}.` });
  }
}

// An operator's scripts may violate the policy too. After a redirect, browsers name the address before it.
document.addEventListener("securitypolicyviolation", ({ blockedURI }) => {
  blocked ||= blockedURI.startsWith(new URL(path("build"), location).href.split("?")[0]);
});

function start() {
  // A page that the browser only prepares has not been asked for yet.
  if (document.prerendering) document.addEventListener("prerenderingchange", run, { once: true });
  else run();
}

by("again").addEventListener("click", () => {
  by("failed").hidden = true;
  run();
});
by("start").addEventListener("click", start);
by("show-line").addEventListener("click", () => {
  by("find").value = by("line").textContent.trim();
  tools.search(by("find").value);
  by("log").focus();
});

if (data.problem) {
  begin("");
  failed({ message: data.problem });
  by("again").hidden = true;
} else if (data.by_itself || (data.allowed && sessionStorage.getItem(KEY))) {
  start();
} else {
  by("ask").hidden = false;
  by("ask").focus({ preventScroll: true }); // not the button, which a key that is held would press
}
