// Where the page gets its data: questions to the server, a stream of news from it, and the curves that were fetched so far.

// Nobody answered.
export class Unreachable extends Error {}
// Somebody answered, and said why not.
export class Refused extends Error {}

export async function ask(path) {
  const { status, value } = await answered(path);
  if (status === 403) throw new Refused("The server was started anew: open the address that it printed.");
  if (value.error) throw new Refused(value.error);
  return value;
}

async function answered(path) {
  try {
    const answer = await fetch(path, { credentials: "same-origin" });
    return { status: answer.status, value: answer.status === 403 ? null : await answer.json() };
  } catch (error) {
    throw new Unreachable("The server does not answer; the page keeps trying.", { cause: error });
  }
}

// A name as a part of an address. Half of a character, which a folder's name may hold, has no place in one.
export function encoded(name) {
  return encodeURIComponent(String(name).replace(/\p{Cs}/gu, "\ufffd"));
}

export function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // written by hand, with a bare percent sign
  }
}

export function address(run, rest = "", question = {}) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(question)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") words.append(name, one);
  }
  const asked = words.toString();
  return `/api/runs/${encoded(run)}${rest}${asked ? `?${asked}` : ""}`;
}

// The curves of one run. What was fetched is kept and grows with the news; a curve that has grown long is fetched anew, thinned.
const MOST = 1600;
const AGAIN_MS = 3000;

export class Curves {
  constructor(run) {
    Object.assign(this, { run, generation: null, known: {}, asking: 0, late: [] });
  }

  async need(names) {
    const missing = [...new Set(names)].filter((name) => !this.known[name]);
    if (missing.length) {
      this.asking += 1;
      try {
        this.take(missing, await ask(address(this.run, "/curves", { name: missing })));
      } finally {
        this.asking -= 1;
        if (!this.asking) this.late = [];
      }
    }
    return this.known;
  }

  // What came while the answer was on its way may be newer than the answer.
  take(names, answer) {
    if (this.generation !== null && answer.generation !== this.generation) this.known = {};
    this.generation = answer.generation;
    for (const name of names) {
      const late = this.late.filter((one) => one.generation === answer.generation && one.news[name]);
      this.known[name] = late.reduce((curve, one) => extended(curve, one.news[name]), answer.curves[name] ?? { steps: [], values: [] });
    }
  }

  // news: name -> { steps, values } after what the page knew; null where it knows nothing that still holds
  hear(generation, news) {
    if (news === null || (this.generation !== null && generation !== this.generation)) this.known = {};
    this.generation = generation;
    if (news === null) return;
    if (this.asking) this.late.push({ generation, news });
    for (const [name, curve] of Object.entries(this.known)) {
      const grown = extended(curve, news[name]);
      if (grown.steps.length > MOST) delete this.known[name];
      else this.known[name] = grown;
    }
  }
}

// A new curve, since whoever draws tells by identity whether there is anything to draw.
function extended(curve, added) {
  const last = curve.steps.at(-1) ?? -1,
    from = added ? added.steps.findIndex((step) => step > last) : -1;
  if (from < 0) return curve;
  return { steps: [...curve.steps, ...added.steps.slice(from)], values: [...curve.values, ...added.values.slice(from)] };
}

// Calls listeners.news, .runs, .gone, .lost and .back. A hidden page lets go of its stream: browsers allow few at once.
export class Stream {
  constructor(listeners) {
    Object.assign(this, { listeners, run: null, source: null });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.begin()));
  }

  follow(run) {
    this.run = run;
    this.stop();
    if (!document.hidden) this.begin();
  }

  begin() {
    if (this.source) return;
    const asked = this.run === null ? "" : `?run=${encoded(this.run)}`;
    this.source = new EventSource(`/api/stream${asked}`);
    for (const kind of ["news", "runs", "gone"])
      this.source.addEventListener(kind, (event) => this.listeners[kind](JSON.parse(event.data)));
    this.source.onerror = () => {
      this.listeners.lost();
      if (this.source?.readyState === EventSource.CLOSED) setTimeout(() => this.follow(this.run), AGAIN_MS);
    };
    this.source.onopen = () => this.listeners.back();
  }

  stop() {
    this.source?.close();
    this.source = null;
  }
}
