// The row of stages: which one it is, which are done or were not needed, and how long each took.

export const STAGES = ["waiting", "building", "pushing", "launching"];
const OF = { fetching: "building", built: "launching" };

/** The stage of a phase of the protocol; undefined if it says nothing of a stage. */
export const stageOf = (phase) => OF[phase] ?? STAGES.find((name) => name === phase);

function duration(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

export class Stages {
  constructor(list) {
    this.list = list;
    this.reset({});
  }

  /** Starts over; `times` is of an earlier page that showed the same launch. */
  reset(times) {
    this.times = times; // stage -> {from, to} in milliseconds
    this.now = "";
    for (const name of STAGES) {
      delete this.row(name).dataset.state;
      this.row(name).removeAttribute("aria-current");
      this.tell(name, "");
    }
  }

  row(name) {
    return this.list.querySelector(`[data-stage="${name}"]`);
  }

  tell(name, text) {
    this.row(name).querySelector(".time").textContent = text;
  }

  /** Goes on to `name`; false if it is there already, or past it. */
  enter(name) {
    if (STAGES.indexOf(name) <= STAGES.indexOf(this.now)) return false;
    const from = this.now ? STAGES.indexOf(this.now) : 0;
    for (const passed of STAGES.slice(from, STAGES.indexOf(name))) {
      this.leave(passed, passed === this.now || this.times[passed] ? "done" : "skipped");
    }
    this.now = name;
    this.times[name] ??= { from: Date.now() };
    this.row(name).dataset.state = "now";
    this.row(name).setAttribute("aria-current", "step");
    return true;
  }

  leave(name, outcome) {
    this.row(name).dataset.state = outcome;
    this.row(name).removeAttribute("aria-current");
    const times = this.times[name];
    if (times) times.to ??= Date.now();
    else this.tell(name, outcome === "skipped" ? "not needed" : "");
  }

  showTimes() {
    for (const [name, { from, to }] of Object.entries(this.times)) {
      this.tell(name, duration((to ?? Date.now()) - from));
    }
  }

  /** Seconds that the present stage has taken; storing counts as a part of building. */
  get elapsed() {
    const began = this.now === "pushing" ? this.times.building ?? this.times.pushing : this.times[this.now];
    return began ? (Date.now() - began.from) / 1000 : 0;
  }
}
