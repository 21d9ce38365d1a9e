// What one does with a log: search it, wrap its lines, download it.

const by = (id) => document.getElementById(id);

export class LogTools {
  constructor(log, name) {
    this.log = log;
    this.hits = [];
    this.at = -1;
    log.onDraw = (rows) => this.look(rows);
    by("find").addEventListener("input", () => this.search(by("find").value));
    by("find").addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.go(event.shiftKey ? -1 : 1);
    });
    by("previous").addEventListener("click", () => this.go(-1));
    by("next").addEventListener("click", () => this.go(1));
    by("wrap").addEventListener("click", () => this.wrap(by("wrap").ariaPressed !== "true"));
    by("download").addEventListener("click", () => this.download(name));
    this.wrap(localStorage.getItem("wrap") !== "false");
  }

  wrap(on) {
    by("wrap").ariaPressed = String(on);
    this.log.pre.classList.toggle("nowrap", !on);
    localStorage.setItem("wrap", String(on));
  }

  download(name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.log.text], { type: "text/plain" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  /** Marks all lines with `text`, in any case; goes to the last of them. */
  search(text) {
    this.sought = text.toLowerCase();
    for (const row of this.hits) row.classList.remove("hit", "now");
    this.hits = [];
    this.at = -1;
    this.look([...this.log.pre.children]);
    this.go(-1);
  }

  /** Looks through new rows, and forgets those that have left the log. */
  look(rows) {
    if (!this.sought) {
      this.tell();
      return;
    }
    const now = this.hits[this.at];
    this.hits = this.hits.filter((row) => row.isConnected);
    for (const row of rows) {
      if (row.textContent.toLowerCase().includes(this.sought)) {
        row.classList.add("hit");
        this.hits.push(row);
      }
    }
    this.at = this.hits.indexOf(now);
    this.tell();
  }

  go(step) {
    if (this.hits.length) {
      this.hits[this.at]?.classList.remove("now");
      this.at = this.at < 0 ? (step < 0 ? this.hits.length - 1 : 0) : this.at + step;
      this.at = (this.at + this.hits.length) % this.hits.length;
      this.hits[this.at].classList.add("now");
      this.log.reveal(this.hits[this.at]);
    }
    this.tell();
  }

  tell() {
    const [count, many] = [this.hits.length, this.hits.length > 1];
    by("found").value = !this.sought ? "" : count ? `${this.at + 1} of ${count}` : "not found";
    by("previous").hidden = !many;
    by("next").hidden = !many;
  }
}
