// The home page: says what a pasted link means while it is typed, and launches it.

import { headers } from "./access.js";

const by = (id) => document.getElementById(id);
const base = by("home").dataset.base;
let asked = 0;
let shown = null; // what was understood last

async function understand(text) {
  const response = await fetch(`${base}api/v1/link?${new URLSearchParams({ text })}`, { headers: headers() });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");

function show(link) {
  by("understood").hidden = !link;
  by("forms").hidden = Boolean(link);
  shown = link;
  if (!link) return;
  by("provider").textContent = link.provider_name;
  by("repository").textContent = link.repository;
  by("ref").textContent = link.ref;
  by("ref-now").hidden = !link.ref;
  by("ref-row").hidden = !window.pageConfig.repoProviders.find(({ id }) => id === link.provider).ref.enabled;
  by("opens").textContent = link.urlpath || "JupyterLab";
  const address = link.address.replaceAll("(", "%28").replaceAll(")", "%29"); // they end a link in Markdown
  by("address").textContent = link.address;
  by("markdown").textContent = `[![Binder](${link.badge})](${address})`;
  by("rst").textContent = `.. image:: ${link.badge}\n   :target: ${link.address}\n   :alt: Binder`;
  by("html").textContent = `<a href="${escaped(link.address)}"><img src="${escaped(link.badge)}" alt="Binder"></a>`;
}

/** The fields for changes, as they are for a link that was pasted. */
function fill(link) {
  const file = /^doc\/tree\/(.+)$/.exec(link.urlpath);
  by("new-ref").value = link.ref;
  by("new-kind").value = link.urlpath && !file ? "url" : "file";
  by("new-path").value = file ? decodeURIComponent(file[1]) : link.urlpath;
}

/** Asks what `text` means and shows it; null if it means nothing, or something else was typed meanwhile. */
async function update(text) {
  const mine = (asked += 1);
  let link = null;
  let problem = "";
  if (text) {
    try {
      link = await understand(text);
    } catch (error) {
      problem = error.message;
    }
  }
  if (mine !== asked) return null;
  by("problem").textContent = problem;
  show(link);
  return link;
}

async function pasted() {
  const link = await update(by("link").value.trim());
  if (link) fill(link);
  return link;
}

/** The link with the changes that were typed into the fields. */
function changed() {
  const { provider, spec } = shown;
  const form = window.pageConfig.repoProviders.find(({ id }) => id === provider);
  const repository = spec.split("/").slice(0, form.repo.urlEncode ? 1 : 2).join("/");
  const ref = by("new-ref").value.trim();
  const version = encodeURIComponent(ref).replaceAll("%2F", "/");
  const text = `${provider}/${form.ref.enabled && ref ? `${repository}/${version}` : spec}`;
  const path = by("new-path").value.trim();
  if (!path) return text;
  const file = `doc/tree/${path.split("/").map(encodeURIComponent).join("/")}`;
  return `${text}?${new URLSearchParams({ urlpath: by("new-kind").value === "file" ? file : path })}`;
}

let timer;
function later(work) {
  clearTimeout(timer);
  timer = setTimeout(work, 200);
}

by("link").addEventListener("input", () => later(pasted));
for (const id of ["new-ref", "new-kind", "new-path"]) {
  by(id).addEventListener("input", () => {
    if (!shown) return;
    const text = changed();
    by("link").value = text;
    later(() => update(text));
  });
}

by("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(timer);
  const link = await pasted();
  if (link) location.assign(base + link.path);
});

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return "Copied";
  } catch {
    // Not allowed, or the page came over plain http.
    getSelection().selectAllChildren(element);
    return "Press Ctrl+C";
  }
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const said = await copy(by(button.dataset.copy));
    button.textContent = said;
    by("copied").textContent = said;
    setTimeout(() => {
      button.textContent = "Copy";
      by("copied").textContent = "";
    }, 2000);
  });
}

if (by("link").value) pasted();
