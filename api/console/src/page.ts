/** Short ways to the page's elements; imports nothing. */

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no element #${id}`);
  return element as T;
}

type Child = Node | string | null;

/** An element with its class and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (className !== "") element.className = className;
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function makeButton(
  className: string,
  act: () => void,
  ...children: Child[]
): HTMLButtonElement {
  const button = make("button", className, ...children);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

/** Sets the text only when it is another, so that nothing is laid out anew for nothing. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
