// The page of the notebooks: its countdowns run, and it shows what has changed meanwhile.

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
    const response = await fetch(location.pathname);
    if (!response.ok) return;
    text = await response.text();
  } catch {
    return; // the server is stopped, or the network away: what is shown stays
  }
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("notebooks");
  if (!fresh || fresh.innerHTML === shown) return;
  const focused = document.activeElement.id;
  shown = fresh.innerHTML;
  list.replaceChildren(...fresh.childNodes);
  count();
  document.getElementById(focused)?.focus();
}

count();
setInterval(count, 1000);
setInterval(look, LOOK_AGAIN);
document.addEventListener("visibilitychange", look);
