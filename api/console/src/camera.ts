/** Which part of the plane the map shows, and the way there; imports nothing but the plane's points. */

import type { Point } from "./plane";

const SCALE_MIN = 0.15;
const SCALE_MAX = 400;
const FLIGHT_MS = 420;

export interface Bounds {
  left: number;
  right: number;
  bottom: number;
  top: number;
}

export interface Padding {
  left: number;
  right: number;
  bottom: number;
  top: number;
}

interface View extends Point {
  scale: number;
}

interface Flight {
  from: View;
  to: View;
  startAt: number;
}

const limited = (scale: number): number => Math.min(Math.max(scale, SCALE_MIN), SCALE_MAX);

export class Camera {
  /** The plane's point in the middle of the map. */
  x = 0;
  y = 0;
  /** Metres a CSS pixel. */
  scale = 10;
  /** CSS pixels. */
  width = 1;
  height = 1;
  /** Nothing but the fit has moved the map: it may fit again by itself. */
  untouched = true;
  private flight: Flight | null = null;

  screenX(x: number): number {
    return this.width / 2 + (x - this.x) / this.scale;
  }

  screenY(y: number): number {
    return this.height / 2 - (y - this.y) / this.scale;
  }

  planeX(screenX: number): number {
    return this.x + (screenX - this.width / 2) * this.scale;
  }

  planeY(screenY: number): number {
    return this.y - (screenY - this.height / 2) * this.scale;
  }

  pan(dx: number, dy: number): void {
    this.touch();
    this.x -= dx * this.scale;
    this.y += dy * this.scale;
  }

  /** Zooms in by `factor` and keeps what is under the point where it is. */
  zoomAt(screenX: number, screenY: number, factor: number): void {
    this.touch();
    const x = this.planeX(screenX);
    const y = this.planeY(screenY);
    this.scale = limited(this.scale / factor);
    this.x += x - this.planeX(screenX);
    this.y += y - this.planeY(screenY);
  }

  /** A zoom in steps, by button or key, around the middle. */
  zoomBy(factor: number, now: number): void {
    const { x, y, scale } = this.flight?.to ?? this;
    this.touch();
    this.flyTo({ x, y, scale: scale / factor }, now);
  }

  flyTo(to: View, now: number): void {
    const { x, y, scale } = this;
    this.untouched = false;
    this.flight = { from: { x, y, scale }, to: { ...to, scale: limited(to.scale) }, startAt: now };
  }

  shows({ left, right, bottom, top }: Bounds): boolean {
    const [width, height] = [this.width, this.height];
    const across = this.screenX(left) >= 0 && this.screenX(right) <= width;
    return across && this.screenY(top) >= 0 && this.screenY(bottom) <= height;
  }

  /** The view that shows the bounds inside the padding, no closer than `scaleMin`. */
  viewOf(bounds: Bounds, padding: Padding, scaleMin: number): View {
    const width = Math.max(this.width - padding.left - padding.right, 1);
    const height = Math.max(this.height - padding.top - padding.bottom, 1);
    const [across, up] = [bounds.right - bounds.left, bounds.top - bounds.bottom];
    const scale = limited(Math.max(across / width, up / height, scaleMin));
    return {
      scale,
      x: (bounds.left + bounds.right) / 2 + ((padding.right - padding.left) / 2) * scale,
      y: (bounds.bottom + bounds.top) / 2 + ((padding.top - padding.bottom) / 2) * scale,
    };
  }

  /** Shows the bounds, at once when `now` is null. */
  fit(bounds: Bounds, padding: Padding, now: number | null): void {
    const to = this.viewOf(bounds, padding, SCALE_MIN);
    if (now === null) {
      this.flight = null;
      Object.assign(this, to);
    } else this.flyTo(to, now);
    this.untouched = true;
  }

  /** Whether the view moved by itself. */
  step(now: number): boolean {
    const flight = this.flight;
    if (flight === null) return false;
    const part = Math.min(Math.max((now - flight.startAt) / FLIGHT_MS, 0), 1);
    const eased = 1 - (1 - part) ** 3;
    const { from, to } = flight;
    this.x = from.x + (to.x - from.x) * eased;
    this.y = from.y + (to.y - from.y) * eased;
    this.scale = from.scale * (to.scale / from.scale) ** eased;
    if (part === 1) this.flight = null;
    return true;
  }

  private touch(): void {
    this.flight = null;
    this.untouched = false;
  }
}
