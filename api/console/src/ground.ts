/** The ground: H3 cells around the city's centre and how many orders wait in each; owns h3-js. */

import { cellToBoundary, cellToLatLng, gridDisk, latLngToCell } from "h3-js";

import type { Plane } from "./plane";
import type { World } from "./world";

export const RESOLUTION = 8;
const RINGS_MIN = 4;
const RINGS_MAX = 40;
/** Rings beyond the farthest rider or stop. */
const MARGIN_RINGS = 2;
/** Where a cell's neighbour is, at the least. */
const RING_M = 780;

export interface Cell {
  readonly id: string;
  readonly x: number;
  readonly y: number;
  /** `x, y` of the corners. */
  readonly corners: Float32Array;
  /** Orders that wait for a rider here. */
  waiting: number;
}

/** `ax, ay, bx, by`, each edge once, and how strongly it is drawn, 0 to 1. */
export interface Edges {
  readonly ends: Float32Array;
  readonly strength: Float32Array;
}

export class Ground {
  cells: Cell[] = [];
  edges: Edges = { ends: new Float32Array(), strength: new Float32Array() };
  /** Counts up whenever the cells change. */
  version = 0;
  private plane: Plane | null = null;
  private rings = 0;
  private readonly byId = new Map<string, Cell>();
  private revision = -1;

  /** Lays cells under all that there is; they grow with the city. */
  cover(world: World): void {
    const plane = world.plane;
    if (plane === null) return;
    let far = 0;
    for (const { glide } of world.riders.values()) {
      far = Math.max(far, Math.hypot(glide.x, glide.y));
    }
    for (const { stops } of world.orders.values()) {
      for (const { x, y } of stops) far = Math.max(far, Math.hypot(x, y));
    }
    const needed = Math.ceil(far / RING_M) + MARGIN_RINGS;
    const rings = Math.min(Math.max(needed, RINGS_MIN), RINGS_MAX);
    if (plane === this.plane && rings <= this.rings) return;
    this.plane = plane;
    this.rings = rings;
    this.build(plane);
  }

  /** Counts the waiting orders anew; true when there was a change to count. */
  shade(world: World): boolean {
    if (this.revision === world.revision) return false;
    this.revision = world.revision;
    for (const cell of this.cells) cell.waiting = 0;
    for (const { state, stops } of world.orders.values()) {
      const first = stops[0];
      if (state !== "open" || first === undefined) continue;
      const cell = this.byId.get(latLngToCell(first.lat, first.lon, RESOLUTION));
      if (cell !== undefined) cell.waiting += 1;
    }
    return true;
  }

  private build(plane: Plane): void {
    this.byId.clear();
    this.revision = -1;
    this.version += 1;
    const ids = gridDisk(latLngToCell(plane.lat, plane.lon, RESOLUTION), this.rings);
    this.cells = ids.map((id) => {
      const [lat, lon] = cellToLatLng(id);
      const corners = new Float32Array(
        cellToBoundary(id).flatMap(([cornerLat, cornerLon]) => [
          plane.xOf(cornerLon),
          plane.yOf(cornerLat),
        ]),
      );
      return { id, x: plane.xOf(lon), y: plane.yOf(lat), corners, waiting: 0 };
    });
    for (const cell of this.cells) this.byId.set(cell.id, cell);
    this.edges = edgesOf(this.cells);
  }
}

function edgesOf(cells: readonly Cell[]): Edges {
  const seen = new Map<string, number>();
  const ends: number[] = [];
  const strength: number[] = [];
  const farthest = Math.max(...cells.map(({ x, y }) => Math.hypot(x, y)), 1);
  for (const { corners } of cells) {
    const n = corners.length;
    for (let i = 0; i < n; i += 2) {
      const [ax, ay] = [corners[i] ?? 0, corners[i + 1] ?? 0];
      const [bx, by] = [corners[(i + 2) % n] ?? 0, corners[(i + 3) % n] ?? 0];
      const key = `${Math.round(ax + bx)},${Math.round(ay + by)}`;
      if (seen.has(key)) continue;
      seen.set(key, ends.length);
      ends.push(ax, ay, bx, by);
      const far = Math.hypot((ax + bx) / 2, (ay + by) / 2) / farthest;
      strength.push(Math.min(1, 1.6 * (1.06 - far)));
    }
  }
  return { ends: new Float32Array(ends), strength: new Float32Array(strength) };
}
