// A LiDB file dropped on the canvas becomes a Load LiDB node; dropped on a Load LiDB node, it is selected there.
//
// The file goes through ComfyUI's own upload route, as a dropped picture does, into output/lidb/received, which Load LiDB
// lists: no route of ours, nothing but the ComfyUI server hears of it. Received files have a folder of their own, so that
// none can take the place of a person of yours with the same name; the route never overwrites, and stores the same file
// only once. Only what says in its own header that it is a LiDB is sent; the rest of it is checked when the node reads it.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

const NODE = "HDB_LoadLiDB";
const FOLDER = "lidb/received"; // in the output folder
const FORMAT = "hyperdreambooth.lidb"; // lidb/file.py
const MOST_HEADER = 1 << 20; // bytes; what the host's own reader of headers takes
const CASCADE = 30; // pixels

const isSafetensors = (file) => file.name.toLowerCase().endsWith(".safetensors");

// Reads the header alone: a checkpoint of many GB costs no more than a small file.
async function isLidb(file) {
  if (!isSafetensors(file)) return false;
  try {
    const length = new DataView(await file.slice(0, 8).arrayBuffer()).getBigUint64(0, true);
    if (length > MOST_HEADER) return false;
    const header = JSON.parse(await file.slice(8, 8 + Number(length)).text());
    return header.__metadata__?.format === FORMAT;
  } catch {
    return false; // too short, or no safetensors: whoever else takes such files may have it
  }
}

function say(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: severity === "error" ? 20000 : 6000 });
}

// Returns the name as Load LiDB lists it.
async function upload(file) {
  const body = new FormData();
  body.append("image", file);
  body.append("type", "output");
  body.append("subfolder", FOLDER);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status === 413) throw new Error("it is larger than this ComfyUI takes as an upload");
  if (!answer.ok) throw new Error(`the upload was answered with ${answer.status} ${answer.statusText}`);
  return `${FOLDER}/${(await answer.json()).name}`.slice("lidb/".length);
}

function newNode(place) {
  const { graph } = app.canvas;
  const node = LiteGraph.createNode(NODE);
  while (graph.nodes.some((n) => n.pos[0] === place[0] && n.pos[1] === place[1])) {
    place = [place[0] + CASCADE, place[1] + CASCADE];
  }
  node.pos = place;
  graph.add(node);
  app.canvas.selectItems([node]);
  return node;
}

// `nodeFor()` is called once the file is stored, so that a failure leaves the graph as it was.
async function receive(file, nodeFor) {
  try {
    const name = await upload(file);
    await app.refreshComboInNodes(); // as the R key does
    const node = nodeFor();
    const widget = node.widgets.find((w) => w.name === "lidb_name");
    const listed = widget.options.values.find((value) => value.replaceAll("\\", "/") === name); // Windows
    if (!listed) throw new Error(`it was stored as output/lidb/${name}, but the server does not list it`);
    widget.value = listed;
    widget.callback?.(listed);
    app.canvas.setDirty(true, true);
    say("success", "LiDB received", `${file.name} is in ComfyUI's folder output/lidb/received.`);
  } catch (error) {
    say("error", `${file.name} could not be received`, `${error.message}. Put the file into models/lidb and press R.`);
  }
}

app.registerExtension({
  name: "HyperDreamBooth.drop",
  setup() {
    const handleFile = app.handleFile;
    app.handleFile = async function (file) {
      const place = [...app.canvas.graph_mouse]; // before the mouse moves on
      if (await isLidb(file)) return receive(file, () => newNode(place));
      return handleFile.apply(this, arguments);
    };
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some((i) => i.kind === "file");
    node.onDragDrop = (event) => { // a closure: App mode calls it without the node
      const files = [...event.dataTransfer.files];
      if (files.length !== 1 || !isSafetensors(files[0])) return false; // several become several nodes
      isLidb(files[0]).then((yes) => {
        if (yes) return receive(files[0], () => node);
        say("error", `${files[0].name} is not a LiDB`, "Drop a file that Save LiDB wrote; a LoRA belongs into the stock Load LoRA node.");
      });
      return true;
    };
  },
});
