// Buttons with `data-meant` work only for a press that was meant for them: not for a key that is still held from the page
// before, nor for the second click of a double click there, nor in a window that came to the front under the pointer.

const DELAY = 1000; // after the page is in front, and no key or pointer that could press is down
const KEYS = new Set(["Enter", " "]);
const MEANT = "[data-meant]";
let armed = false;
let down = false; // pressed before the buttons worked, and not released yet
let timer;

/** Marks the buttons; to be called again when there are new ones. */
export function mark() {
  for (const button of document.querySelectorAll(MEANT)) button.ariaDisabled = String(!armed);
}

function set(on) {
  armed = on;
  mark();
}

function wait() {
  clearTimeout(timer);
  set(false);
  if (!down && !document.hidden && document.hasFocus()) timer = setTimeout(set, DELAY, true);
}

function begin() {
  down = false;
  wait();
}

/** Notes that a key or pointer went down or up while the buttons do not work yet: they wait for its release. */
function pressed(isDown) {
  if (armed) return;
  down = isDown;
  wait();
}

function stop(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

const isMeant = (event) => event.target instanceof Element && event.target.closest(MEANT) !== null;

function onKey(event) {
  if (!KEYS.has(event.key)) return;
  const works = armed && !event.repeat;
  pressed(event.type === "keydown");
  if (!works && isMeant(event)) stop(event);
}

for (const name of ["focus", "blur", "pageshow"]) addEventListener(name, begin);
document.addEventListener("visibilitychange", begin);
for (const name of ["keydown", "keyup"]) addEventListener(name, onKey, true);
for (const [name, isDown] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) {
  addEventListener(name, () => pressed(isDown), true);
}
addEventListener("click", (event) => {
  if (isMeant(event) && !(armed && event.isTrusted)) stop(event);
}, true);
begin();
