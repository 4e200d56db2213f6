/** The states, their colours and their words, and how numbers are said; imports nothing. */

export type Rgb = readonly [number, number, number];

export interface State {
  name: string;
  words: string;
  rgb: Rgb;
}

export const RIDER_STATES: readonly State[] = [
  { name: "idle", words: "Idle", rgb: [53, 211, 165] },
  { name: "offered", words: "Offered", rgb: [255, 194, 75] },
  { name: "busy", words: "Busy", rgb: [86, 156, 255] },
  { name: "off", words: "Off", rgb: [92, 107, 122] },
];

/** The states of an order that is live, in the order of its life. */
export const ORDER_STATES: readonly State[] = [
  { name: "scheduled", words: "Scheduled", rgb: [139, 156, 173] },
  { name: "open", words: "Open", rgb: [255, 116, 96] },
  { name: "assigned", words: "Assigned", rgb: [194, 145, 255] },
  { name: "under_way", words: "Under way", rgb: [64, 199, 240] },
];

const DONE: Rgb = [150, 222, 120];
const LOST: Rgb = [122, 136, 150];
export const LATE: Rgb = [255, 77, 92];
export const WAITING: Rgb = [255, 116, 96];
const UNKNOWN: Rgb = [139, 156, 173];

const ENDS: readonly State[] = [
  { name: "done", words: "Done", rgb: DONE },
  { name: "completed", words: "Completed", rgb: DONE },
  { name: "cancelled_customer", words: "Cancelled by customer", rgb: LOST },
  { name: "cancelled_merchant", words: "Cancelled by merchant", rgb: LOST },
  { name: "cancelled_system", words: "Cancelled by system", rgb: LOST },
  { name: "expired", words: "Expired", rgb: LOST },
  { name: "returned", words: "Returned", rgb: LOST },
  { name: "failed", words: "Failed", rgb: LOST },
];

const byName = (states: readonly State[]): ReadonlyMap<string, State> =>
  new Map(states.map((state) => [state.name, state]));

const riderStates = byName(RIDER_STATES);
const orderStates = byName([...ORDER_STATES, ...ENDS]);
const ended = new Set(ENDS.map((state) => state.name));

const unknown = (name: string): State => ({ name, words: name.replaceAll("_", " "), rgb: UNKNOWN });

export const riderState = (name: string): State => riderStates.get(name) ?? unknown(name);
export const orderState = (name: string): State => orderStates.get(name) ?? unknown(name);
export const isEnded = (state: string): boolean => ended.has(state);
export const isDone = (state: string): boolean => state === "done" || state === "completed";

/** A stop that nobody has to serve any more. */
export const isServed = (state: string): boolean =>
  state === "done" || state === "skipped" || state === "failed";

export const css = ([r, g, b]: Rgb): string => `rgb(${r} ${g} ${b})`;

const ID_MAX = 12;
/** Long ids begin alike: their ends tell them apart. */
export const shortId = (id: string): string => (id.length > ID_MAX ? `…${id.slice(-7)}` : id);

export const capital = (text: string): string =>
  text.charAt(0).toUpperCase() + text.slice(1).replaceAll("_", " ");

/** `12 s`, `4 min`, `2 h 05 min` */
export function duration(ms: number): string {
  const s = Math.round(Math.abs(ms) / 1000);
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 10) return s % 60 === 0 ? `${min} min` : `${min} min ${s % 60} s`;
  if (min < 60) return `${min} min`;
  return `${Math.floor(min / 60)} h ${String(min % 60).padStart(2, "0")} min`;
}

/** `0.4 s` below ten seconds, then as a duration. */
export const age = (ms: number): string =>
  ms < 9_950 ? `${(Math.max(0, ms) / 1000).toFixed(1)} s` : duration(ms);

export function distance(m: number): string {
  if (m < 1000) return `${Math.round(m / 10) * 10} m`;
  return `${(m / 1000).toFixed(m < 10_000 ? 1 : 0)} km`;
}

const pad = (n: number): string => String(n).padStart(2, "0");

/** The time of day at the browser's place. */
export function clock(ms: number): string {
  const t = new Date(ms);
  return `${pad(t.getHours())}:${pad(t.getMinutes())}:${pad(t.getSeconds())}`;
}

const WINDS = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"];
export const wind = (deg: number): string => WINDS[Math.round(deg / 45) % 8] ?? "N";
