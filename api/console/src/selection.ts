/** What the operator has picked, and which states he hides; imports nothing. */

export type Selected = { kind: "rider" | "order"; id: string } | null;

export class Choice {
  selected: Selected = null;
  readonly hiddenRiders = new Set<string>();
  readonly hiddenOrders = new Set<string>();
  /** Counts up with every change. */
  revision = 0;

  constructor(private readonly changed: () => void) {}

  select(selected: Selected): void {
    this.selected = selected;
    this.touch();
  }

  /** Shows a state that was hidden, hides one that was shown. */
  toggle(kind: "rider" | "order", state: string): void {
    const hidden = kind === "rider" ? this.hiddenRiders : this.hiddenOrders;
    if (!hidden.delete(state)) hidden.add(state);
    this.touch();
  }

  isSelected(kind: "rider" | "order", id: string): boolean {
    return this.selected?.kind === kind && this.selected.id === id;
  }

  private touch(): void {
    this.revision += 1;
    this.changed();
  }
}
