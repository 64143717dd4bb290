"""The real ComfyUI in this process: its node registry, its validation, its executor; no server, no mock.

The extension is linked into ``custom_nodes/`` of a base directory and loaded exactly as ComfyUI loads it.
"""

import asyncio
import copy
import logging
import os
import sys
import uuid
from pathlib import Path

from .host_install import REPOSITORY, find_host
from .links import link


def pick_device() -> None:
    """Under ``accelerate launch``, each process takes the GPU of its local rank; call before the host is imported."""
    import torch

    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


class NodeFailed(RuntimeError):
    """A node raised, or the graph is invalid; the message is the node's own."""


class _Server:
    """What the executor and the progress handlers touch of ComfyUI's server."""

    client_id = last_node_id = last_prompt_id = app = None

    def __init__(self):
        self.sockets_metadata, self.events = {}, []
        anything = lambda *a, **k: lambda f: f  # noqa: E731
        self.routes = type("Routes", (), {"__getattr__": lambda self, name: anything})()
        self.node_replace_manager = type("Replace", (), {"register": lambda *a: None})()

    def send_sync(self, event, data, sid=None):
        self.events.append((event, data))

    def send_progress_text(self, text, node_id, sid=None):
        self.events.append(("progress_text", (text, node_id)))


def link_extension(base: Path) -> None:
    """Link this repository into custom_nodes, also if an older link leads elsewhere; other processes may do the same."""
    place = base / "custom_nodes" / "ComfyUI-HyperDreamBooth"
    if place.resolve() != REPOSITORY:
        link(REPOSITORY, place, scratch=base)  # not in custom_nodes, where a booting host would load it


def add_own_models(host: Path, base: Path) -> None:
    """After ``base``'s, list the model folders of the host itself and those that its extra_model_paths.yaml names."""
    import folder_paths
    import utils.extra_config

    for name, (folders, _) in list(folder_paths.folder_names_and_paths.items()):
        for folder in [Path(folder) for folder in folders]:
            if folder.is_relative_to(base / "models"):
                folder_paths.add_model_folder_path(name, str(host / folder.relative_to(base)))
    if (host / "extra_model_paths.yaml").is_file():
        utils.extra_config.load_extra_path_config(str(host / "extra_model_paths.yaml"))


class HeadlessHost:
    """Boot once per process.

    Args:
        base: ComfyUI's base directory (input/, output/, custom_nodes/, models/ before the host's own); made if missing.
    """

    def __init__(self, base: Path):
        self.base = Path(base).resolve()
        for folder in ("custom_nodes", "models/checkpoints", "models/loras", "input", "output", "temp", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        link_extension(self.base)
        host = str(find_host())
        sys.path.insert(0, host)
        os.chdir(host)
        argv, sys.argv = sys.argv, sys.argv[:1]
        from comfy.cli_args import args

        sys.argv = argv
        args.base_directory, args.disable_api_nodes = str(self.base), True
        import torch
        import utils.extra_config  # noqa: F401  before server and nodes: comfy/ has a utils.py of its own

        args.cpu = not torch.cuda.is_available()
        import server

        self.server = server.PromptServer.instance = _Server()
        import comfy.model_management as mm
        import comfy.utils
        import execution
        import folder_paths
        from comfy_execution.progress import get_progress_state
        from comfy_execution.utils import get_executing_context

        import nodes

        logging.getLogger().setLevel(logging.WARNING)
        folder_paths.add_model_folder_path("loras", str(self.base / "output" / "loras"))
        failed = asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
        add_own_models(Path(host), self.base)
        if not any(name.startswith("HDB_") for name in nodes.NODE_CLASS_MAPPINGS):
            raise RuntimeError(f"ComfyUI could not load the extension ({failed}); its log says why.")

        def progress(value, total, preview, prompt_id=None, node_id=None):
            mm.throw_exception_if_processing_interrupted()
            context = get_executing_context()
            get_progress_state().update_progress(node_id or (context and context.node_id), value, total, preview)

        comfy.utils.set_progress_bar_global_hook(progress)
        comfy.utils.set_progress_bar_enabled(False)  # no terminal bar per sampling; whoever runs many graphs shows one
        cache = {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}
        self.executor = execution.PromptExecutor(self.server, cache_type=execution.CacheType.CLASSIC, cache_args=cache)
        self._execution, self.nodes, self.mm = execution, nodes, mm

    def check_listed(self, folder: str, name: str) -> None:
        """Raise ValueError, naming what there is, if a model folder does not list this file."""
        import folder_paths

        there = folder_paths.get_filename_list(folder)
        if name not in there:
            raise ValueError(
                f"There is no {name!r} in the folder {folder}; there are {', '.join(there) or 'no files'}."
            )

    def model_file(self, folder: str, name: str) -> Path:
        """Where a listed file of a model folder lies."""
        import folder_paths

        return Path(folder_paths.get_full_path_or_raise(folder, name))

    def base_of(self, checkpoint: str) -> str:
        """The host's name for a checkpoint's architecture, e.g. ``SD15``.

        Raises:
            NodeFailed: the host cannot load it.
        """
        import torch

        try:
            with torch.inference_mode():
                model = self.nodes.CheckpointLoaderSimple().load_checkpoint(checkpoint)[0]
        except RuntimeError as error:
            raise NodeFailed(f"ComfyUI cannot load {checkpoint}: {error}") from error
        return type(model.model.model_config).__name__

    def object_info(self) -> dict:
        """What the server's /object_info answers, from the node classes themselves."""
        info = {}
        for name, cls in self.nodes.NODE_CLASS_MAPPINGS.items():
            if hasattr(cls, "GET_NODE_INFO_V1"):
                info[name] = cls.GET_NODE_INFO_V1()
            else:
                inputs = cls.INPUT_TYPES()
                info[name] = {"input": inputs, "input_order": {k: list(v) for k, v in inputs.items()}}
        return info

    def run(self, prompt: dict) -> dict:
        """Validate and execute an API-format graph.

        Returns:
            node id -> its UI output.

        Raises:
            NodeFailed: the graph is invalid, a node raised, or the run was interrupted.
        """
        identifier, prompt = str(uuid.uuid4()), copy.deepcopy(prompt)  # the host notes in it whether files have changed
        valid, error, outputs, node_errors = asyncio.run(self._execution.validate_prompt(identifier, prompt, None))
        if not valid or node_errors:
            details = [
                f"{prompt[i]['class_type']}: {e['message']} {e['details']}"
                for i, n in node_errors.items()
                for e in n["errors"]
            ]
            raise NodeFailed(f"{error and error['message']} {'; '.join(details)}")
        self.executor.execute(prompt, identifier, {"client_id": "headless"}, outputs)
        if not self.executor.success:
            for event, data in self.executor.status_messages:
                if event == "execution_error":
                    raise NodeFailed(data["exception_message"].strip())
            raise NodeFailed("The run was interrupted.")
        return self.executor.history_result["outputs"]

    def saved(self, output: dict) -> list[Path]:
        """Paths of the files in one node's UI output."""
        files = [
            f
            for value in output.values()
            if isinstance(value, list)
            for f in value
            if isinstance(f, dict) and "filename" in f
        ]
        return [self.base / f["type"] / f["subfolder"] / f["filename"] for f in files]
