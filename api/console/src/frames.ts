/** The frames of `hexrun.v1.json` that an operator's page sends and gets; imports nothing. */

/** `[id, lat, lon, heading_deg, state, at_ms]`; no time while only the start of a shift is known. */
export type RiderRow = [
  id: string,
  lat: number,
  lon: number,
  heading_deg: number | null,
  state: string,
  at_ms: number | null,
];

export interface StopView {
  kind: string;
  lat: number;
  lon: number;
  state: string;
}

export interface OrderView {
  order_id: string;
  version: number;
  state: string;
  code: string;
  rider_id: string | null;
  promise_to_ms: number;
  stops: StopView[];
}

export interface Welcome {
  type: "welcome";
  role: string;
  subject: string;
  server_ms: number;
}

export interface City {
  type: "city";
  centre: { lat: number; lon: number };
  server_ms: number;
  riders: RiderRow[];
  orders: OrderView[];
}

export interface Riders {
  type: "riders";
  server_ms: number;
  riders: RiderRow[];
}

export interface Orders {
  type: "orders";
  orders: OrderView[];
}

export interface ServerError {
  type: "error";
  code: string;
  field: string;
  value: string | number | boolean | null;
  expected: string;
  message: string;
}

export type Frame = Welcome | City | Riders | Orders | ServerError;

export type Asked =
  | { type: "hello"; token: string; system: "wgs84" }
  | { type: "watch_city" }
  | { type: "heartbeat" };

export const SUBPROTOCOL = "hexrun.v1.json";

/** The frame in `text`; null when it is no object with a `type`. Other types are for others. */
export function parseFrame(text: string): Frame | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && "type" in value) return value as Frame;
  } catch {
    // falls through: not JSON
  }
  return null;
}
