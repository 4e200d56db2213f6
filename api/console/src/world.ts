/** The city as the page knows it: riders, orders, counts and changes; imports frames, words and glides.
 *
 * Frames go in with the time of `performance.now()` at which they came; nothing here draws.
 */

import type { City, OrderView, RiderRow, StopView } from "./frames";
import { Glide } from "./glide";
import { Plane, type Point } from "./plane";
import { isDone, isEnded, isServed, ORDER_STATES, RIDER_STATES } from "./words";

/** An ended order stays on the map so long, fading in the last part. */
export const LINGER_MS = 6_000;
export const FADE_MS = 4_000;
/** A rider who has gone off stays so long. */
const OFF_MS = 60_000;
export const CHANGES_MAX = 60;
/** A centre that wanders less far keeps the plane, and with it what is on the map. */
const PLANE_M = 30_000;
/** Ended orders are remembered by id, so that none counts twice; the oldest are forgotten. */
const COUNTED_MAX = 200_000;

export interface Rider {
  readonly id: string;
  state: string;
  lat: number;
  lon: number;
  headingDeg: number | null;
  /** The phone's time of the last fix; null before the first. */
  atMs: number | null;
  /** When his shift ended, by `performance.now()`; null while it lasts. */
  offAt: number | null;
  readonly glide: Glide;
  /** His live orders. */
  readonly orders: Set<Order>;
}

export interface Stop extends StopView, Point {}

export interface Order {
  readonly id: string;
  version: number;
  state: string;
  code: string;
  riderId: string | null;
  promiseToMs: number;
  stops: Stop[];
  /** When it ended, by `performance.now()`; null while it is live. */
  endedAt: number | null;
}

export interface Change {
  readonly atMs: number;
  readonly orderId: string;
  readonly state: string;
  readonly riderId: string | null;
}

export class World {
  plane: Plane | null = null;
  readonly riders = new Map<string, Rider>();
  readonly orders = new Map<string, Order>();
  /** The newest first. */
  readonly changes: Change[] = [];
  /** Counts up with every change of an order or of the set of riders. */
  revision = 0;
  done = 0;
  lost = 0;
  /** Of the done orders that had a promise: how many there were, and how many kept it. */
  promised = 0;
  kept = 0;
  readonly riderCounts = new Map<string, number>();
  readonly orderCounts = new Map<string, number>();
  private readonly counted = new Set<string>();
  private serverAhead = Number.NaN;

  /** The server's clock; the browser's own until the server has said. */
  serverMs(now: number): number {
    return Number.isNaN(this.serverAhead) ? Date.now() : now + this.serverAhead;
  }

  heardClock(serverMs: number, now: number): void {
    this.serverAhead = serverMs - now;
  }

  /** All that there is: what it does not name is gone. */
  snapshot(frame: City, now: number): void {
    this.heardClock(frame.server_ms, now);
    const { lat, lon } = frame.centre;
    const old = this.plane;
    if (old === null || Math.hypot(old.xOf(lon), old.yOf(lat)) > PLANE_M) {
      this.plane = new Plane(lat, lon);
      this.riders.clear();
      this.orders.clear();
    }
    const riders = new Set(frame.riders.map((row) => row[0]));
    for (const id of this.riders.keys()) if (!riders.has(id)) this.riders.delete(id);
    const orders = new Set(frame.orders.map((order) => order.order_id));
    for (const order of this.orders.values()) {
      if (order.endedAt === null && !orders.has(order.id)) this.forget(order);
    }
    this.takeRiders(frame.riders, now);
    for (const view of frame.orders) {
      const known = this.orders.has(view.order_id);
      // One that ended before this page watched is neither drawn nor counted.
      if (known || !isEnded(view.state)) this.takeOrder(view, now, known);
    }
    this.count();
  }

  takeRiders(rows: readonly RiderRow[], now: number): void {
    const plane = this.plane;
    if (plane === null) return;
    for (const [id, lat, lon, headingDeg, state, atMs] of rows) {
      const x = plane.xOf(lon);
      const y = plane.yOf(lat);
      let rider = this.riders.get(id);
      if (rider === undefined) {
        const orders = new Set<Order>();
        const glide = new Glide(x, y, now);
        rider = { id, state, lat, lon, headingDeg, atMs, offAt: null, glide, orders };
        this.riders.set(id, rider);
        for (const order of this.orders.values()) {
          if (order.riderId === id && order.endedAt === null) orders.add(order);
        }
      }
      rider.glide.moveTo(x, y, headingDeg, now);
      const offAt = state === "off" ? (rider.offAt ?? now) : null;
      Object.assign(rider, { state, lat, lon, headingDeg, atMs, offAt });
    }
    this.count();
  }

