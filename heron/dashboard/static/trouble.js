// What is wrong just now, by where it was noticed, so that what works again takes back its own words and no others.

import { replace } from "./dom.js";
import { Refused, Unreachable } from "./source.js";

export class Trouble {
  constructor(box) {
    Object.assign(this, { box, known: new Map() });
  }

  // `words` null: there, nothing is wrong any more.
  say(where, words) {
    if ((this.known.get(where) ?? null) === words) return;
    if (words === null) this.known.delete(where);
    else this.known.set(where, words);
    this.box.hidden = !this.known.size;
    replace(this.box, [...new Set(this.known.values())].join(" "));
  }

  // Does something, and says what went wrong with it. Whether it may go well a little later.
  async attempt(where, work) {
    try {
      await work();
      this.say(where, null);
      return false;
    } catch (error) {
      this.say(where, inWords(error));
      return error instanceof Unreachable;
    }
  }
}

function inWords(error) {
  if (error instanceof Unreachable || error instanceof Refused) return error.message;
  console.error(error);
  return `This screen could not be drawn: ${error.message}`;
}
