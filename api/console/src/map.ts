/** The map: canvas, camera, loop and the marks around it (scale bar, tip); imports scene and painter. */

import { type Bounds, Camera, type Padding } from "./camera";
import { listen } from "./gestures";
import { Ground } from "./ground";
import { byId, say } from "./page";
import { Painter } from "./painter";
import { GROUND, Scene } from "./scene";
import type { Choice, Selected } from "./selection";
import { distance, orderState, riderState, shortId } from "./words";
import type { World } from "./world";

const ZOOM_STEP = 1.7;
/** A stage as narrow has the panel and the details at the bottom. */
const NARROW_PX = 720;
/** Metres a pixel when the map comes to one order or rider. */
const CLOSE = 1.8;
/** A processor that draws leaves time for others. */
const SOFTWARE_FRAME_MS = 33;
/** The whole city is all of it but strays: what lies out by more than half the width of the rest. */
const STRAY_SHARE = 0.01;
const STRAY_WIDTHS = 0.5;
const SCALE_BAR_PX = 110;
const ROUND = [1, 2, 5];

export class CityMap {
  readonly camera = new Camera();
  /** Frames drawn. */
  painted = 0;
  private readonly canvas = byId<HTMLCanvasElement>("map");
  private readonly ground = new Ground();
  private readonly scene: Scene;
  private readonly painter: Painter | null;
  private dirty = true;
  private paintedAt = 0;
  private pointer: { x: number; y: number } | null = null;

  constructor(
    private readonly world: World,
    private readonly choice: Choice,
    complain: (title: string, text: string) => void,
  ) {
    this.scene = new Scene(world, this.ground, this.camera, choice);
    this.painter = this.makePainter(complain);
    listen(this.canvas, this.camera, {
      moved: () => this.touch(),
      click: (x, y) => this.click(x, y),
      hover: (x, y) => this.hover({ x, y }),
      leave: () => this.hover(null),
      fit: () => this.fit(true),
      escape: () => choice.select(null),
    });
    this.canvas.addEventListener("webglcontextrestored", () => this.touch());
    const act = (id: string, wish: () => void): void => {
      byId(id).addEventListener("click", () => {
        wish();
        this.touch();
      });
    };
    act("zoom-in", () => this.camera.zoomBy(ZOOM_STEP, performance.now()));
    act("zoom-out", () => this.camera.zoomBy(1 / ZOOM_STEP, performance.now()));
    act("fit", () => this.fit(true));
    new ResizeObserver(() => this.resize()).observe(byId("stage"));
    this.resize();
    requestAnimationFrame((now) => this.frame(now));
  }

  /** Something of the world or of the choice changed: draw again. */
  touch(): void {
    this.dirty = true;
  }

  /** After a snapshot and from time to time: lays the ground, and keeps all in an untouched view. */
  cover(): void {
    const first = this.ground.version === 0;
    this.ground.cover(this.world);
    const { camera } = this;
    if (camera.untouched && (first || !camera.shows(boundsOf(this.world)))) this.fit(!first);
    this.touch();
  }

  fit(slowly: boolean): void {
    this.camera.fit(boundsOf(this.world), this.padding(), slowly ? performance.now() : null);
    this.touch();
  }

  /** Brings the picked one into the part of the map that nothing covers. */
  show(selected: Selected): void {
    if (selected === null) return;
    const places: { x: number; y: number }[] = [];
    let scaleMin = CLOSE;
    if (selected.kind === "rider") {
      const rider = this.world.riders.get(selected.id);
      if (rider !== undefined) places.push(rider.glide);
      scaleMin = Math.min(this.camera.scale, CLOSE);
    } else {
      const order = this.world.orders.get(selected.id);
      places.push(...(order?.stops ?? []));
      const carrier = this.world.riders.get(order?.riderId ?? "");
      if (carrier !== undefined) places.push(carrier.glide);
    }
    if (places.length === 0) return;
    const { left, right, top, bottom } = this.padding();
    const room = { left: left + 40, right: right + 40, top: top + 40, bottom: bottom + 40 };
    this.camera.flyTo(this.camera.viewOf(boxOf(places), room, scaleMin), performance.now());
    this.touch();
  }

  private makePainter(complain: (title: string, text: string) => void): Painter | null {
    try {
      return new Painter(this.canvas, GROUND);
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      complain("The map cannot be drawn", `${words}. The counts and changes go on without it.`);
      return null;
    }
  }

