// Server-sent events over fetch: unlike EventSource, it can go on after a reload, and notices a connection that died.

/** Yields {id, event} of one response body. */
async function* parse(body, onData) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let id = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onData();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) yield { id, event: JSON.parse(line.slice(6)) };
    }
  }
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

const redirected = (message, advice) => ({
  message: `This launch was redirected to another server, and this page may not ${message}.`,
  advice: `The operator can allow it with ${advice}.`,
});

async function refusal(response) {
  const answer = await response.json().catch(() => null);
  return { message: answer?.message ?? `The server answers this launch with the HTTP status ${response.status}.` };
}

/** Whether `url` leads to another server that may not be read; a request for no event stream starts nothing. */
async function isUnreadable(url, signal) {
  const response = await fetch(url, { mode: "no-cors", headers: { Accept: "text/html" }, signal }).catch(() => null);
  return response?.type === "opaque";
}

/**
 * Reports every event up to the terminal one with `onEvent(id, event)`, through lost connections.
 *
 * `lastId` is of the last event seen, `token` a build token for a new launch; after `silence` seconds without a byte a
 * connection is lost; after a server that shuts down, it or another is asked for `patience` seconds. Returns true after
 * the end, false if the server knows this launch no more, 401, or {message, advice} if nothing else would help.
 */
export async function follow(url, { headers: own, lastId = "", token = "", silence, patience, ...on }) {
  let wait = 1000;
  let unreadable = 0;
  let broken = null; // an error of `onEvent` is no lost connection
  let farewell = null; // of a server that shuts down: {id, event, until}
  for (;;) {
    const ended = new AbortController();
    let answered = false;
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ended.abort(), silence * 1000);
    };
    const target = new URL(url, location.href);
    try {
      alive();
      const headers = { Accept: "text/event-stream", ...own };
      if (lastId) headers["Last-Event-ID"] = lastId;
      // Who comes back needs no token, and it may be too old by then.
      if (token && !lastId) target.searchParams.set("build_token", token);
      const response = await fetch(target, { headers, cache: "no-store", signal: ended.signal });
      answered = true;
      on.onOpen(new URL(response.url));
      if (response.status === 204) return false;
      if (response.status === 401) return 401;
      // Behind a proxy, a server that is started again may be missing for a while.
      if (!response.ok && !lastId && response.status < 500 && response.status !== 429) return refusal(response);
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      for await (const { id, event } of parse(response.body, alive)) {
        if (event.code === "shutting-down") {
          farewell ??= { id, event, until: Date.now() + patience * 1000 };
          break;
        }
        wait = 1000;
        farewell = null;
        lastId = id;
        try {
          on.onEvent(id, event);
        } catch (error) {
          broken = error;
          throw error;
        }
        if (event.phase === "ready" || event.phase === "failed") return true;
      }
    } catch (error) {
      if (broken) throw broken;
      const hidden = !answered && error instanceof TypeError && (await isUnreadable(target, ended.signal));
      unreadable = hidden ? unreadable + 1 : 0;
      if (unreadable > 1) {
        // The first time, it may just have come back.
        return redirected("read its answers (CORS)", "BinderHub.cors_allow_origin or badge_base_url there");
      }
    } finally {
      clearTimeout(timer);
      ended.abort();
    }
    if (on.isBlocked()) return redirected("connect to it (Content-Security-Policy)", "Ringbinder.federation_members");
    if (farewell && Date.now() >= farewell.until) {
      on.onEvent(farewell.id, farewell.event);
      return true;
    }
    on.onLost(farewell !== null);
    await pause(wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, 15000);
  }
}
