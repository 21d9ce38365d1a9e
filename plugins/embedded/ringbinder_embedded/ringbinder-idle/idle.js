// An extension of JupyterLab: counts down before an idle notebook is stopped, with a button that keeps it.
//
// The launcher writes `stops.json` beside this file: {"stops_at": Unix seconds or null}. JupyterLab loads what
// package.json names and takes the plugin from the container below, which is all that a bundler would make of it.

(() => {
  const NAME = "ringbinder-idle";
  const LOOK_EVERY = 10000; // milliseconds
  const TITLE = /^\(\d+:\d\d\) /;
  const STYLE = `
    #${NAME} {
      position: fixed; z-index: 10000; inset-inline: 0; bottom: 0; margin: auto; padding: 12px 16px; max-width: 44rem;
      display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px; box-sizing: border-box;
      font: 14px/1.4 var(--jp-ui-font-family); color: var(--jp-ui-font-color1); background: var(--jp-layout-color1);
      border: 1px solid var(--jp-warn-color0); border-bottom: 0; border-radius: 6px 6px 0 0;
      box-shadow: 0 0 12px rgb(0 0 0 / 40%);
    }
    #${NAME}[hidden] { display: none; }
    #${NAME} p { flex: 1 1 16rem; margin: 0; }
    #${NAME} b { font-variant-numeric: tabular-nums; }
    #${NAME} button {
      padding: 6px 14px; font: inherit; font-weight: 600; cursor: pointer; border: 0; border-radius: 4px;
      color: var(--jp-ui-inverse-font-color0, #fff); background: var(--jp-brand-color0, #0d47a1);
    }
    #${NAME} button:focus-visible { outline: 2px solid var(--jp-ui-font-color1); outline-offset: 2px; }`;

  const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;

  function banner() {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    const box = document.createElement("div");
    box.id = NAME;
    box.hidden = true;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "This notebook is idle");
    const text = document.createElement("p");
    text.setAttribute("role", "alert"); // said once: the countdown is no part of it
    const rest = document.createElement("b");
    rest.setAttribute("role", "timer");
    const keep = document.createElement("button");
    keep.type = "button";
    keep.textContent = "Keep it running";
    box.append(text, rest, keep);
    document.body.append(box);
    return { box, text, rest, keep };
  }

  function activate(app) {
    const { baseUrl, token } = app.serviceManager.serverSettings;
    const ask = (path) => fetch(baseUrl + path, { cache: "no-store", headers: { Authorization: `token ${token}` } });
    const { box, text, rest, keep } = banner();
    let stopsAt = null; // Unix seconds
    let kept = null; // the end that was put off, until the launcher tells another one

    function say(words, countsDown) {
      if (text.textContent !== words) text.textContent = words;
      keep.hidden = rest.hidden = !countsDown;
      box.hidden = !words;
    }

    function show() {
      const title = document.title.replace(TITLE, "");
      if (stopsAt === null || stopsAt === kept) {
        say("", false);
        if (document.title !== title) document.title = title;
        return;
      }
      const seconds = Math.max(0, Math.round(stopsAt - Date.now() / 1000));
      const time = new Date(1000 * stopsAt).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      say(`This notebook has not been used for a while: it will be stopped at ${time}. Files that you changed are kept.`, true);
      rest.textContent = clock(seconds);
      document.title = `(${clock(seconds)}) ${title}`;
    }

    async function look() {
      try {
        const answer = await ask(`lab/extensions/${NAME}/stops.json`);
        stopsAt = answer.ok ? (await answer.json()).stops_at : null;
        show();
      } catch {
        if (stopsAt === null || stopsAt > Date.now() / 1000) return; // the connection is lost, which JupyterLab tells
        document.title = document.title.replace(TITLE, "");
        say("This notebook was stopped, since it was not used. Files that you changed are kept: see `ringbinder sessions`.", false);
        clearInterval(looking);
        clearInterval(counting);
      }
    }

    keep.addEventListener("click", async () => {
      // A request that counts as use, unlike that for a file.
      const answer = await ask("api/status").catch(() => null);
      if (!answer?.ok) return;
      kept = stopsAt;
      show();
    });
    const looking = setInterval(look, LOOK_EVERY);
    const counting = setInterval(show, 1000);
    look();
  }

  const plugin = { id: `${NAME}:plugin`, autoStart: true, activate };
  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB[NAME] = {
    init() {},
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
})();
