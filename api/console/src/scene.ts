/** Turns the world into marks and lines and draws them; imports the painter, the world and the ground. */

import type { Camera } from "./camera";
import type { Cell, Ground } from "./ground";
import { Fills, Lines, Marks, packed, type Painter, Shape } from "./painter";
import type { Choice } from "./selection";
import { FADE_MS, LINGER_MS, type Order, type Rider, type Stop, type World } from "./world";
import { isServed, LATE, orderState, type Rgb, riderState, WAITING } from "./words";

export const GROUND: Rgb = [11, 16, 22];
const GRID: Rgb = [52, 68, 86];
const WHITE: Rgb = [240, 246, 252];
/** What is not picked steps back. */
const BACK = 0.3;
const SHADE_MAX = 0.42;
/** So many waiting orders fill two thirds of the shade. */
const SHADE_ORDERS = 4;
/** Metres a pixel below which the shade steps back: close by it would flood the map. */
const SHADE_SCALE = 9;
const PICK_PX = 14;

const SHAPES: Readonly<Record<string, Shape>> = { pickup: Shape.square, visit: Shape.triangle };

export class Scene {
  private readonly grid = new Lines();
  private readonly shades = new Fills();
  private readonly lines = new Lines();
  private readonly stops = new Marks();
  private readonly riders = new Marks();
  private readonly halos = new Marks();
  private gridVersion = -1;

  constructor(
    private readonly world: World,
    private readonly ground: Ground,
    private readonly camera: Camera,
    private readonly choice: Choice,
  ) {}

  /** Moves the riders on. Whether anything moves or fades by itself. */
  step(now: number): boolean {
    let moving = false;
    for (const { glide } of this.world.riders.values()) if (glide.step(now)) moving = true;
    return this.world.sweep(now) || moving;
  }

  draw(painter: Painter, dpr: number, now: number): void {
    const { world, ground, choice } = this;
    const newGround = ground.version !== this.gridVersion;
    if (newGround) this.layGrid();
    const newShade = ground.shade(world);
    if (newShade) this.layShades(ground.cells);
    for (const batch of [this.lines, this.stops, this.riders, this.halos]) batch.clear();
    for (const order of world.orders.values()) {
      if (!choice.hiddenOrders.has(order.state)) this.layOrder(order, now);
    }
    for (const rider of world.riders.values()) {
      if (!choice.hiddenRiders.has(rider.state)) this.layRider(rider);
    }
    painter.begin(this.camera, dpr, Math.min(Math.max(this.camera.scale / SHADE_SCALE, 0.35), 1));
    painter.draw(this.shades, newShade);
    painter.draw(this.grid, newGround);
    painter.draw(this.lines);
    painter.draw(this.stops);
    painter.draw(this.riders);
    painter.draw(this.halos);
  }

  /** What lies under the point of the map, the nearest first. */
  pick(screenX: number, screenY: number): { kind: "rider" | "order"; id: string } | null {
    const { world, camera, choice } = this;
    let best: { kind: "rider" | "order"; id: string } | null = null;
    let nearest = PICK_PX;
    const look = (x: number, y: number, reach: number): boolean => {
      const far = Math.hypot(camera.screenX(x) - screenX, camera.screenY(y) - screenY) - reach;
      if (far >= nearest) return false;
      nearest = far;
      return true;
    };
    for (const order of world.orders.values()) {
      if (order.endedAt !== null || choice.hiddenOrders.has(order.state)) continue;
      for (const stop of order.stops) {
        if (isServed(stop.state) && !choice.isSelected("order", order.id)) continue;
        if (look(stop.x, stop.y, 0)) best = { kind: "order", id: order.id };
      }
    }
    for (const { id, state, glide } of world.riders.values()) {
      if (choice.hiddenRiders.has(state)) continue;
      // Riders lie on top: of two as near, the rider is meant.
      if (look(glide.x, glide.y, 2)) best = { kind: "rider", id };
    }
    return best;
  }

  /** The radius of a rider's mark in pixels: larger as one comes closer, smaller in a crowd. */
  private radius(): number {
    const close = Math.log2(16 / this.camera.scale);
    const crowd = this.world.riders.size > 1500 ? -0.9 : 0;
    return Math.min(Math.max(4 + close * 0.75 + crowd, 2.6), 8.5);
  }

