/** What the page is to show, from the fragment of its address; imports nothing.
 *
 * `#token=...&stream=ws://host:port&city=demo`. A fragment never leaves the browser.
 */

export interface Config {
  token: string;
  stream: string;
  city: string;
}

export function readConfig(fragment: string): Config {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  return {
    token: fields.get("token") ?? "",
    stream: fields.get("stream") ?? "",
    city: fields.get("city") ?? "",
  };
}

export const writeConfig = (config: Config): string =>
  `#${new URLSearchParams({ ...config }).toString()}`;

/** Why `config` opens no stream, or null. */
export function problem(config: Config): "no token" | "no stream" | "bad stream" | null {
  if (config.token === "") return "no token";
  if (config.stream === "") return "no stream";
  try {
    const { protocol } = new URL(config.stream);
    return protocol === "ws:" || protocol === "wss:" ? null : "bad stream";
  } catch {
    return "bad stream";
  }
}

/** The stream on the page's own host, as a first guess. */
export const ownStream = (place: Location): string =>
  `${place.protocol === "https:" ? "wss" : "ws"}://${place.host}`;
