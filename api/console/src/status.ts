/** The server's own count of done orders, asked over HTTP where there is one; imports nothing. */

interface Config {
  token: string;
  city: string;
}

/** The city's done orders as the server counts them; null when it does not say. */
export async function doneOrders({ token, city }: Config): Promise<number | null> {
  if (city === "") return null;
  try {
    const answer = await fetch(`/v1/city/${encodeURIComponent(city)}/status`, {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(5_000),
    });
    if (!answer.ok) return null;
    return readDone(await answer.json());
  } catch {
    return null;
  }
}

/** Done and settled orders in `{"orders": {"done": 3, "completed": 40, ...}}`. */
function readDone(status: unknown): number | null {
  if (typeof status !== "object" || status === null || !("orders" in status)) return null;
  const orders = status.orders as Record<string, unknown> | null;
  if (typeof orders !== "object" || orders === null) return null;
  const counts = [orders["done"], orders["completed"]].filter((n) => typeof n === "number");
  return counts.length === 0 ? null : counts.reduce((a, b) => a + b, 0);
}
