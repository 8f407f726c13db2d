// The client under test: it asks again when Retry-After has passed.
export async function fetchOrders(url: string, sleep: (seconds: number) => Promise<void>): Promise<number> {
  for (let tries = 0; ; tries++) {
    const { status, headers } = await fetch(url)
    if (status !== 503 || tries === 3) return status
    await sleep(Number(headers.get('retry-after') ?? 60))
  }
}
