// What one of our nodes says about its result (ui.text), shown on the node itself; not saved with the workflow.
import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";

const NAME = "says";
const LINE = 14; // pixels
const COLUMNS = 46; // characters before a line wraps, about
const MOST = 220; // pixels; longer reports scroll

function height(text) {
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / COLUMNS)), 0);
  return Math.min(MOST, LINE * (lines + 1));
}

function show(node, text) {
  let widget = node.widgets?.find((w) => w.name === NAME);
  if (!widget) {
    widget = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app).widget;
    widget.serialize = false; // not in the file
    widget.options.serialize = false; // not in the prompt
    widget.options.read_only = true;
    widget.options.getMinHeight = () => height(String(widget.value ?? ""));
    if (widget.inputEl) widget.inputEl.readOnly = true;
    // no socket: nothing can be plugged into a report
    const slot = node.inputs?.findIndex((i) => i.widget?.name === NAME) ?? -1;
    if (slot >= 0) node.removeInput(slot);
  }
  widget.value = text;
  const least = node.computeSize();
  node.setSize([Math.max(least[0], node.size[0]), Math.max(least[1], node.size[1])]);
}

app.registerExtension({
  name: "HyperDreamBooth.reports",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("HDB_")) return;
    const onExecuted = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (output?.text?.length) show(this, output.text.join("\n"));
    };
  },
});
