// Terminal escapes: which text bears which style. What moves the cursor, sets titles or makes links is left out.

const ESCAPES = /\x1b(?:\[([0-9;:?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const SWITCHES = { 1: "bold", 2: "dim", 3: "italic", 4: "underline" };

/** `line` without its escapes. */
export const plain = (line) => line.replace(ESCAPES, "");

/** The 256 colours of xterm: sixteen named ones, a cube of 6 x 6 x 6, a ramp of greys. */
function indexed(n) {
  if (n < 16) return `c${n % 8}`;
  if (n >= 232) return rgb(8 + 10 * (n - 232), 8 + 10 * (n - 232), 8 + 10 * (n - 232));
  const level = (i) => (i ? 55 + 40 * i : 0);
  return rgb(level(Math.floor((n - 16) / 36)), level(Math.floor((n - 16) / 6) % 6), level((n - 16) % 6));
}

/** A colour, made light enough to be read on the dark ground of the log. */
function rgb(r, g, b) {
  const bright = (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
  const mix = bright < 0.55 ? (0.55 - bright) / (1 - bright) : 0;
  return `rgb(${[r, g, b].map((value) => Math.round(value + (255 - value) * mix)).join(" ")})`;
}

/** The style of text, which goes on from line to line. */
export class Style {
  colour = ""; // a class (c0 to c7) or a value of CSS
  switches = new Set();

  copy() {
    const copy = new Style();
    copy.colour = this.colour;
    copy.switches = new Set(this.switches);
    return copy;
  }

  /** Takes the numbers of one "select graphic rendition". */
  take(codes) {
    const numbers = codes.split(/[;:]/).map(Number);
    for (let i = 0; i < numbers.length; i += 1) {
      const n = numbers[i];
      if (n === 0) {
        this.colour = "";
        this.switches.clear();
      } else if (SWITCHES[n]) this.switches.add(SWITCHES[n]);
      else if (n === 22) ["bold", "dim"].forEach((name) => this.switches.delete(name));
      else if (n === 23 || n === 24) this.switches.delete(SWITCHES[n - 20]);
      else if (n === 39) this.colour = "";
      else if ((n >= 30 && n <= 37) || (n >= 90 && n <= 97)) this.colour = `c${n % 10}`;
      else if (n === 38 || n === 48) {
        const [kind, ...values] = numbers.slice(i + 1, i + 5).map((value) => Math.min(value || 0, 255));
        if (n === 38) this.colour = kind === 5 ? indexed(values[0]) : rgb(...[0, 1, 2].map((at) => values[at] ?? 0));
        i += kind === 5 ? 2 : 4;
      }
    }
  }
}

/** Puts the text of `line` into `element`, in the style that `style` has and then gets. Text only, never markup. */
export function render(line, element, style) {
  const append = (text) => {
    if (!text) return;
    const names = [...style.switches];
    if (/^c\d$/.test(style.colour)) names.push(style.colour);
    if (!names.length && !style.colour) {
      element.append(text);
      return;
    }
    const span = document.createElement("span");
    span.className = names.join(" ");
    if (style.colour.startsWith("rgb")) span.style.color = style.colour;
    span.textContent = text;
    element.append(span);
  };
  let from = 0;
  for (const match of line.matchAll(ESCAPES)) {
    append(line.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === "m") style.take(match[1]);
  }
  append(line.slice(from));
}
