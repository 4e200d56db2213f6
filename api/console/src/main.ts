/** Wires the page together: the address's fragment, the feed, the world, the map and the panel. */

import { type Config, ownStream, problem, readConfig, writeConfig } from "./config";
import { Details } from "./details";
import { Feed } from "./feed";
import type { Frame } from "./frames";
import { CityMap } from "./map";
import { byId, say } from "./page";
import { Panel } from "./panel";
import { Choice, type Selected } from "./selection";
import { Signals } from "./signals";
import { doneOrders } from "./status";
import { capital, clock } from "./words";
import { World } from "./world";

const PANEL_MS = 200;
const STATUS_MS = 60_000;
const GROUND_MS = 2_000;

/** What tests and tools may ask the page: places are degrees, as drawn at the moment. */
export interface Inspection {
  riders(): { id: string; lat: number; lon: number; state: string }[];
  orders(): { order_id: string; state: string }[];
  /** Frames that came over the websocket. */
  frames(): number;
  /** Pictures drawn. */
  painted(): number;
  connected(): boolean;
}

declare global {
  interface Window {
    hexrun: Inspection;
  }
}

const world = new World();
const choice = new Choice(() => changed());
const signals = new Signals(world);
const map = new CityMap(world, choice, (title, text) => signals.show(title, text));
const show = (selected: Selected): void => {
  choice.select(selected);
  map.show(selected);
};
const panel = new Panel(world, choice, { show });
const details = new Details(world, choice, { show });
let config: Config = readConfig(location.hash);
let feed: Feed | null = null;
let coveredAt = 0;
let askedStatusAt = 0;

function changed(): void {
  map.touch();
  panel.updateChoice();
  details.update(performance.now());
}

function take(frame: Frame): void {
  const now = performance.now();
  switch (frame.type) {
    case "welcome":
      world.heardClock(frame.server_ms, now);
      askStatus(now);
      break;
    case "city":
      world.snapshot(frame, now);
      map.cover();
      coveredAt = now;
      break;
    case "riders":
      world.heardClock(frame.server_ms, now);
      world.takeRiders(frame.riders, now);
      break;
    case "orders":
      world.takeOrders(frame.orders, now);
      break;
    case "error":
      signals.error(frame);
      break;
  }
  map.touch();
}

/** Optional: a server without it leaves the page to its own count. */
function askStatus(now: number): void {
  askedStatusAt = now;
  void doneOrders(config).then((done) => {
    if (done !== null) panel.heardDone(done);
  });
}

function tick(): void {
  const now = performance.now();
  if (feed === null) return;
  if (feed.line.state === "live") {
    if (now - askedStatusAt > STATUS_MS) askStatus(now);
    if (now - coveredAt > GROUND_MS) {
      coveredAt = now;
      map.cover();
    }
  }
  world.sweep(now);
  signals.update(feed, now);
  panel.update(now);
  details.update(now);
  if (world.plane !== null) say(byId("clock"), clock(world.serverMs(now)));
}

function start(): void {
  feed?.close();
  feed = null;
  config = readConfig(location.hash);
  const name = config.city === "" ? "City" : capital(config.city);
  say(byId("city"), name);
  document.title = config.city === "" ? "hexrun" : `${name} · hexrun`;
  const dialog = byId<HTMLDialogElement>("connect");
  const trouble = problem(config);
  if (trouble !== null) {
    say(byId("connection"), "Not connected");
    byId("line").dataset["state"] = "waiting";
    byId<HTMLInputElement>("connect-token").value = config.token;
    byId<HTMLInputElement>("connect-stream").value = config.stream || ownStream(location);
    byId<HTMLInputElement>("connect-city").value = config.city;
    if (trouble === "bad stream") {
      signals.show("The stream's address cannot be used", "It begins with ws:// or wss://.");
    }
    if (!dialog.open) dialog.showModal();
    return;
  }
  if (dialog.open) dialog.close();
  const opened = new Feed(config.stream, config.token, {
    frame: take,
    line: (line) => signals.line(line, performance.now()),
  });
  feed = opened;
  opened.open();
}

byId("connect").addEventListener("cancel", (event) => event.preventDefault());
byId("connect-form").addEventListener("submit", () => {
  const field = (id: string): string => byId<HTMLInputElement>(id).value.trim();
  location.hash = writeConfig({
    token: field("connect-token"),
    stream: field("connect-stream"),
    city: field("connect-city"),
  });
});
byId("retry").addEventListener("click", () => feed?.retry());
window.addEventListener("online", () => feed?.retry());
window.addEventListener("hashchange", start);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && choice.selected !== null) choice.select(null);
});

window.hexrun = {
  riders: () => {
    const { plane } = world;
    if (plane === null) return [];
    return [...world.riders.values()].map(({ id, state, glide }) => ({
      id,
      lat: plane.latOf(glide.y),
      lon: plane.lonOf(glide.x),
      state,
    }));
  },
  orders: () => [...world.orders.values()].map(({ id, state }) => ({ order_id: id, state })),
  frames: () => feed?.frames ?? 0,
  painted: () => map.painted,
  connected: () => feed?.line.state === "live",
};

window.setInterval(tick, PANEL_MS);
start();
tick();
