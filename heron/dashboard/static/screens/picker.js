// Which runs are compared: the chosen ones as chips; the others, where there are many, folded away behind a search.

import { element, keep, renew } from "../dom.js";

const FEW = 8;

export class Picker {
  // choose(name, isOn) is called when a run is chosen or no longer so; tones are the colours of the chosen, in their order
  constructor(tones, choose) {
    Object.assign(this, { tones, choose, boxes: new Map() });
    this.chosen = element("div", { class: "chosen" });
    this.search = element("input", { type: "search", placeholder: "find a run", "aria-label": "find a run", oninput: () => this.filter() });
    this.others = element("div", { class: "others" });
    this.count = element("summary", {});
    this.rest = element("details", { class: "rest" }, this.count, this.search, this.others);
    this.node = element("fieldset", { class: "picker" }, element("legend", {}, "Runs to compare"), this.chosen, this.rest);
  }

  // compared: the names in their order, the first of them fixed
  draw(names, compared) {
    const isFull = compared.length >= this.tones.length,
      others = names.filter((name) => !compared.includes(name)),
      areMany = names.length > FEW;
    const show = (name) => this.box(name, compared.indexOf(name), isFull);
    keep(this.chosen, [...compared.map(show), ...(areMany ? [] : others.map(show))]);
    keep(this.others, areMany ? others.map(show) : []);
    renew(this.count, others.length, () => `${others.length} other runs`);
    this.rest.hidden = !areMany;
    this.filter();
  }

  box(name, place, isFull) {
    if (!this.boxes.has(name)) this.boxes.set(name, this.made(name));
    const { node, input, key } = this.boxes.get(name);
    node.className = place >= 0 ? `on tone-${this.tones[place]}` : "";
    Object.assign(input, { checked: place >= 0, disabled: place === 0 || (place < 0 && isFull) });
    key.hidden = place < 0;
    return node;
  }

  made(name) {
    const input = element("input", { type: "checkbox", onchange: () => this.choose(name, input.checked) }),
      key = element("i", { class: "key" });
    return { input, key, node: element("label", {}, input, key, element("span", { class: "hostile" }, name)) };
  }

  filter() {
    const words = this.search.value.toLowerCase();
    for (const one of this.others.children) one.hidden = !one.textContent.toLowerCase().includes(words);
    for (const one of this.chosen.children) one.hidden = false;
  }
}
