/** How a rider is shown between two fixes: he glides from where he is shown to the newest fix.
 *
 * Imports nothing. Places are metres in the map's plane, times are those of `performance.now()`.
 */

const GLIDE_MS_MIN = 250;
const GLIDE_MS_MAX = 4_000;
const TURN_MS = 350;
/** A fix a little late finds the rider still gliding, not standing. */
const SLACK = 1.1;
const MOVED_M = 0.3;
/** No gliding across the town: a rider who comes back after a gap is simply there. */
const JUMP_M = 1_500;
/** Shorter moves say nothing of the direction. */
const TURNED_M = 4;

export class Glide {
  x: number;
  y: number;
  /** Radians, anticlockwise from east; null when it is not known. */
  heading: number | null = null;
  private fromX: number;
  private fromY: number;
  private toX: number;
  private toY: number;
  private startAt = 0;
  private lengthMs = 0;
  private fromHeading = 0;
  private turn = 0;
  private turnAt = 0;
  private movedAt: number;
  private resting = true;

  constructor(x: number, y: number, now: number) {
    this.x = this.fromX = this.toX = x;
    this.y = this.fromY = this.toY = y;
    this.movedAt = now;
  }

  /** A new fix; `headingDeg` is clockwise from north, as phones tell it. */
  moveTo(x: number, y: number, headingDeg: number | null, now: number): void {
    const far = Math.hypot(x - this.toX, y - this.toY);
    if (headingDeg !== null) this.turnTo(((90 - headingDeg) * Math.PI) / 180, now);
    else if (far > TURNED_M) this.turnTo(Math.atan2(y - this.toY, x - this.toX), now);
    if (far < MOVED_M) return;
    const since = now - this.movedAt;
    this.movedAt = now;
    this.toX = x;
    this.toY = y;
    this.resting = false;
    if (far > JUMP_M) {
      this.fromX = x;
      this.fromY = y;
      this.lengthMs = 0;
      return;
    }
    this.fromX = this.x;
    this.fromY = this.y;
    this.startAt = now;
    this.lengthMs = Math.min(Math.max(since * SLACK, GLIDE_MS_MIN), GLIDE_MS_MAX);
  }

  /** Whether the rider was still moving or turning at `now`; sets `x`, `y` and `heading`. */
  step(now: number): boolean {
    if (this.resting) return false;
    const part = this.lengthMs > 0 ? Math.min((now - this.startAt) / this.lengthMs, 1) : 1;
    this.x = this.fromX + (this.toX - this.fromX) * part;
    this.y = this.fromY + (this.toY - this.fromY) * part;
    const turned = Math.min((now - this.turnAt) / TURN_MS, 1);
    if (this.heading !== null) this.heading = this.fromHeading + this.turn * turned;
    this.resting = part === 1 && turned === 1;
    return true;
  }

  private turnTo(heading: number, now: number): void {
    if (this.heading === null) {
      this.heading = this.fromHeading = heading;
      return;
    }
    const turn = heading - this.heading;
    this.fromHeading = this.heading;
    this.turn = Math.atan2(Math.sin(turn), Math.cos(turn));
    this.turnAt = now;
    this.resting = false;
  }
}
