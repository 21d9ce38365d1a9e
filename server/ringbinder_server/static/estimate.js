// How long it takes, as far as that is known: sentences from the answer of GET api/v1/images.

const TOLERANCE = 1.5;
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** "3 days", "6 min", "12 s": one number is enough for an estimate. */
function about(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

function ago(unix, now) {
  const seconds = Math.max(0, now / 1000 - unix);
  if (seconds < 60) return "just now";
  const [unit, length] = UNITS.find(([, size]) => seconds >= size);
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.floor(seconds / length), unit);
}

/** Before it is built or launched; a client that is `queued` sees its place in other words. */
function before(known, now, queued) {
  if (known.built) {
    const when = known.built_at ? `Built ${ago(known.built_at, now)}` : "Built already";
    return known.usual_launch_seconds ? `${when}, usually ready in ${about(known.usual_launch_seconds)}.` : `${when}.`;
  }
  const last = known.last_build_seconds;
  const took = last ? `: last time that took ${about(last)}` : "";
  const queue = queued ? null : known.queue;
  const building = known.state === "building" && !queued && !queue;
  const parts = [building ? `It is being built now${took}` : `This version must be built${took || " first"}`];
  if (queue) parts.push(queue.position > 1 ? `${queue.position - 1} before you` : "you are next");
  return `${known.state === "broken" ? "The last build of this version failed. " : ""}${parts.join(", ")}.`;
}

/** During `stage`, which began `elapsed` seconds ago (building and storing count together); null is not known. */
export function during(stage, elapsed, known, queued) {
  if (!known) return "";
  if (stage === "waiting") return before(known, Date.now(), queued);
  const launching = stage === "launching";
  const seconds = launching ? known.usual_launch_seconds : known.last_build_seconds;
  if (seconds === null) return "";
  const usual = Math.max(seconds, 1);
  const takes = launching ? `it usually takes ${about(usual)}` : `it took ${about(usual)} last time`;
  if (elapsed < usual) return `About ${about(usual - elapsed)} left: ${takes}.`;
  // Half of all take longer than the usual time: that alone is no news.
  if (elapsed < TOLERANCE * usual) return `Any moment now: ${takes}.`;
  return `This takes longer than ${launching ? "usual" : "last time"} (${about(usual)}).`;
}

/** A place in a queue, as a `waiting` event has it. */
export function place({ position, eta_s: eta }) {
  return `Place ${position} in the queue${eta ? `, about ${about(eta)}` : ""}.`;
}
