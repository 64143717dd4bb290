// The picture inside the selected file, shown on Load LiDB.
import { app } from "../../scripts/app.js";
import { pictureOf } from "./lidb_picture.js";

const NODE = "HDB_LoadLiDB";
const SIDE = 96; // pixels

app.registerExtension({
  name: "HyperDreamBooth.thumbnail",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const choice = node.widgets.find((w) => w.name === "lidb_name");
    const picture = document.createElement("img");
    picture.style.cssText = "object-fit: contain; width: 100%; height: 100%";
    const height = () => SIDE; // also without a picture, so that a choice moves nothing on the canvas
    const widget = node.addDOMWidget("thumbnail", "img", picture, {
      serialize: false, // not in the prompt
      getMinHeight: height,
      getMaxHeight: height,
    });
    widget.serialize = false; // not in the file
    const least = node.computeSize();
    node.setSize([Math.max(least[0], node.size[0]), Math.max(least[1], node.size[1])]);

    async function show() {
      const name = choice.value;
      const { source, words } = await pictureOf(name);
      if (name !== choice.value) return; // another was chosen meanwhile
      picture.hidden = !source;
      picture.src = source;
      picture.alt = picture.title = words;
    }

    const callback = choice.callback;
    choice.callback = function () {
      callback?.apply(this, arguments);
      show();
    };
    const onConfigure = node.onConfigure;
    node.onConfigure = function () {
      onConfigure?.apply(this, arguments);
      show();
    };
    picture.hidden = true;
    show();
  },
});
