// A log as a terminal shows it: text only, colours, carriage returns; follows its end unless scrolled up.

import { plain, render, Style } from "./ansi.js";

const MOST_ROWS = 5000;
const MOST_KEPT = 100000;

export class Log {
  /** `button` is shown while the log is scrolled up, and leads back to its end. */
  constructor(pre, button) {
    this.pre = pre;
    this.button = button;
    this.onDraw = () => {};
    this.clear();
    pre.addEventListener("scroll", () => {
      this.following = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24;
      button.hidden = this.following;
    });
    button.addEventListener("click", () => {
      this.following = true;
      this.draw();
      pre.focus();
    });
  }

  clear() {
    this.pre.replaceChildren();
    this.fresh = []; // lines that are not drawn yet
    this.kept = []; // plain lines, for a download
    this.lost = 0;
    this.line = "";
    this.overwrite = false;
    this.style = new Style();
    this.following = true;
  }

  add(text) {
    for (const part of text.split(/(\r\n|\n|\r)/)) {
      if (part === "\n" || part === "\r\n") this.end();
      else if (part === "\r") this.overwrite = true;
      else if (part) {
        this.line = this.overwrite ? part : this.line + part;
        this.overwrite = false;
      }
    }
    if (!this.pending) {
      this.pending = true;
      requestAnimationFrame(() => this.draw());
    }
  }

  end() {
    this.fresh.push(this.line);
    this.kept.push(plain(this.line));
    if (this.kept.length > MOST_KEPT) this.lost += this.kept.splice(0, MOST_KEPT / 10).length;
    this.line = "";
    this.overwrite = false;
  }

  /** All that was said, without colours. */
  get text() {
    const note = this.lost ? `[the first ${this.lost} lines were left out]\n` : "";
    return `${note}${[...this.kept, plain(this.line)].join("\n")}`;
  }

  draw() {
    this.pending = false;
    this.pre.querySelector(".open")?.remove();
    const rows = this.fresh.slice(-MOST_ROWS).map((line) => this.row(`${line}\n`, this.style));
    this.fresh = [];
    if (this.line) {
      rows.push(this.row(this.line, this.style.copy()));
      rows.at(-1).classList.add("open");
    }
    this.pre.append(...rows);
    while (this.pre.childElementCount > MOST_ROWS) this.pre.firstElementChild.remove();
    this.onDraw(rows);
    if (this.following) this.pre.scrollTop = this.pre.scrollHeight;
    this.button.hidden = this.following;
  }

  row(line, style) {
    const row = document.createElement("span");
    row.className = "row";
    render(line, row, style);
    return row;
  }

  /** Brings a row into the middle of the log. */
  reveal(row) {
    this.following = false;
    this.pre.scrollTop = row.offsetTop - this.pre.offsetTop - this.pre.clientHeight / 2;
    this.button.hidden = false;
  }
}
