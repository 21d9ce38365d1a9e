// The layers of an image while it is stored: one line and one bar each.

const SCALES = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3], ["B", 1]];

function size(bytes, of) {
  const [unit, scale] = SCALES.find(([, at]) => of >= at) ?? SCALES.at(-1);
  return `${(bytes / scale).toFixed(of / scale < 10 && scale > 1 ? 1 : 0)} ${unit}`;
}

export class Layers {
  constructor(box) {
    this.box = box;
    this.list = box.querySelector("ul");
    this.clear();
  }

  clear() {
    this.lines = new Map();
    this.list.replaceChildren();
    this.box.hidden = true;
  }

  /** Shows `layers`: name -> {current, total} in bytes, or a word such as "Pushed". Returns a summary, or "". */
  show(layers) {
    this.box.hidden = false;
    for (const [name, state] of Object.entries(layers)) this.update(this.line(name), state);
    const lines = [...this.lines.values()];
    const done = lines.filter((line) => line.dataset.state === "done").length;
    const all = lines.reduce((sum, line) => sum + Number(line.dataset.total), 0);
    const now = lines.reduce((sum, line) => sum + Number(line.dataset.current), 0);
    const share = all ? `, ${Math.floor((100 * now) / all)} %` : "";
    return lines.length ? `${done} of ${lines.length} layers${share}` : "";
  }

  line(name) {
    let line = this.lines.get(name);
    if (!line) {
      line = document.createElement("li");
      const [label, bar, word] = ["code", "progress", "span"].map((tag) => document.createElement(tag));
      label.textContent = name.replace(/^sha256:/, "").slice(0, 12);
      bar.setAttribute("aria-label", `Layer ${label.textContent}`);
      line.append(label, bar, word);
      Object.assign(line.dataset, { total: 0, current: 0 });
      this.lines.set(name, line);
      this.list.append(line);
    }
    return line;
  }

  update(line, state) {
    const [, bar, word] = line.children;
    if (typeof state === "string") {
      const waits = /prepar|wait/i.test(state);
      word.textContent = state;
      line.dataset.state = waits ? "waits" : "done";
      bar.max = 1;
      bar.value = waits ? 0 : 1;
      if (!waits) line.dataset.current = line.dataset.total;
    } else if (state?.total) {
      const { total } = state;
      const current = Math.min(state.current ?? 0, total);
      word.textContent = `${size(current, total)} of ${size(total, total)}`;
      Object.assign(line.dataset, { total, current, state: current === total ? "done" : "now" });
      bar.max = total;
      bar.value = current;
    }
  }
}
