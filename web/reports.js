// What one of our nodes says about its result (ui.text), shown on the node itself; not saved with the workflow.
import { app } from "../../scripts/app.js";

const NAME = "says";
const LINE = 14; // pixels
const COLUMNS = 46; // characters before a line wraps, about
const MOST = 220; // pixels; longer reports scroll

function height(text) {
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / COLUMNS)), 0);
  return Math.min(MOST, LINE * (lines + 1));
}

function addReport(node) {
  const box = document.createElement("textarea");
  box.className = "comfy-multiline-input";
  box.readOnly = true;
  const widget = node.addDOMWidget(NAME, "report", box, {
    serialize: false, // not in the prompt
    getValue: () => box.value,
    setValue: (text) => (box.value = text),
    getMinHeight: () => height(box.value),
  });
  widget.serialize = false; // not in the file
  return widget;
}

function show(node, text) {
  const widget = node.widgets?.find((w) => w.name === NAME) ?? addReport(node);
  widget.value = text;
  const least = node.computeSize();
  node.setSize([Math.max(least[0], node.size[0]), Math.max(least[1], node.size[1])]);
}

app.registerExtension({
  name: "HyperDreamBooth.reports",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("HDB_")) return;
    const { onExecuted, onSerialize } = nodeType.prototype;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (output?.text?.length) show(this, output.text.join("\n"));
    };
    nodeType.prototype.onSerialize = function (saved) {
      onSerialize?.apply(this, arguments);
      // a node without widgets of its own is saved after a run as it was before
      if (saved.widgets_values?.length === 0) delete saved.widgets_values;
    };
  },
});
