/** The card of the picked rider or order; imports the world and the words. */

import { byId, make, makeButton, say } from "./page";
import type { Choice, Selected } from "./selection";
import {
  capital,
  clock,
  css,
  distance,
  duration,
  isServed,
  orderState,
  riderState,
  shortId,
  type State,
  wind,
} from "./words";
import { nextStop, type Order, type Rider, type World } from "./world";

export interface DetailsWishes {
  show(selected: Selected): void;
}

export class Details {
  private readonly card = byId("details");
  /** What the card's frame was built for; the changing words are set in place. */
  private shape = "";
  private readonly live = new Map<string, HTMLElement>();

  constructor(
    private readonly world: World,
    private readonly choice: Choice,
    private readonly wishes: DetailsWishes,
  ) {}

  update(now: number): void {
    const { selected } = this.choice;
    const { riders, orders } = this.world;
    const rider = selected?.kind === "rider" ? riders.get(selected.id) : undefined;
    const order = selected?.kind === "order" ? orders.get(selected.id) : undefined;
    if (rider !== undefined) this.rider(rider, now);
    else if (order !== undefined) this.order(order, now);
    else if (selected !== null) this.gone(selected);
    this.card.hidden = selected === null;
    byId("stage").classList.toggle("with-details", selected !== null);
    if (selected === null) this.shape = "";
  }

  private rider(rider: Rider, now: number): void {
    const orders = [...rider.orders].sort((a, b) => a.promiseToMs - b.promiseToMs);
    const key = orders.map(({ id, state }) => `${id}:${state}`).join();
    if (this.isNew(`rider ${rider.id} ${rider.state} ${key}`)) {
      this.head("Rider", rider.id, riderState(rider.state));
      this.facts(["Last fix", "Heading", "Place"]);
      this.card.append(
        make("h3", "", orders.length === 0 ? "No live order" : count(orders.length, "live order")),
        make("ul", "of-rider", ...orders.map((order) => this.orderRow(order))),
      );
    }
    const since = this.world.serverMs(now) - (rider.atMs ?? 0);
    this.put("Last fix", rider.atMs === null ? "None yet" : `${duration(Math.max(0, since))} ago`);
    const deg = rider.headingDeg;
    this.put("Heading", deg === null ? "–" : `${wind(deg)} ${Math.round(deg)}°`);
    this.put("Place", `${rider.lat.toFixed(5)}, ${rider.lon.toFixed(5)}`);
    for (const order of orders) this.put(`due ${order.id}`, this.due(order, now));
  }

  private order(order: Order, now: number): void {
    const stops = order.stops.map((stop) => `${stop.kind}:${stop.state}`).join();
    const shape = `order ${order.id} ${order.version} ${order.state} ${order.riderId ?? ""} ${stops}`;
    if (this.isNew(shape)) {
      const state = orderState(order.state);
      this.head("Order", order.id, state);
      this.facts(["Promise", "Rider", "Courier code", "Version"]);
      const { riderId } = order;
      if (riderId !== null) {
        const show = (): void => this.wishes.show({ kind: "rider", id: riderId });
        this.live.get("Rider")?.append(makeButton("link", show, riderId));
      } else this.put("Rider", "None yet");
      this.put("Courier code", order.code || "–");
      this.put("Version", String(order.version));
      this.card.append(make("h3", "", count(order.stops.length, "stop")), this.stops(order, state));
    }
    this.put("Promise", this.due(order, now));
    this.live.get("Promise")?.classList.toggle("bad", this.world.isLate(order, now));
    const next = nextStop(order);
    const rider = order.riderId === null ? undefined : this.world.riders.get(order.riderId);
    if (rider === undefined || next === null) return;
    const far = Math.hypot(rider.glide.x - next.x, rider.glide.y - next.y);
    this.put("away", `${distance(far)} away`);
  }

  /** It left the map while its card was open. */
  private gone(selected: { kind: string; id: string }): void {
    if (!this.isNew(`gone ${selected.kind} ${selected.id}`)) return;
    const state: State = { name: "gone", words: "Gone", rgb: [122, 136, 150] };
    this.head(capital(selected.kind), selected.id, state);
    this.card.append(make("p", "empty", `This ${selected.kind} is no longer on the map.`));
  }

  private stops(order: Order, state: State): HTMLOListElement {
    const next = nextStop(order);
    const rows = order.stops.map((stop) => {
      const row = make("li", isServed(stop.state) ? "served" : "");
      const mark = make("i", `key ${stop.kind}`);
      mark.style.color = css(state.rgb);
      row.append(mark, make("span", "", capital(stop.kind)));
      const words = make("span", "state", capital(stop.state));
      if (stop === next && order.riderId !== null && order.endedAt === null) {
        row.className = "next";
        const away = make("em");
        this.live.set("away", away);
        words.prepend(away);
      }
      row.append(words);
      return row;
    });
    return make("ol", "stops", ...rows);
  }

  private orderRow(order: Order): HTMLLIElement {
    const { rgb, words } = orderState(order.state);
    const dot = make("i", "swatch");
    dot.style.background = css(rgb);
    const due = make("span", "due");
    this.live.set(`due ${order.id}`, due);
    const show = (): void => this.wishes.show({ kind: "order", id: order.id });
    const state = make("span", "state", dot, words);
    return make(
      "li",
      "",
      makeButton("change", show, make("span", "id", shortId(order.id)), state, due),
    );
  }

  private due(order: Order, now: number): string {
    if (order.promiseToMs <= 0) return "–";
    const at = clock(order.promiseToMs);
    if (order.endedAt !== null) return at;
    const left = order.promiseToMs - this.world.serverMs(now);
    return `${at} · ${duration(left)} ${left < 0 ? "late" : "left"}`;
  }

  private head(kind: string, id: string, { words, rgb }: State): void {
    const close = makeButton("icon", () => this.choice.select(null), cross());
    close.setAttribute("aria-label", "Close the details");
    const chip = make("span", "chip", words);
    chip.style.color = css(rgb);
    chip.dataset["testid"] = "details-state";
    const find = makeButton("quiet", () => this.wishes.show(this.choice.selected), "Centre");
    this.card.append(
      make("header", "", make("span", "kind", kind), chip, find, close),
      make("h2", "id", id),
    );
  }

  private facts(names: readonly string[]): void {
    const list = make("dl");
    for (const name of names) {
      const value = make("dd");
      this.live.set(name, value);
      list.append(make("dt", "", name), value);
    }
    this.card.append(list);
  }

  private put(name: string, text: string): void {
    const element = this.live.get(name);
    if (element !== undefined) say(element, text);
  }

  private isNew(shape: string): boolean {
    if (shape === this.shape) return false;
    this.shape = shape;
    this.live.clear();
    this.card.replaceChildren();
    return true;
  }
}

const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? "" : "s"}`;

function cross(): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", "M4 4l8 8M12 4l-8 8");
  svg.append(path);
  return svg;
}
