"""Model folders ``models/hypernets`` and ``models/lidb``, known to the host like any other (extra_model_paths too)."""

import logging
import os

import folder_paths

EXTENSIONS = {".safetensors"}
WORKFLOWS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "workflows")
PEOPLE = "hyperdreambooth_people"
"""One photo per person: the folder that *09_many_people* works through."""


def register_folders() -> None:
    """Add both folders, and ``output/lidb``, where *Save LiDB* writes, so that *Load LiDB* lists it."""
    for name in ("hypernets", "lidb"):
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
    folder_paths.add_model_folder_path("lidb", os.path.join(folder_paths.get_output_directory(), "lidb"))
    for name in ("hypernets", "lidb"):
        paths, _ = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, EXTENSIONS)  # an unknown folder lists every file otherwise


def place_examples() -> None:
    """Put the workflows' pictures into the input folder, as the host does with its own, so that they run first time.

    A picture of that name that is already there stays as it is. The folder of people is placed only where there is none
    of that name: what somebody took out of it, or put into it, stays so. What cannot be written is only reported.
    """
    inputs = folder_paths.get_input_directory()
    pictures = [name for name in sorted(os.listdir(WORKFLOWS)) if name.endswith(".png")]
    try:
        os.mkdir(os.path.join(inputs, PEOPLE))
        pictures += [os.path.join(PEOPLE, name) for name in sorted(os.listdir(os.path.join(WORKFLOWS, PEOPLE)))]
    except FileExistsError:
        pass
    except OSError as error:
        logging.info(f"HyperDreamBooth: the folder {PEOPLE} could not be made in the input folder: {error}")
    for name in pictures:
        try:
            with open(os.path.join(WORKFLOWS, name), "rb") as source:
                picture = source.read()
            with open(os.path.join(inputs, name), "xb") as target:
                target.write(picture)
        except FileExistsError:
            pass
        except OSError as error:
            logging.info(f"HyperDreamBooth: the example picture {name} could not be put into the input folder: {error}")


def new_file(prefix: str, kind: str) -> tuple[str, str, str]:
    """Where a node writes a .safetensors file of the model folder ``kind``: (folder, file, subfolder of the output folder).

    Never a file that is there, and no name under which ``kind`` already lists another file, which would be loaded instead.
    A prefix that ends in a separator names a folder.
    """
    if not prefix.strip() or prefix.rstrip().endswith(("/", "\\")):
        prefix = prefix.strip() + "person"
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    while True:
        file = f"{name}_{counter:05}_.safetensors"
        listed = os.path.relpath(os.path.join("/", subfolder, file), os.path.join("/", kind))
        outside = listed.startswith(os.pardir)
        if not os.path.exists(os.path.join(folder, file)) and (outside or not folder_paths.get_full_path(kind, listed)):
            return folder, file, subfolder
        counter += 1


def file_choices(folder: str) -> list[str]:
    return folder_paths.get_filename_list(folder)


def file_stamp(folder: str, name: str | None) -> str:
    """Changes when the file changes: for ``fingerprint_inputs``, which is not told a name that comes through a link, so
    that then any of the folder's files counts."""
    if name is None:
        return "\n".join(file_stamp(folder, listed) for listed in file_choices(folder))
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        return f"{name}: missing"
    stat = os.stat(path)
    return f"{path} {stat.st_mtime_ns} {stat.st_size}"
