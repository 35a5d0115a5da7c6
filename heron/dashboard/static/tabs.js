// The screens as tabs. They are made once, so that whoever moves along them with the keyboard stays where he is; each leads to its
// screen as it was left, with what was searched for there.

import { element, keep } from "./dom.js";

export class Tabs {
  // screens: [[name, title], ...]; link(run, screen, question) gives an address
  constructor(nav, screens, link) {
    Object.assign(this, { nav, link, questions: new Map(), run: null });
    this.links = new Map(screens.map(([name, title]) => [name, element("a", { id: `tab-${name}` }, title)]));
    nav.addEventListener("keydown", (event) => this.press(event));
  }

  // Another run: what was asked of the one before means nothing there.
  forget() {
    this.questions.clear();
  }

  remember(name, question) {
    this.questions.set(name, question);
    this.lead(name);
  }

  draw(run, chosen) {
    this.run = run;
    keep(this.nav, run === null ? [] : [...this.links.values()]);
    for (const [name, tab] of this.links) {
      this.lead(name);
      if (name === chosen) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    this.nav.scrollLeft = this.links.get(chosen).offsetLeft - 60;
  }

  // Beside a tab, how many alerts stand there.
  count(name, amount) {
    const tab = this.links.get(name);
    tab.querySelector("b")?.remove();
    if (amount) tab.append(element("b", { title: `${amount} alerts` }, String(amount)));
  }

  lead(name) {
    this.links.get(name).setAttribute("href", this.link(this.run ?? "", name, this.questions.get(name) ?? ""));
  }

  // The arrow keys move between tabs, as between the tabs of a window.
  press(event) {
    const step = new Map([["ArrowLeft", -1], ["ArrowRight", 1]]).get(event.key),
      tabs = [...this.links.values()],
      now = tabs.indexOf(document.activeElement);
    if (step === undefined || now < 0) return;
    event.preventDefault();
    tabs[(now + step + tabs.length) % tabs.length].focus();
  }
}
