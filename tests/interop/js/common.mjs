// What the programs in this folder have in common: each prints one line a step, and waits for what it is to see.

export const PATIENCE_MS = 45_000;
const POLL_MS = 20;

/** Wait until `find` gives something true, or a promise of it, and return that. */
export async function until(what, find) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
        const found = await find();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`not seen within ${PATIENCE_MS} ms: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
}

export function step(name) {
    console.log(`ok ${name}`);
}
