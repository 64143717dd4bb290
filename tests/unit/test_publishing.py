"""What the registry and a reader without the repository get."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from hyperdreambooth.nodes.host_version import OLDEST_HOST

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = (
    "__init__.py",
    "LICENSE",
    "README.ko.md",
    "nodes/extension.py",
    "cli/finetune.py",
    "methods/defaults.py",
    "locales/ko/nodeDefs.json",
    "web/reports.js",
    "web/docs/HDB_CropFace.md",
    "workflows/01_predict.json",
    "workflows/01_predict.jpg",
    "subgraphs/Photo to Personalised Model.json",
    "faceworld/weights/checkpoints/faceworld.safetensors",
)
KEPT_BACK = (
    "tests/host/conftest.py",
    "bench/results/evaluate.faceworld.json",
    "faceworld/people/00_photo1.png",
    ".ci/run",
    "docs/demo.jpg",
)


def test_the_archive_holds_what_runs_and_leaves_out_what_only_developers_need(tmp_path):
    """The registry's client reads ``.comfyignore`` as git reads ``.gitignore``: a pattern without a slash hits every depth."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text((ROOT / ".comfyignore").read_text())
    asked = "\n".join(SHIPPED + KEPT_BACK)
    check = ["git", "-C", tmp_path, "check-ignore", "--no-index", "--stdin"]
    ignored = subprocess.run(check, input=asked, capture_output=True, text=True).stdout.split()
    assert ignored == list(KEPT_BACK)
    modules = [package.replace("hyperdreambooth", "", 1).replace(".", "/").strip("/") for package in
               PROJECT["tool"]["setuptools"]["packages"]]  # fmt: skip
    needed = [f"{module}/__init__.py".removeprefix("/") for module in modules]
    assert all((ROOT / file).is_file() for file in needed)
    assert subprocess.run(check, input="\n".join(needed), capture_output=True, text=True).stdout == ""


def test_the_registry_finds_what_it_asks_for():
    project, comfy = PROJECT["project"], PROJECT["tool"]["comfy"]
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", project["name"]) and len(project["name"]) < 100
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert (ROOT / project["license"]["file"]).is_file()
    assert project["urls"]["Repository"] and comfy["PublisherId"] and comfy["DisplayName"]
    assert comfy["requires-comfyui"] == f">={OLDEST_HOST}"
    declared = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in declared if line and not line.startswith("#")] == project["dependencies"]


def test_the_icon_has_a_size_the_registry_takes():
    icon = PROJECT["tool"]["comfy"]["Icon"]
    drawing = ElementTree.parse(ROOT / "web" / icon.rsplit("/", 1)[1]).getroot()
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert 0 < int(drawing.get("width")) <= 800 and 0 < int(drawing.get("height")) <= 400


def test_this_version_is_in_the_changelog():
    assert f"\n## {PROJECT['project']['version']}," in (ROOT / "CHANGELOG.md").read_text()


def test_the_korean_readme_has_the_same_parts():
    def parts(name: str) -> dict:
        text = (ROOT / name).read_text("utf-8")
        return {
            "headings": re.findall(r"^#+", text, re.M),
            "rows": [line.count("|") for line in text.splitlines() if line.startswith("|")],
            "commands": [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    ")],
            "pictures": re.findall(r'src="([^"]+)"|\]\(([^)]+\.jpg)\)', text),
        }

    assert parts("README.md") == parts("README.ko.md")
