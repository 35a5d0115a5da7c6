// What looks wrong. An alert is the same element for as long as it is there, however often the page is told of it: what a reader
// has opened stays open, what he has closed stays closed, and the focus stays where it is. Only the first of all opens by itself.

import { element, keep, renew } from "../dom.js";

export class Alerts {
  constructor() {
    this.node = element("div", { class: "alerts" });
    this.calm = element("p", { class: "notice good calm" }, "Nothing looks wrong.");
    this.known = new Map();
    this.count = element("summary", {});
    this.past = element("div", {});
    this.earlier = element("details", { class: "past" }, this.count, this.past);
  }

  draw(state) {
    const standing = this.notices(state.alerts.filter((alert) => alert.standing)),
      past = this.notices(state.alerts.filter((alert) => !alert.standing));
    renew(this.count, past.length, () => `${past.length} earlier ${past.length === 1 ? "alert" : "alerts"}, no longer standing`);
    keep(this.past, past);
    keep(this.node, [!state.alerts.length && state.is_calm && this.calm, ...standing, past.length > 0 && this.earlier]);
  }

  notices(alerts) {
    const found = alerts.map((alert, index) => {
      const isNew = !this.known.has(alert.id);
      if (isNew) this.known.set(alert.id, new Notice(alert.standing && index === 0));
      return this.known.get(alert.id).tell(alert);
    });
    return [...new Set(found)];
  }
}

class Notice {
  constructor(isOpen) {
    [this.title, this.since] = [element("b", {}), element("small", {})];
    [this.evidence, this.advice] = [element("p", { class: "hostile" }), element("p", { class: "soft hostile" })];
    this.node = element("details", { open: isOpen }, element("summary", {}, this.title, this.since), this.evidence, this.advice);
  }

  tell(alert) {
    this.node.className = `notice ${alert.standing ? "warn" : ""} alert`;
    renew(this.title, alert.title, () => alert.title);
    renew(this.since, alert.step, () => (alert.step ? `since step ${alert.step}` : null));
    renew(this.evidence, alert.evidence, () => `${alert.evidence}.`);
    renew(this.advice, alert.advice, () => alert.advice);
    return this.node;
  }
}
