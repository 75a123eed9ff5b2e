// Requests to the studio's server. A refusal is an Error with its sentence.

async function answer(response) {
  if (response.ok) return response;
  const text = await response.text();
  let sentence = text.trim() || `the studio answered ${response.status}`;
  try {
    sentence = JSON.parse(text).error ?? sentence;
  } catch {
    // not JSON: the text is the sentence
  }
  throw new Error(sentence);
}

/** The query string of these values; null and undefined are left out, lists are parted by commas. */
export function query(values) {
  const kept = Object.entries(values).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
}

/** The address of something of a run. */
export function at(run, what, values = {}) {
  const text = query(values);
  return `/api/runs/${encodeURIComponent(run.id)}/${what}${text ? `?${text}` : ""}`;
}

export async function getJson(address, options = {}) {
  return (await answer(await fetch(address, options))).json();
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The answer of slow work, asked for until it is there; `onstep` gets what is done now. Null once `ended()`. */
export async function untilDone(address, onstep, ended) {
  for (;;) {
    const found = await getJson(address);
    if (ended()) return null;
    if (!found.working) return found;
    onstep(found.working);
    await pause(500);
  }
}

export async function getPicture(address, options = {}) {
  return createImageBitmap(await (await answer(await fetch(address, options))).blob());
}

export async function post(address, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return (await answer(await fetch(address, { method: "POST", headers, body: JSON.stringify(body) }))).json();
}

/** Calls `work` for the newest values only: while one call is under way, the others before the last are dropped. */
export function latest(work, onerror) {
  let running = false;
  let waiting = null;
  return async function call(...values) {
    waiting = values;
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const now = waiting;
        waiting = null;
        await work(...now);
      }
    } catch (error) {
      onerror(error);
    } finally {
      running = false;
    }
  };
}
