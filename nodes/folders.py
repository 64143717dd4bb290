"""Model folders ``models/hypernets`` and ``models/lidb``, known to the host like any other (extra_model_paths too)."""

import os

import folder_paths

EXTENSIONS = {".safetensors"}


def register_folders() -> None:
    """Add both folders, and ``output/lidb``, where *Save LiDB* writes, so that *Load LiDB* lists it."""
    for name in ("hypernets", "lidb"):
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
    folder_paths.add_model_folder_path("lidb", os.path.join(folder_paths.get_output_directory(), "lidb"))
    for name in ("hypernets", "lidb"):
        paths, _ = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, EXTENSIONS)  # an unknown folder lists every file otherwise


def file_choices(folder: str) -> list[str]:
    return folder_paths.get_filename_list(folder)


def file_stamp(folder: str, name: str) -> str:
    """Changes when the file changes: for ``fingerprint_inputs``."""
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        return f"{name}: missing"
    stat = os.stat(path)
    return f"{path} {stat.st_mtime_ns} {stat.st_size}"
