"""The miniature's ControlNet with the host's own nodes: what it loads, what it changes, what it leaves alone."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage

from hyperdreambooth.faceworld.edges import canny_edges, control_edges, control_picture, unpack
from hyperdreambooth.faceworld.export import from_checkpoint, to_checkpoint
from hyperdreambooth.faceworld.family import WEIGHTS
from hyperdreambooth.faceworld.train_base import Base, tokens, v_loss
from hyperdreambooth.faceworld.train_controlnet import CHECKPOINT, controlled, new_controlnet
from hyperdreambooth.nodes.apply_lidb import apply_lidb

NAME = "faceworld_canny.safetensors"
PEOPLE = Path(WEIGHTS).parent / "people"
LOW, HIGH = 0.2, 0.4  # the workflow's thresholds


def picture(name):
    return np.asarray(Image.open(PEOPLE / f"{name}.png").convert("RGB"))


@pytest.fixture(scope="module")
def control(host):
    with torch.inference_mode():
        return host.nodes.ControlNetLoader().load_controlnet(NAME)[0]


@pytest.fixture(scope="module")
def trained():
    """The checkpoint's and the ControlNet's weights in the modules that the training uses."""
    base = Base()
    base.load_state_dict(from_checkpoint(load_file(CHECKPOINT))[0])
    net = new_controlnet(base.requires_grad_(False).unet)
    fresh = copy.deepcopy(net)
    net.load_state_dict(load_file(Path(WEIGHTS) / "controlnet" / NAME))
    return base, net, fresh


def sampled(host, faceworld, control, edges, prompt, lidb=None, strength=1.0, seed=5, steps=8):
    """One picture (128, 128, 3) uint8; ``edges`` (128, 128) or None for no control."""
    model, clip, vae = faceworld
    nodes = host.nodes
    if lidb is not None:
        model, clip = apply_lidb(model, clip, lidb, 1.0, 1.0)
    positive, negative = (nodes.CLIPTextEncode().encode(clip, text)[0] for text in (prompt, ""))
    if edges is not None:
        image = torch.from_numpy(edges.astype(np.float32))[None, :, :, None].repeat(1, 1, 1, 3)
        apply = nodes.ControlNetApplyAdvanced().apply_controlnet
        positive, negative = apply(positive, negative, control, image, strength, 0.0, 1.0)
    empty = {"samples": torch.zeros(1, 8, 16, 16)}
    sampler = ("euler_ancestral", "normal")
    latent = nodes.KSampler().sample(model, seed, steps, 3.0, *sampler, positive, negative, empty)[0]
    return (nodes.VAEDecode().decode(vae, latent)[0][0].numpy() * 255 + 0.5).astype(np.uint8)


def agreement(wanted, got):
    """F1 of two edge maps, one pixel apart at most."""
    near = lambda edges: ndimage.binary_dilation(edges, np.ones((3, 3)))  # noqa: E731
    precision, recall = (got & near(wanted)).sum() / got.sum(), (wanted & near(got)).sum() / wanted.sum()
    return 2 * precision * recall / (precision + recall)


def test_the_stock_loader_takes_every_weight_and_nothing_is_missing(control):
    file = load_file(Path(WEIGHTS) / "controlnet" / NAME)
    assert {k: v.shape for k, v in file.items()} == {k: v.shape for k, v in control.control_model.state_dict().items()}
    assert control.control_model.num_heads == 4  # from the registered family: the file does not say it


def test_training_edges_are_those_of_the_stock_canny_node(host):
    node = host.nodes.NODE_CLASS_MAPPINGS["Canny"]
    for name, low, high in (("00_photo1", 0.2, 0.4), ("03_photo2", 0.4, 0.8), ("07_reference", 0.15, 0.3)):
        image = torch.from_numpy(picture(name).astype(np.float32) / 255)[None]
        theirs = node.execute(image, low, high).result[0]
        assert np.array_equal(canny_edges(picture(name), low, high), theirs[0, :, :, 0].numpy() > 0.5), name
    rng = np.random.default_rng([7, 3, 1])
    high = rng.uniform(0.3, 0.8)
    assert torch.equal(
        unpack(control_edges(3)[None])[0, 1],
        torch.from_numpy(canny_edges(control_picture(3, rng), high / 2, high)).float(),
    )


def test_a_checkpoint_comes_apart_into_what_was_put_together():
    file = load_file(CHECKPOINT)
    again = to_checkpoint(*from_checkpoint(file))
    assert set(again) == set(file) and all(torch.equal(again[k], file[k]) for k in file)


def test_the_host_runs_the_network_that_was_trained(host, control, trained):
    base, net, _ = trained
    stream = torch.Generator().manual_seed(2)
    x, t = torch.randn(2, 8, 16, 16, generator=stream), torch.tensor([300, 900])
    edges = torch.from_numpy(canny_edges(picture("02_photo1"), LOW, HIGH)).float().expand(2, 3, 128, 128)
    with torch.no_grad():
        context = base.text(tokens(["a photo of a [V] face", ""]), dtype=torch.float32)[0]
        ours = net(x, edges, t, context)
        theirs = copy.deepcopy(control.control_model).float()(x, edges, t, context)
    for kind in ("middle", "output"):
        assert len(ours[kind]) == len(theirs[kind]) > 0
        for a, b in zip(ours[kind], theirs[kind], strict=True):
            assert torch.allclose(a, b, atol=1e-4) and a.abs().max() > 0


def test_a_new_controlnet_changes_nothing_and_learns_in_every_weight(trained):
    base, _, net = trained
    stream = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(4, 8, 16, 16, generator=stream) for _ in range(2))
    t, ids = torch.tensor([200, 400, 600, 800]), tokens(["a photo of a face", "", "pop art of a [V] face", ""])
    model = controlled(base, net, unpack(np.stack([control_edges(i) for i in range(4)])))
    with torch.no_grad():
        assert torch.equal(model(x0, t, ids), base(x0, t, ids))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = v_loss(model, x0, t, noise, ids)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and all(p.grad.abs().max() > 0 for p in net.parameters())
    assert all(p.grad is None for p in base.parameters())


def test_strength_zero_and_no_control_are_the_same_picture(host, faceworld, control):
    edges = canny_edges(picture("04_photo1"), LOW, HIGH)
    with torch.inference_mode():
        prompt = "a photo of a face"
        without = sampled(host, faceworld, control, None, prompt, steps=4)
        assert np.array_equal(sampled(host, faceworld, control, edges, prompt, strength=0.0, steps=4), without)
        # not only because the node leaves out what has no strength
        assert np.array_equal(sampled(host, faceworld, control, edges, prompt, strength=1e-12, steps=4), without)
        assert not np.array_equal(sampled(host, faceworld, control, edges, prompt, steps=4), without)


def test_edges_steer_the_plain_model_and_a_personalised_one(host, faceworld, control):
    """The sampled picture's own edges agree with the control picture's more than without control, whoever is drawn."""
    with torch.inference_mode():
        hypernet = host.nodes.NODE_CLASS_MAPPINGS["HDB_LoadHyperNet"].execute("faceworld.safetensors").result[0]
        person = torch.from_numpy(picture("02_reference").astype(np.float32) / 255)[None]
        lidb = host.nodes.NODE_CLASS_MAPPINGS["HDB_PredictLiDB"].execute(hypernet, person).result[0]
        for who in (lidb, None):  # the plain model last: its weights are shared with other tests
            scores = []
            for pose in ("00_photo1", "08_photo2"):
                wanted = canny_edges(picture(pose), LOW, HIGH)
                scores.append(
                    [
                        agreement(wanted, canny_edges(one, LOW, HIGH))
                        for one in (
                            sampled(host, faceworld, control, edges, "a photo of a [V] face", who)
                            for edges in (None, wanted)
                        )
                    ]
                )
            without, with_control = np.array(scores).T
            assert (with_control > without).all() and with_control.mean() > without.mean() + 0.05, scores