  takeOrders(views: readonly OrderView[], now: number): void {
    for (const view of views) this.takeOrder(view, now, true);
    this.count();
  }

  /** Takes away what ended long enough ago. Whether anything is still fading. */
  sweep(now: number): boolean {
    let fading = false;
    for (const order of this.orders.values()) {
      if (order.endedAt === null) continue;
      if (now - order.endedAt < LINGER_MS) fading = true;
      else this.forget(order);
    }
    const riders = this.riders.size;
    for (const { id, offAt } of this.riders.values()) {
      if (offAt !== null && now - offAt > OFF_MS) this.riders.delete(id);
    }
    if (this.riders.size !== riders) this.count();
    return fading;
  }

  isLate(order: Order, now: number): boolean {
    const due = order.promiseToMs;
    return order.endedAt === null && due > 0 && due < this.serverMs(now);
  }

  late(now: number): number {
    let n = 0;
    for (const order of this.orders.values()) if (this.isLate(order, now)) n += 1;
    return n;
  }

  private takeOrder(view: OrderView, now: number, tell: boolean): void {
    const plane = this.plane;
    if (plane === null) return;
    let order = this.orders.get(view.order_id);
    const before = order?.state ?? null;
    const riderBefore = order?.riderId ?? null;
    const ended = isEnded(view.state);
    const first = before !== view.state && this.tally(view, now);
    if (order === undefined && ended) {
      // Over before it was seen, or settled after it left the map: there is nothing to draw.
      if (first && tell) this.tell(view, null, now);
      return;
    }
    const stops = view.stops.map((stop) => ({
      ...stop,
      x: plane.xOf(stop.lon),
      y: plane.yOf(stop.lat),
    }));
    const fields = {
      version: view.version,
      state: view.state,
      code: view.code,
      riderId: view.rider_id,
      promiseToMs: view.promise_to_ms,
      stops,
    };
    if (order === undefined) {
      order = { id: view.order_id, endedAt: null, ...fields };
      this.orders.set(order.id, order);
    } else {
      Object.assign(order, fields);
      if (ended) order.endedAt ??= now;
      else order.endedAt = null;
    }
    if (riderBefore !== null) this.riders.get(riderBefore)?.orders.delete(order);
    if (order.riderId !== null && !ended) this.riders.get(order.riderId)?.orders.add(order);
    const settled = before !== null && isDone(before) && isDone(view.state);
    const changed = before !== view.state || riderBefore !== view.rider_id;
    if (tell && changed && !settled) this.tell(view, riderBefore, now);
    this.revision += 1;
  }

  /** An ended order has no rider any more: it is told with the one it had. */
  private tell(view: OrderView, riderBefore: string | null, now: number): void {
    this.changes.unshift({
      atMs: this.serverMs(now),
      orderId: view.order_id,
      state: view.state,
      riderId: view.rider_id ?? (isEnded(view.state) ? riderBefore : null),
    });
    this.changes.length = Math.min(this.changes.length, CHANGES_MAX);
  }

  /** Whether the order ends here for the first time. */
  private tally(view: OrderView, now: number): boolean {
    if (!isEnded(view.state) || this.counted.has(view.order_id)) return false;
    this.counted.add(view.order_id);
    if (this.counted.size > COUNTED_MAX) {
      for (const oldest of this.counted) {
        this.counted.delete(oldest);
        break;
      }
    }
    if (!isDone(view.state)) {
      this.lost += 1;
      return true;
    }
    this.done += 1;
    if (view.promise_to_ms > 0) {
      this.promised += 1;
      if (this.serverMs(now) <= view.promise_to_ms) this.kept += 1;
    }
    return true;
  }

  private forget(order: Order): void {
    this.orders.delete(order.id);
    if (order.riderId !== null) this.riders.get(order.riderId)?.orders.delete(order);
    this.revision += 1;
  }

  private count(): void {
    this.riderCounts.clear();
    for (const state of RIDER_STATES) this.riderCounts.set(state.name, 0);
    for (const { state } of this.riders.values()) bump(this.riderCounts, state);
    this.orderCounts.clear();
    for (const state of ORDER_STATES) this.orderCounts.set(state.name, 0);
    for (const { state, endedAt } of this.orders.values()) {
      if (endedAt === null) bump(this.orderCounts, state);
    }
  }
}

const bump = (counts: Map<string, number>, key: string): void => {
  counts.set(key, (counts.get(key) ?? 0) + 1);
};

/** The stop that the order's rider goes to, or null when all are served. */
export function nextStop(order: Order): Stop | null {
  return order.stops.find((stop) => !isServed(stop.state)) ?? null;
}
