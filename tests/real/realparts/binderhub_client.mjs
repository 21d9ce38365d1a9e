// Runs @jupyterhub/binderhub-client outside of a browser: node binderhub_client.mjs FOLDER BUILD-ENDPOINT SPEC OPTIONS
import { pathToFileURL } from "node:url";
import { join } from "node:path";

globalThis.window = globalThis;
const nothing = () => {};
globalThis.document = { cookie: "", hidden: false, addEventListener: nothing, removeEventListener: nothing };

// After a `failed` event the client leaves a rejection that nobody handles (version 0.5.0); browsers only log it.
process.on("unhandledRejection", nothing);

const [folder, endpoint, spec, options] = process.argv.slice(2);
const library = join(folder, "node_modules/@jupyterhub/binderhub-client/lib/client.js");
const { BinderRepository } = await import(pathToFileURL(library));
const repository = new BinderRepository(spec, new URL(endpoint), JSON.parse(options));
for await (const event of repository.fetch()) {
  process.stdout.write(JSON.stringify(event) + "\n");
  if (["ready", "failed"].includes(event.phase)) {
    repository.close();
    break;
  }
}
