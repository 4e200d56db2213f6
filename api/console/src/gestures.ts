/** Drag, wheel, pinch, double click and keys on the map; imports the camera. */

import type { Camera } from "./camera";

const CLICK_PX = 5;
const STEP_PX = 90;
const ZOOM_STEP = 1.7;

export interface Wishes {
  /** The view changed. */
  moved(): void;
  click(x: number, y: number): void;
  hover(x: number, y: number): void;
  leave(): void;
  fit(): void;
  escape(): void;
}

export function listen(canvas: HTMLCanvasElement, camera: Camera, wishes: Wishes): void {
  const fingers = new Map<number, { x: number; y: number }>();
  let travelled = 0;

  const place = (event: MouseEvent): { x: number; y: number } => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (fingers.size === 0) travelled = 0;
    fingers.set(event.pointerId, place(event));
    canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener("pointermove", (event) => {
    const at = place(event);
    const was = fingers.get(event.pointerId);
    if (was === undefined) {
      wishes.hover(at.x, at.y);
      return;
    }
    const dx = at.x - was.x;
    const dy = at.y - was.y;
    travelled += Math.hypot(dx, dy);
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
    fingers.set(event.pointerId, at);
    if (travelled < CLICK_PX) return;
    if (other === undefined) {
      canvas.classList.add("dragging");
      wishes.leave();
      camera.pan(dx, dy);
    } else {
      // Each finger moves the middle by half of its way.
      camera.pan(dx / 2, dy / 2);
      const before = Math.hypot(was.x - other.x, was.y - other.y);
      const after = Math.hypot(at.x - other.x, at.y - other.y);
      if (before > 0) camera.zoomAt((at.x + other.x) / 2, (at.y + other.y) / 2, after / before);
    }
    wishes.moved();
  });

  const lift = (event: PointerEvent): void => {
    const known = fingers.delete(event.pointerId);
    canvas.classList.remove("dragging");
    if (known && event.type === "pointerup" && fingers.size === 0 && travelled < CLICK_PX) {
      const at = place(event);
      wishes.click(at.x, at.y);
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => wishes.leave());

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const at = place(event);
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
      // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
      const pace = event.ctrlKey ? 0.01 : 0.0016;
      camera.zoomAt(at.x, at.y, Math.exp(-event.deltaY * lines * pace));
      wishes.moved();
    },
    { passive: false },
  );

  canvas.addEventListener("dblclick", (event) => {
    const at = place(event);
    camera.zoomAt(at.x, at.y, ZOOM_STEP);
    wishes.moved();
  });

  const keys: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => camera.pan(STEP_PX, 0),
    ArrowRight: () => camera.pan(-STEP_PX, 0),
    ArrowUp: () => camera.pan(0, STEP_PX),
    ArrowDown: () => camera.pan(0, -STEP_PX),
    "+": () => camera.zoomBy(ZOOM_STEP, performance.now()),
    "=": () => camera.zoomBy(ZOOM_STEP, performance.now()),
    "-": () => camera.zoomBy(1 / ZOOM_STEP, performance.now()),
    "0": () => wishes.fit(),
    Escape: () => wishes.escape(),
  };
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
    wishes.moved();
  });
}
