/** Says how the line stands and what the server complained of; imports the feed's states. */

import type { Feed, Line } from "./feed";
import type { ServerError } from "./frames";
import { byId, say } from "./page";
import { age, clock } from "./words";
import type { World } from "./world";

const ERROR_SHOWN_MS = 20_000;
/** Frames come twice a second: older than this is worth a word. */
const STALE_MS = 3_000;

const SHORT: Readonly<Record<Line["state"], string>> = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Reconnecting",
  refused: "Refused",
};

export class Signals {
  private errorAt = 0;
  private sticky = false;
  private cutAtMs = 0;

  constructor(private readonly world: World) {
    byId("error-close").addEventListener("click", () => this.clearError());
  }

  /** An error of the server, in its own words. */
  error({ code, field, expected, message }: ServerError): void {
    const title = code.replaceAll("_", " ");
    const wanted = expected !== "" && !message.includes(expected) ? ` Expected ${expected}.` : "";
    const where = field !== "" && !message.includes(field) ? ` (${field})` : "";
    this.show(`The server says: ${title}`, `${message}${where}${wanted}`, false);
  }

  /** Something that the page itself cannot do; stays until it is dismissed. */
  show(title: string, text: string, sticky = true): void {
    say(byId("error-title"), title);
    say(byId("error-text"), text);
    byId("error").hidden = false;
    this.errorAt = performance.now();
    this.sticky = sticky;
  }

  line(line: Line, now: number): void {
    if (line.state !== "live" && this.cutAtMs === 0) this.cutAtMs = this.world.serverMs(now);
    if (line.state === "live") {
      this.cutAtMs = 0;
      if (!this.sticky) this.clearError();
    }
  }

  update(feed: Feed, now: number): void {
    const { line } = feed;
    const silence = now - feed.lastFrameAt;
    const stale = line.state === "live" && silence > STALE_MS;
    byId("line").dataset["state"] = stale ? "stale" : line.state;
    const again = line.state === "connecting" && line.before;
    say(byId("connection"), stale ? "Quiet" : again ? "Reconnecting" : SHORT[line.state]);
    const heard = feed.lastFrameAt > 0;
    say(byId("frame-age"), heard ? `frame ${age(silence)} ago` : "no frame yet");
    this.banner(line, now);
    // While the line is refused, the reason stays.
    const over = now - this.errorAt > ERROR_SHOWN_MS && line.state === "live";
    if (!this.sticky && over) this.clearError();
  }

  private banner(line: Line, now: number): void {
    const first = line.state === "connecting" && !line.before && line.attempt <= 1;
    byId("banner").hidden = line.state === "live" || first;
    byId("stage").classList.toggle("cut", line.state !== "live" && line.before);
    const lost = line.before ? "Connection lost" : "No connection";
    say(byId("banner-title"), line.state === "refused" ? "Not let in" : lost);
    const wait = Math.max(0, Math.ceil((line.retryAt - now) / 1000));
    const next = line.retryAt > 0 ? `Next try in ${wait} s.` : `Trying again (${line.attempt}).`;
    const shown = line.before ? ` The map shows ${clock(this.cutAtMs)}.` : "";
    say(byId("banner-text"), `${line.why} ${next}${shown}`.trim());
    byId<HTMLButtonElement>("retry").disabled = line.retryAt === 0;
  }

  private clearError(): void {
    byId("error").hidden = true;
    this.sticky = false;
  }
}
