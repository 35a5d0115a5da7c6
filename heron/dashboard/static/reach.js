// How far a chart's axes reach. A single spike would press everything else flat; where one does, the upright axis is made for the rest.
// What is a spike is told from its neighbours: one or a few points far from those around them. A lasting jump is none, nor is a climb,
// however short beside the whole run, for there the neighbours went along.

const AROUND = 3;
const FEW = 12;
const FLAT = 3;

// From the first to the last step of anything that is drawn.
export function span(curves, points) {
  const ends = [...curves.flatMap(({ steps }) => [steps[0], steps.at(-1)]), ...points.map((point) => point.step)];
  if (!ends.length) return undefined;
  const low = Math.min(...ends),
    high = Math.max(...ends),
    room = (high - low || 2) * 0.012;
  return [low - Math.min(room, 0.5), high + room];
}

// { low, high, least, most }: what the axis should show, and what there is, if spikes make these differ so much that it matters;
// null where they do not. `also` are values that must be seen.
export function calm(curves, also) {
  const all = curves.flatMap(known);
  if (!all.length) return null;
  const [least, most] = ends([...all, ...also]),
    [low, high] = ends([...curves.flatMap(withoutSpikes), ...also]),
    room = 0.08 * (high - low || Math.abs(high) || 1);
  if (most - least <= FLAT * (high - low + 2 * room)) return null;
  return { low: Math.max(low - room, least), high: Math.min(high + room, most), least, most };
}

// The lowest and the highest value that a curve would have without its spikes.
function withoutSpikes(curve) {
  const values = known(curve);
  if (values.length < FEW) return values;
  const middles = values.map((_, at) => median(values.slice(Math.max(0, at - AROUND), at + AROUND + 1))),
    apart = ordered(values.map((value, at) => Math.abs(value - middles[at]))),
    usual = 3 * apart[Math.floor(0.9 * (apart.length - 1))],
    [low, high] = ends(middles),
    [least, most] = ends(values);
  return [Math.max(least, low - usual), Math.min(most, high + usual)];
}

const known = (curve) => curve.values.filter((value) => value !== null);
const ordered = (values) => [...values].sort((one, other) => one - other);
const median = (values) => ordered(values)[values.length >> 1];
const ends = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
