// The page of the notebooks: its countdowns run, and it shows what has changed meanwhile.

import { NO_KEY, headers, key } from "./access.js";
import { mark } from "./gesture.js";

const LOOK_AGAIN = 5000;
const list = document.getElementById("notebooks");
let shown = list.innerHTML;

function count() {
  for (const place of list.querySelectorAll("[data-stops-at]")) {
    const left = Math.max(0, Math.round(Number(place.dataset.stopsAt) - Date.now() / 1000));
    place.textContent = `, in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  }
}

/** The list as the server gives it now, unless somebody reads on in what is unfolded. */
async function look() {
  if (document.hidden || list.querySelector("details[open]")) return;
  let text;
  try {
    const response = await fetch(location.pathname, { headers: headers() });
    if (!response.ok && response.status !== 401) return;
    text = await response.text();
  } catch {
    return; // the server is stopped, or the network away: what is shown stays
  }
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("notebooks");
  if (!fresh || "empty" in fresh.dataset) complain(NO_KEY); // 401, or what is shown without the key
  else if (fresh.innerHTML !== shown) show(fresh);
}

function show(fresh) {
  const focused = document.activeElement.id;
  shown = fresh.innerHTML;
  list.replaceChildren(...fresh.childNodes);
  mark();
  count();
  document.getElementById(focused)?.focus();
}

function complain(text) {
  const problem = document.getElementById("problem");
  problem.textContent = text;
  problem.hidden = false;
}

/** Goes to a notebook, with the token that its server demands. */
async function open(address) {
  const response = await fetch(address, { method: "POST", headers: headers() });
  if (response.ok) location.assign((await response.json()).url);
  else complain(response.status === 401 ? NO_KEY : "There is no such notebook here, or not any more.");
}

list.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.action.endsWith("/open")) {
    event.preventDefault();
    open(form.action);
  } else if (key()) {
    // No script has the answer to a form: it shows a page, or is saved to a file.
    event.preventDefault();
    const token = Object.assign(document.createElement("input"), { type: "hidden", name: "token", value: key() });
    form.append(token);
    form.submit();
    token.remove();
  }
});

count();
if ("empty" in list.dataset) look();
setInterval(count, 1000);
setInterval(look, LOOK_AGAIN);
document.addEventListener("visibilitychange", look);
