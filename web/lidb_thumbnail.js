// The picture inside the selected file, shown on Load LiDB. It comes from the file's header, through ComfyUI's own route.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const NODE = "HDB_LoadLiDB";
const SIDE = 96; // pixels
const JPEG = /^data:image\/jpeg;base64,[A-Za-z0-9+/]+=*$/;

async function metadataOf(name) {
  if (!name) return {};
  const answer = await api.fetchApi(`/view_metadata/lidb?filename=${encodeURIComponent(name)}`);
  return answer.ok ? answer.json() : {};
}

// "[V] face" (Faceworld, predicted)
function describe(metadata) {
  try {
    const { trigger, base, made_by } = JSON.parse(metadata.facts);
    return `"${trigger}" (${[base, made_by].filter(Boolean).join(", ")})`;
  } catch {
    return "";
  }
}

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
      const metadata = await metadataOf(name);
      if (name !== choice.value) return; // another was chosen meanwhile
      const thumbnail = metadata["modelspec.thumbnail"] ?? "";
      picture.hidden = !JPEG.test(thumbnail); // a file without one, or with something else, shows nothing
      picture.src = picture.hidden ? "" : thumbnail;
      picture.alt = picture.title = describe(metadata);
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
