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

/**
 * Tells `onEvent(id, event)` every event up to the terminal one, through lost connections.
 *
 * `headers` go with each request; `lastId` is the id of the last event seen, if any; `token` is a build token for a launch that begins now; after
 * `silence` seconds without a byte a connection counts as lost; `onLost(true)` says that it is lost, `onLost(false)` that
 * it is back. If a server shuts down (`onLost(true, true)`) it, or another in its place, is looked for during `patience`
 * seconds; then `onEvent` is told its last event. Returns whether the end was seen: false means that the server knows
 * this launch no more, 401 that it does not answer to `headers`.
 */
export async function follow(url, { headers: own, lastId = "", token = "", silence, patience, onEvent, onLost }) {
  let wait = 1000;
  let broken = null; // an error of `onEvent` is no lost connection
  let farewell = null; // of a server that shuts down: {id, event, until}
  for (;;) {
    const ended = new AbortController();
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => ended.abort(), silence * 1000);
    };
    try {
      alive();
      // The second header tells pages of other origins from this one: they cannot send it unasked.
      const headers = { Accept: "text/event-stream", "X-Xsrftoken": "page", ...own };
      if (lastId) headers["Last-Event-ID"] = lastId;
      const target = new URL(url, location.href);
      // Who comes back needs no token, and it may be too old by then.
      if (token && !lastId) target.searchParams.set("build_token", token);
      const response = await fetch(target, { headers, cache: "no-store", signal: ended.signal });
      if (response.status === 204) return false;
      if (response.status === 401) return 401;
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      onLost(false);
      for await (const { id, event } of parse(response.body, alive)) {
        if (event.code === "shutting-down") {
          farewell ??= { id, event, until: Date.now() + patience * 1000 };
          break;
        }
        wait = 1000;
        farewell = null;
        lastId = id;
        try {
          onEvent(id, event);
        } catch (error) {
          broken = error;
          throw error;
        }
        if (event.phase === "ready" || event.phase === "failed") return true;
      }
    } catch {
      if (broken) throw broken;
    } finally {
      clearTimeout(timer);
      ended.abort();
    }
    if (farewell && Date.now() >= farewell.until) {
      onEvent(farewell.id, farewell.event);
      return true;
    }
    onLost(true, farewell !== null);
    await pause(wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, 15000);
  }
}
