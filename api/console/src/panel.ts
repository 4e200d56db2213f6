/** The side panel: counts by state, tiles, the latest changes, and the search; imports world and words. */

import { byId, make, makeButton, say } from "./page";
import type { Choice, Selected } from "./selection";
import { clock, css, ORDER_STATES, orderState, RIDER_STATES, shortId, type State } from "./words";
import type { Change, World } from "./world";

interface Row {
  state: State;
  button: HTMLButtonElement;
  count: HTMLElement;
  part: HTMLElement;
}

export interface PanelWishes {
  /** Pick it and bring it into view. */
  show(selected: Selected): void;
}

export class Panel {
  private readonly riderRows: Row[];
  private readonly orderRows: Row[];
  private readonly changes = byId("changes");
  private newest: Change | undefined;
  private doneBefore = 0;
  private doneAtStatus = 0;

  constructor(
    private readonly world: World,
    private readonly choice: Choice,
    private readonly wishes: PanelWishes,
  ) {
    this.riderRows = this.rows("rider", RIDER_STATES);
    this.orderRows = this.rows("order", ORDER_STATES);
    byId<HTMLFormElement>("find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.find(byId<HTMLInputElement>("find-text").value.trim());
    });
    byId("find-text").addEventListener("input", () => say(byId("find-answer"), ""));
    const sheet = byId("sheet");
    sheet.addEventListener("click", () => {
      const open = byId("panel").classList.toggle("open");
      sheet.setAttribute("aria-expanded", String(open));
      sheet.setAttribute("aria-label", `${open ? "Hide" : "Show"} the counts and changes`);
    });
  }

  /** The server's own count of done orders, to which the page's is added. */
  heardDone(done: number): void {
    this.doneBefore = done;
    this.doneAtStatus = this.world.done;
    byId("tile-done").title = "Done, of the orders of the last 24 hours";
  }

  update(now: number): void {
    const { world } = this;
    const late = world.late(now);
    say(byId("orders-late"), number(late));
    say(byId("orders-done"), number(this.doneBefore + world.done - this.doneAtStatus));
    say(byId("orders-lost"), number(world.lost));
    const { kept, promised } = world;
    say(byId("orders-kept"), promised === 0 ? "–" : `${Math.floor((100 * kept) / promised)}%`);
    byId("tile-late").classList.toggle("bad", late > 0);
    fill(this.riderRows, world.riderCounts, byId("riders-total"));
    fill(this.orderRows, world.orderCounts, byId("orders-total"));
    this.listChanges();
  }

  /** Which states are shown on the map. */
  updateChoice(): void {
    for (const { state, button } of this.riderRows) {
      button.setAttribute("aria-pressed", String(!this.choice.hiddenRiders.has(state.name)));
    }
    for (const { state, button } of this.orderRows) {
      button.setAttribute("aria-pressed", String(!this.choice.hiddenOrders.has(state.name)));
    }
  }

  private rows(kind: "rider" | "order", states: readonly State[]): Row[] {
    return states.map((state) => {
      const swatch = make("i", kind === "rider" ? "swatch round" : "swatch");
      const count = make("b", "", "0");
      count.dataset["testid"] = `${kind}s-${state.name}`;
      const part = make("i");
      swatch.style.background = part.style.background = css(state.rgb);
      const toggle = (): void => this.choice.toggle(kind, state.name);
      const button = makeButton("row", toggle, swatch, make("span", "", state.words), count);
      button.setAttribute("aria-pressed", "true");
      button.title = `Show or hide on the map: ${kind}s that are ${state.words.toLowerCase()}`;
      byId(`${kind}s-rows`).append(button);
      byId(`${kind}s-bar`).append(part);
      return { state, button, count, part };
    });
  }

  private listChanges(): void {
    const { changes } = this.world;
    const [newest] = changes;
    if (newest === this.newest) return;
    byId("changes-empty").hidden = newest !== undefined;
    const fresh = this.newest === undefined ? changes.length : changes.indexOf(this.newest);
    this.newest = newest;
    const count = fresh === -1 ? changes.length : fresh;
    const first = this.changes.firstChild;
    for (const change of changes.slice(0, count)) {
      this.changes.insertBefore(this.changeRow(change), first);
    }
    while (this.changes.childElementCount > changes.length) this.changes.lastElementChild?.remove();
  }

  private changeRow(change: Change): HTMLLIElement {
    const { rgb, words } = orderState(change.state);
    const dot = make("i", "swatch");
    dot.style.background = css(rgb);
    const show = (): void => this.wishes.show({ kind: "order", id: change.orderId });
    const button = makeButton(
      "change",
      show,
      make("time", "", clock(change.atMs)),
      make("span", "id", shortId(change.orderId)),
      make("span", "state", dot, words),
      make("span", "rider", shortId(change.riderId ?? "")),
    );
    button.title = change.orderId;
    const row = make("li", "", button);
    row.dataset["order"] = change.orderId;
    row.dataset["state"] = change.state;
    return row;
  }

  private find(text: string): void {
    if (text === "") return;
    const { riders, orders } = this.world;
    const order = match(orders.keys(), text);
    const rider = match(riders.keys(), text);
    // A whole id before a part of one, an order before a rider.
    if (order !== undefined && (order === text || rider !== text)) {
      this.wishes.show({ kind: "order", id: order });
    } else if (rider !== undefined) this.wishes.show({ kind: "rider", id: rider });
    say(byId("find-answer"), order === undefined && rider === undefined ? "Not on the map" : "");
  }
}

const number = (n: number): string => n.toLocaleString("en");

function fill(rows: readonly Row[], counts: ReadonlyMap<string, number>, total: HTMLElement): void {
  let sum = 0;
  for (const count of counts.values()) sum += count;
  say(total, number(sum));
  for (const { state, count, part } of rows) {
    const n = counts.get(state.name) ?? 0;
    say(count, number(n));
    part.style.flexGrow = String(n);
    part.hidden = n === 0;
  }
}

/** The id that is `text`, or the first that begins or ends with it. */
function match(ids: Iterable<string>, text: string): string | undefined {
  const known = [...ids];
  const wanted = text.toLowerCase();
  const fits = (id: string): boolean => id.startsWith(wanted) || id.endsWith(wanted);
  return known.find((id) => id === text) ?? known.find((id) => fits(id.toLowerCase()));
}
