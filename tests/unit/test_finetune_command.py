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
