// Makes elements. Text becomes text nodes and nothing else, so what a model wrote can never become markup.
// Characters that one does not see, or that would reorder or steer what one sees, stand as escapes in a colour of their own.

const SVG = "http://www.w3.org/2000/svg";
const UNSEEN = /([\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800])/u;

export function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

// The text as nodes: its unseen characters as elements, so that a written "\u202e" and a real one differ.
export function texts(value) {
  const parts = String(value ?? "")
    .replace(/\r\n/g, "\n")
    .split(UNSEEN);
  return parts.map((part, index) => {
    if (index % 2 === 0 || part === "\n" || part === "\t") return document.createTextNode(part);
    const mark = document.createElement("span");
    mark.className = "escape";
    mark.textContent = escape(part);
    return mark;
  });
}

// The same as a string, for titles and labels.
export function plain(value) {
  return String(value ?? "")
    .split(UNSEEN)
    .map((part, index) => (index % 2 === 0 ? part : escape(part)))
    .join("");
}

export function replace(node, ...children) {
  node.replaceChildren();
  return fill(node, ...children);
}

export function fill(node, ...children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(...(child instanceof Node ? [child] : texts(child)));
  }
  return node;
}

// Makes `children` the node's children and moves as few as can be: who stays keeps its state, and the focus.
export function keep(node, children) {
  const wanted = children.filter(Boolean),
    focused = document.activeElement;
  for (const child of [...node.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((child, index) => child !== node.children[index] && node.insertBefore(child, node.children[index] ?? null));
  if (focused !== document.activeElement && node.contains(focused)) focused.focus();
}

// Fills a node anew only when what it is made from has changed, so that a live page does not disturb who reads.
export function renew(node, from, make) {
  const key = JSON.stringify(from);
  if (node.madeFrom === key) return;
  node.madeFrom = key;
  replace(node, make());
}

// Numbers of a layout go through the object model: the page's policy forbids style attributes.
export function styled(node, properties) {
  for (const [name, value] of Object.entries(properties)) node.style.setProperty(name, value);
  return node;
}

function escape(character) {
  const code = character.codePointAt(0);
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\u{${code.toString(16)}}`;
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, plain(value));
  }
  return fill(node, ...children);
}