  private frame(now: number): void {
    requestAnimationFrame((next) => this.frame(next));
    const software = this.painter?.software === true;
    // Half a display frame of tolerance, else 33 ms would mean every third of 60 Hz.
    if (software && now - this.paintedAt < SOFTWARE_FRAME_MS - 8) return;
    const moving = this.scene.step(now);
    if (this.camera.step(now) || moving) this.dirty = true;
    if (!this.dirty || this.painter === null) return;
    this.dirty = false;
    this.paintedAt = now;
    this.scene.draw(this.painter, this.dpr(), now);
    this.painted += 1;
    this.drawScale();
    if (this.pointer !== null) this.hover(this.pointer);
  }

  private dpr(): number {
    return this.painter?.software === true ? 1 : Math.min(window.devicePixelRatio || 1, 2);
  }

  private resize(): void {
    const { clientWidth, clientHeight } = byId("stage");
    this.camera.width = Math.max(clientWidth, 1);
    this.camera.height = Math.max(clientHeight, 1);
    this.canvas.width = Math.round(this.camera.width * this.dpr());
    this.canvas.height = Math.round(this.camera.height * this.dpr());
    if (this.camera.untouched) this.fit(false);
    this.touch();
    // A canvas of another size is empty: fill it before it is shown.
    if (this.painter !== null) this.scene.draw(this.painter, this.dpr(), performance.now());
  }

  /** What the panel and the details leave free. */
  private padding(): Padding {
    const stage = byId("stage").getBoundingClientRect();
    const card = byId("details");
    const box = (card.hidden ? byId("panel") : card).getBoundingClientRect();
    if (this.camera.width < NARROW_PX) {
      const below = Math.min(Math.max(stage.bottom - box.top, 0), stage.height * 0.7);
      return { left: 28, right: 28, top: 36, bottom: below + 40 };
    }
    const beside = card.hidden ? 0 : box.right - stage.left;
    return { left: beside + 28, right: 28, top: 36, bottom: 48 };
  }

  private click(x: number, y: number): void {
    this.choice.select(this.scene.pick(x, y));
  }

  private hover(at: { x: number; y: number } | null): void {
    this.pointer = at;
    const tip = byId("tip");
    const under = at === null ? null : this.scene.pick(at.x, at.y);
    tip.hidden = under === null;
    this.canvas.classList.toggle("over", under !== null);
    if (under === null || at === null) return;
    const { riders, orders } = this.world;
    const name = (under.kind === "rider" ? riders : orders).get(under.id)?.state ?? "";
    const { words } = under.kind === "rider" ? riderState(name) : orderState(name);
    say(tip, `${shortId(under.id)} · ${words}`);
    const left = at.x > this.camera.width - 180;
    tip.style.transform = `translate(${at.x + (left ? -12 : 14)}px, ${at.y + 14}px)${left ? " translateX(-100%)" : ""}`;
  }

  private drawScale(): void {
    const metres = SCALE_BAR_PX * this.camera.scale;
    const ten = 10 ** Math.floor(Math.log10(metres));
    const length = ten * Math.max(...ROUND.filter((n) => n * ten <= metres));
    const bar = byId("scale");
    const words = length < 1000 ? `${length} m` : distance(length).replace(".0", "");
    say(bar.firstElementChild ?? bar, words);
    bar.style.width = `${length / this.camera.scale}px`;
    bar.setAttribute("aria-label", `Scale: this long is ${words}`);
  }
}

function boxOf(places: Iterable<{ x: number; y: number }>): Bounds {
  const box = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity };
  for (const { x, y } of places) {
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x);
    box.bottom = Math.min(box.bottom, y);
    box.top = Math.max(box.top, y);
  }
  return box;
}

/** Where the riders and stops are, but for a few strays. */
function boundsOf(world: World): Bounds {
  const xs: number[] = [];
  const ys: number[] = [];
  const add = ({ x, y }: { x: number; y: number }): void => {
    xs.push(x);
    ys.push(y);
  };
  for (const { glide } of world.riders.values()) add(glide);
  for (const { stops } of world.orders.values()) stops.forEach(add);
  if (xs.length < 2) return { left: -3000, right: 3000, bottom: -3000, top: 3000 };
  const ends = (values: number[]): [number, number] => {
    values.sort((a, b) => a - b);
    const skip = Math.floor(values.length * STRAY_SHARE);
    const from = values[skip] ?? 0;
    const to = values[values.length - 1 - skip] ?? 0;
    const beyond = (to - from) * STRAY_WIDTHS;
    const low = values.find((value) => value >= from - beyond) ?? from;
    const high = values.findLast((value) => value <= to + beyond) ?? to;
    const missing = Math.max(0, 1000 - (high - low)) / 2;
    return [low - missing, high + missing];
  };
  const [left, right] = ends(xs);
  const [bottom, top] = ends(ys);
  return { left, right, bottom, top };
}
