// The people's pictures in the list of files that Load LiDB opens. The host's menu has no place for them, so each entry gets
// its picture when it comes into view.
import { app } from "../../scripts/app.js";
import { pictureOf } from "./lidb_picture.js";

const NODE = "HDB_LoadLiDB";
const SIDE = 32; // pixels
const MARGIN = 10;

// The file names that this menu offers, if Load LiDB has opened it.
function entriesOf(menu) {
  const node = app.canvas.node_over;
  if (node?.comfyClass !== NODE) return [];
  const { values } = node.widgets.find((w) => w.name === "lidb_name").options;
  const names = new Set(typeof values === "function" ? values() : values);
  const entries = [...menu.querySelectorAll(".litemenu-entry")];
  return entries.every((entry) => names.has(entry.dataset.value)) ? entries : [];
}

// Room for the pictures, and the grown menu still on the screen.
function makeRoom(menu, entries) {
  for (const entry of entries) entry.style.minHeight = `${SIDE}px`;
  menu.style.maxHeight = `${window.innerHeight - 2 * MARGIN}px`;
  menu.style.overflowY = "auto";
  const below = menu.getBoundingClientRect().bottom - (window.innerHeight - MARGIN);
  if (below > 0) menu.style.top = `${Math.max(MARGIN, menu.offsetTop - below)}px`;
}

async function decorate(entry) {
  const { source, words } = await pictureOf(entry.dataset.value);
  if (!source || !entry.isConnected) return;
  const picture = document.createElement("img");
  picture.src = source;
  picture.title = words;
  picture.style.cssText = `width: ${SIDE}px; height: ${SIDE}px; object-fit: contain; vertical-align: middle; margin-right: 6px`;
  entry.prepend(picture);
}

app.registerExtension({
  name: "HyperDreamBooth.list",
  setup() {
    const opened = new MutationObserver((changes) => {
      for (const menu of changes.flatMap((change) => [...change.addedNodes])) {
        const entries = menu.classList?.contains("litecontextmenu") ? entriesOf(menu) : [];
        if (!entries.length) continue;
        makeRoom(menu, entries);
        const seen = new IntersectionObserver((found) => {
          for (const { target } of found.filter((f) => f.isIntersecting)) {
            seen.unobserve(target);
            decorate(target);
          }
        });
        entries.forEach((entry) => seen.observe(entry));
      }
    });
    opened.observe(document.body, { childList: true });
  },
});
