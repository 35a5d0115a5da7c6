// Figures in words: a dash where there is none.

const absent = (value) => value === null || value === undefined || !Number.isFinite(value);

export function figure(value, digits = 2) {
  if (absent(value)) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return Math.round(value).toLocaleString("en").replace(/,/g, "\u202f");
  if (size !== 0 && size < 0.5 * 10 ** -digits) return value.toExponential(1);
  return value.toFixed(size >= 1000 ? 0 : digits).replace("-", "−");
}

// As many digits as a number needs to be told from its neighbours.
export function exact(value) {
  if (absent(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 100) return figure(value, 0);
  return figure(value, size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

export function share(value, digits = 0) {
  return absent(value) ? "–" : `${(100 * value).toFixed(digits)}\u202f%`;
}

export function count(value) {
  return figure(value, 0);
}

export function gib(value) {
  if (absent(value)) return "–";
  return value >= 1 ? `${value.toFixed(2)}\u202fGiB` : `${(1024 * value).toFixed(0)}\u202fMiB`;
}

export function duration(seconds) {
  if (absent(seconds)) return "–";
  if (seconds < 60) return `${seconds < 1 ? seconds.toFixed(2) : seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}\u202fs`;
  const whole = Math.round(seconds),
    hours = Math.floor(whole / 3600),
    minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function clock(time) {
  return new Date(1000 * time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// `rewards/number_right/mean` as `number_right`
export function short(name) {
  return name.replace(/^rewards\//, "").replace(/\/(mean|std|share|none)$/, "");
}
