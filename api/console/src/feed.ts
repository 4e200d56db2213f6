/** The one websocket: opens it, says hello, watches the city, comes back after a cut; imports frames.
 *
 * connecting -> live -> waiting -> connecting ...; `refused` is waiting after the server said no.
 */

import { type Asked, type Frame, parseFrame, SUBPROTOCOL } from "./frames";

export const CONNECT_LIMIT_MS = 8_000;
/** After so much silence the page asks whether the line is alive, ... */
export const SILENCE_MS = 5_000;
/** ... and after so much it takes the line for dead. */
export const DEAD_MS = 20_000;
export const BACK_OFF_MS: readonly number[] = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
export const REFUSED_BACK_OFF_MS = 30_000;
/** A line that held so long starts the back-off anew. */
const STEADY_MS = 5_000;

export type LineState = "connecting" | "live" | "waiting" | "refused";

export interface Line {
  state: LineState;
  /** How many times the page has tried since it was last live. */
  attempt: number;
  /** When the next try comes, by `performance.now()`; 0 while there is a line. */
  retryAt: number;
  /** Why there is no line, in words. */
  why: string;
  /** Whether there has ever been a line. */
  before: boolean;
}

export interface FeedEvents {
  frame(frame: Frame): void;
  line(line: Line): void;
}

const CLOSE_WORDS: Readonly<Record<number, string>> = {
  1000: "The server closed the line.",
  1001: "The server is going away.",
  1006: "The line was cut or the server cannot be reached.",
  1008: "The server refused this page.",
  1009: "A frame was too large.",
  1011: "The server had an internal error.",
  1012: "The server is starting again.",
  1013: "The server is too busy.",
  4401: "The token is not good.",
  4403: "The token is not for this city or not an operator's.",
  4408: "The line was too slow for all that happens.",
};

/** The stream's "unauthorised" and "forbidden", and a policy violation by whoever stands between. */
const REFUSALS = new Set([4401, 4403, 1008]);

const sentence = (text: string): string =>
  text === "" ? "" : text.charAt(0).toUpperCase() + text.slice(1).replace(/\.?$/, ".");

export class Feed {
  readonly line: Line = { state: "connecting", attempt: 0, retryAt: 0, why: "", before: false };
  frames = 0;
  lastFrameAt = 0;
  private socket: WebSocket | null = null;
  private timer = 0;
  private watch = 0;
  private liveAt = 0;
  private askedAt = 0;
  /** An error frame before `welcome`: the close that follows is a refusal. */
  private erred = false;

  constructor(
    private readonly stream: string,
    private readonly token: string,
    private readonly events: FeedEvents,
  ) {
    this.watch = window.setInterval(() => this.guard(), 1_000);
  }

  open(): void {
    window.clearTimeout(this.timer);
    this.drop();
    this.erred = false;
    this.line.attempt += 1;
    this.say("connecting", 0, this.line.why);
    let socket: WebSocket;
    try {
      socket = new WebSocket(this.stream, SUBPROTOCOL);
    } catch (error) {
      this.later("refused", `The stream's address cannot be used: ${String(error)}`);
      return;
    }
    this.socket = socket;
    this.timer = window.setTimeout(() => {
      this.drop();
      this.later("waiting", "The server did not answer in time.");
    }, CONNECT_LIMIT_MS);
    socket.onopen = () => {
      this.send({ type: "hello", token: this.token, system: "wgs84" });
    };
    socket.onmessage = (message) => {
      if (typeof message.data === "string") this.take(message.data);
    };
    socket.onclose = (event) => {
      const refused = this.erred || REFUSALS.has(event.code);
      const words = CLOSE_WORDS[event.code] ?? `The server closed the line (${event.code}).`;
      this.drop();
      this.later(refused ? "refused" : "waiting", sentence(event.reason) || words);
    };
  }

  /** Try at once instead of waiting out the back-off. */
  retry(): void {
    if (this.line.retryAt > 0) this.open();
  }

  close(): void {
    window.clearTimeout(this.timer);
    window.clearInterval(this.watch);
    this.drop();
  }

  private take(text: string): void {
    const frame = parseFrame(text);
    if (frame === null) return;
    this.frames += 1;
    this.lastFrameAt = performance.now();
    if (frame.type === "welcome") {
      window.clearTimeout(this.timer);
      this.liveAt = this.lastFrameAt;
      this.erred = false;
      this.line.before = true;
      // Not earlier: what comes before the welcome is refused.
      this.send({ type: "watch_city" });
      this.say("live", 0, "");
    } else if (frame.type === "error" && this.line.state !== "live") {
      this.erred = true;
    }
    this.events.frame(frame);
  }

  private guard(): void {
    if (this.line.state !== "live") return;
    const now = performance.now();
    const silence = now - this.lastFrameAt;
    if (now - this.liveAt > STEADY_MS) this.line.attempt = 0;
    if (silence > DEAD_MS) {
      this.drop();
      this.later("waiting", "The server went silent.");
    } else if (silence > SILENCE_MS && now - this.askedAt > SILENCE_MS) {
      this.askedAt = now;
      this.send({ type: "heartbeat" });
    }
  }

  private later(state: "waiting" | "refused", why: string): void {
    window.clearTimeout(this.timer);
    const step = Math.min(Math.max(this.line.attempt, 1), BACK_OFF_MS.length) - 1;
    const wait = state === "refused" ? REFUSED_BACK_OFF_MS : (BACK_OFF_MS[step] ?? 0);
    // Pages cut together do not come back together.
    const delay = wait * (0.8 + 0.4 * Math.random());
    this.timer = window.setTimeout(() => this.open(), delay);
    this.say(state, performance.now() + delay, why);
  }

  private send(frame: Asked): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  private say(state: LineState, retryAt: number, why: string): void {
    Object.assign(this.line, { state, retryAt, why });
    this.events.line(this.line);
  }
}