  /** 0 to 1: how far an order is from stepping back or from having faded. */
  private presence(order: Order, now: number): number {
    const gone = order.endedAt === null ? 0 : now - order.endedAt - (LINGER_MS - FADE_MS);
    const fading = 1 - Math.min(Math.max(gone / FADE_MS, 0), 1);
    return fading * (this.inFocus(order) ? 1 : BACK);
  }

  private inFocus(order: Order): boolean {
    const { selected } = this.choice;
    if (selected === null) return true;
    return selected.kind === "order" ? selected.id === order.id : selected.id === order.riderId;
  }

  private layOrder(order: Order, now: number): void {
    const alpha = this.presence(order, now);
    if (alpha <= 0) return;
    const { choice, world } = this;
    const picked = choice.selected !== null && this.inFocus(order);
    const { rgb } = orderState(order.state);
    const radius = this.radius() * 0.95 + 0.6;
    const late = world.isLate(order, now);
    const rider = order.riderId === null ? undefined : world.riders.get(order.riderId);
    const ahead: Stop[] = [];
    for (const stop of order.stops) {
      const served = isServed(stop.state);
      if (!served) ahead.push(stop);
      if (served && !picked && order.endedAt === null) continue;
      const strength = alpha * (served && order.endedAt === null ? 0.4 : 1);
      const shape = SHAPES[stop.kind] ?? Shape.diamond;
      this.stops.add(stop.x, stop.y, 0, radius, shape, packed(rgb, strength));
      if (!served && choice.isSelected("order", order.id)) {
        this.halos.add(stop.x, stop.y, 0, radius + 5, Shape.ring, packed(WHITE, 0.8));
      }
    }
    const next = ahead[0];
    if (late && next !== undefined) {
      this.stops.add(next.x, next.y, 0, radius + 3.5, Shape.ring, packed(LATE, alpha));
    }
    if (order.endedAt !== null) return;
    const bold = picked ? 1 : 0;
    if (rider !== undefined && next !== undefined) {
      const { x, y } = rider.glide;
      this.lines.add(x, y, next.x, next.y, 1.3 + bold, 0, packed(rgb, alpha * (0.5 + 0.45 * bold)));
    }
    for (let i = 1; i < ahead.length; i += 1) {
      const [a, b] = [ahead[i - 1], ahead[i]];
      if (a === undefined || b === undefined) continue;
      this.lines.add(a.x, a.y, b.x, b.y, 1 + bold, 7, packed(rgb, alpha * (0.3 + 0.6 * bold)));
    }
  }

  private layRider(rider: Rider): void {
    const { choice } = this;
    const { x, y, heading } = rider.glide;
    const { selected } = choice;
    const picked = choice.isSelected("rider", rider.id);
    const own =
      selected?.kind === "order" && this.world.orders.get(selected.id)?.riderId === rider.id;
    const off = rider.state === "off";
    const back = selected !== null && !picked && !own;
    const alpha = (back ? BACK + 0.1 : 1) * (off ? 0.7 : 1);
    const radius = this.radius() * (off ? 0.75 : 1) + (picked ? 1.5 : 0);
    const shape = heading === null || off ? Shape.disc : Shape.drop;
    const colour = packed(riderState(rider.state).rgb, alpha);
    const marks = picked || own ? this.halos : this.riders;
    marks.add(x, y, heading ?? 0, radius, shape, colour);
    if (picked) this.halos.add(x, y, 0, radius + 6, Shape.ring, packed(WHITE, 0.9));
  }

  private layGrid(): void {
    const { ends, strength } = this.ground.edges;
    this.gridVersion = this.ground.version;
    this.grid.clear();
    strength.forEach((part, i) => {
      const at = i * 4;
      const [ax, ay, bx, by] = [ends[at], ends[at + 1], ends[at + 2], ends[at + 3]];
      if (part <= 0 || ax === undefined || ay === undefined) return;
      this.grid.add(ax, ay, bx ?? ax, by ?? ay, 1, 0, packed(GRID, part * 0.55));
    });
  }

  private layShades(cells: readonly Cell[]): void {
    this.shades.clear();
    for (const { waiting, corners } of cells) {
      if (waiting === 0) continue;
      const alpha = 0.05 + SHADE_MAX * (1 - Math.exp(-waiting / SHADE_ORDERS));
      this.shades.add(corners, packed(WAITING, alpha));
    }
  }
}
