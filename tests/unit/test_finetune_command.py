"""What `hyperdreambooth finetune` refuses before it loads anything."""

import argparse
from pathlib import Path

import pytest

from hyperdreambooth.cli import main
from hyperdreambooth.cli.finetune import METHODS, ONLY, add_arguments, check
from hyperdreambooth.methods.defaults import DEFAULTS

VALUES = {
    "hypernet": "a",
    "rank": "2",
    "space": "basis",
    "prior": "4",
    "class_prompt": "a face",
    "vectors": "2",
    "word": "face",
}


@pytest.fixture(autouse=True)
def a_folder_with_a_picture(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").touch()


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--image", "a.png", "--out", "a.safetensors", *arguments])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", ONLY)
def test_an_option_of_another_method_is_refused(method, option):
    extra = ["--prior", "4"] if option == "class_prompt" else []
    args = parsed("--method", method, f"--{option.replace('_', '-')}", VALUES[option], *extra)
    if method in ONLY[option]:
        check(args)
    else:
        with pytest.raises(ValueError, match=f"is for --method .*, not for {method}"):
            check(args)


@pytest.mark.parametrize(
    "wrong, said",
    [
        (["--steps", "0"], "--steps is a number from 1 on, not 0"),
        (["--batch", "0"], "--batch is a number from 1 on, not 0"),
        (["--rank", "0"], "--rank is a number from 1 on, not 0"),
        (["--method", "dreambooth", "--prior", "0"], "--prior is a number from 1 on, not 0"),
        (["--method", "textual-inversion", "--vectors", "0"], "--vectors is a number from 1 on, not 0"),
        (["--resolution", "-8"], "--resolution is a number from 0 on, not -8"),
        (["--lr", "-1"], "--lr is a number above 0, not -1"),
        (["--lr", "nan"], "--lr is a number above 0, not nan"),
        (["--prompt", "a photo of a man"], "--prompt 'a photo of a man' lacks the trigger phrase '\\[V\\] face'"),
        (["--image", "a.png", "none.png"], "There is no picture at none.png"),
        (["--out", "folder.safetensors"], "folder.safetensors cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(tmp_path, wrong, said):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ValueError, match=said):
        check(parsed(*wrong))
    check(parsed("--out", "new/folder/a.safetensors"))
    assert (tmp_path / "new" / "folder").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        check(parsed("--out", "file/a.safetensors"))


def test_what_else_is_wrong_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="with --prior N how many"):
        check(parsed("--method", "dreambooth", "--class-prompt", "a face"))
    with pytest.raises(SystemExit) as left:
        main(["finetune", "--image", "a.png", "--out", str(tmp_path / "a.ckpt")])
    assert left.value.code == "hyperdreambooth finetune: --out is a .safetensors file, not 'a.ckpt'."


def test_every_method_has_its_own_defaults_in_the_help(capsys):
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert set(METHODS) | {"hyperdreambooth"} == set(DEFAULTS)
    assert all(f"{method} {DEFAULTS[method][i]:g}" in said for method in METHODS for i in (0, 1))
    assert not Path("a.safetensors").exists()


def test_a_file_given_by_a_relative_path_is_found_from_wherever_the_command_runs(monkeypatch, tmp_path):
    """Before the host boots, which changes the current folder."""
    seen = []
    monkeypatch.setattr("hyperdreambooth.cli.headless.HeadlessHost", lambda base: monkeypatch.chdir("/"))
    monkeypatch.setattr("hyperdreambooth.cli.finetune.finetune", lambda args, host: seen.append(args))
    for name in ("own.safetensors", "net.safetensors"):
        (tmp_path / name).touch()
    args = ["--checkpoint", "./own.safetensors", "--hypernet", "net.safetensors", "--image", "a.png"]
    main(["finetune", *args, "--out", "a.safetensors"])
    assert seen[0].checkpoint == str(tmp_path / "own.safetensors")
    assert seen[0].hypernet == str(tmp_path / "net.safetensors")
    monkeypatch.chdir(tmp_path)
    main(["finetune", "--checkpoint", "listed.safetensors", "--image", "a.png", "--out", "a.safetensors"])
    assert seen[1].checkpoint == "listed.safetensors"
