"""What installing a host leaves alone."""

import hyperdreambooth.cli.host_install as install


def installed(monkeypatch, tmp_path, host):
    """The arguments of pip for a host that is there."""
    (tmp_path / "requirements.txt").write_text("torch\nnumpy\n")
    calls = []
    monkeypatch.setattr(install, "find_host", lambda: tmp_path)
    monkeypatch.setattr(install, "PRIVATE_HOST", tmp_path if host == "private" else tmp_path / "none")
    monkeypatch.setattr(install.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(install, "_pip", lambda *arguments: calls.append(arguments))
    assert install.install_host() == tmp_path
    assert install.install_host() == tmp_path and len(calls) == 1  # the second call has nothing to do
    return calls[0]


def test_a_users_own_pytorch_is_not_replaced(monkeypatch, tmp_path):
    assert installed(monkeypatch, tmp_path, "a user's") == ("install", "-r", str(tmp_path / "requirements.txt"))


def test_the_private_host_gets_the_pytorch_it_was_tried_with(monkeypatch, tmp_path):
    assert set(install.TORCH) < set(installed(monkeypatch, tmp_path, "private"))
