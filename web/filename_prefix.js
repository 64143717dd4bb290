// %date:yyyy-MM-dd% and %Node.widget% in the file names of our saving nodes, as in those of the stock ones.
import { app } from "../../scripts/app.js";

const NODES = ["HDB_SaveLiDB", "HDB_ExportLoRA"];

app.registerExtension({
  name: "HyperDreamBooth.filenamePrefix",
  nodeCreated(node) {
    const replaced = window.comfyAPI?.utils?.applyTextReplacements; // the stock nodes' own; not in every frontend
    const widget = node.widgets?.find((w) => w.name === "filename_prefix");
    if (!NODES.includes(node.comfyClass) || !widget || !replaced) return;
    widget.serializeValue = () => replaced(app, widget.value);
  },
});
