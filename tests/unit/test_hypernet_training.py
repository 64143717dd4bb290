"""The training loop on a toy host: one linear layer that must learn to shift by a person's colour."""

import json
from dataclasses import replace

import accelerate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hyperdreambooth.hypernet import precompute, train
from hyperdreambooth.hypernet.checkpoint import Identity
from hyperdreambooth.hypernet.hypernet import HyperNet, HyperNetConfig
from hyperdreambooth.hypernet.losses import balanced, cosine, spread
from hyperdreambooth.hypernet.precompute import FitSettings, fit_people, noise_levels
from hyperdreambooth.hypernet.recipe import Recipe, draw
from hyperdreambooth.hypernet.shards import PreparedPeople, Shard, open_plan, read_shard, write_shard
from hyperdreambooth.hypernet.train import Training, controls
from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.targets import Target, TargetTable

NAME = "lora_unet_down_blocks_0_attn1_to_q"
TABLE = TargetTable((Target(NAME, 12, 12),))
BASIS = Basis(12, 12)
RECIPE = Recipe(steps=150, people=4, targets=2, lr=1e-2, norm_weight=0.0)


class ToyHost:
    """Predicts x0 from a constant input: without a residual, it can only say zero."""

    device, table = torch.device("cpu"), TABLE

    def __init__(self):
        self.linear = torch.nn.Linear(12, 12, bias=False).requires_grad_(False)
        torch.nn.init.zeros_(self.linear.weight)
        self.modules, self.sigmas = {NAME: self.linear}, torch.linspace(0.1, 10, 100)

    def encode_prompts(self, prompts):
        return torch.ones(len(prompts), 1, 12)

    def denoising_loss(self, x0, noise, sigma, context):
        return (self.linear(context)[:, 0] - x0.flatten(1)).pow(2).mean(1)


@pytest.fixture
def data(tmp_path):
    """Four people of a colour each, with three photos and an edit; the first two are fitted."""
    open_plan(tmp_path, {"prompt": "a [V] face", "checkpoint": "abc"}, dict.fromkeys("abcd", ""), 4)
    faces = torch.zeros(4, 4, 16, 16, 3, dtype=torch.uint8)
    for p, channels in enumerate(((0,), (1,), (2,), (0, 1))):
        faces[p][..., list(channels)] = 255
    own = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 1, 3, 2, 2)))
    latents = own.repeat(1, 4, 1, 1, 1).flatten(0, 1).half()
    theta, loss = fit_people(
        ToyHost(), BASIS, list(latents.view(4, 4, 3, 2, 2)[:2]), [["a [V] face"] * 4] * 2, FitSettings(80, 5e-2)
    )
    owner, reference = torch.arange(4).repeat_interleave(4), torch.tensor([1, 1, 1, 0] * 4)
    captions = ["a [V] face"] * 16
    write_shard(tmp_path, 0, Shard(list("abcd"), captions, faces.flatten(0, 1), latents, owner, reference, theta, loss))
    return PreparedPeople(tmp_path)


def training(data, recipe=RECIPE, accumulate=1, basis=BASIS, pool=4, refinements=2, host=None):
    torch.manual_seed(0)
    net = HyperNet(HyperNetConfig(16, 8, 16, 1, 2, 16, 1, 2, refinements, 1, 24))
    identity, people = Identity(TABLE, basis, "[V] face", "toy", {}), np.arange(pool)
    accelerator = accelerate.Accelerator(cpu=True)
    return Training(net, identity, host or ToyHost(), data, people, recipe, accelerator, accumulate)


def run(job, steps):
    with job:
        return [job.advance() for _ in range(steps)]


def same(one, other):
    return all(torch.equal(v, other.net.state_dict()[k]) for k, v in one.net.state_dict().items())


def test_people_are_learnt_and_told_apart(data):
    job = training(data, replace(RECIPE, weight_loss=0.0))
    run(job, 150)
    losses = controls(job.average, job.identity, job.host, data, np.arange(4))
    assert losses["predicted"][0] < 0.1 * losses["plain"][0]
    assert losses["predicted"][0] < 0.5 * min(losses["mean"][0], losses["wrong"][0])
    assert torch.equal(job.host.linear(torch.ones(1, 12)), torch.zeros(1, 12))


def test_the_warm_up_reaches_the_fitted_people(data):
    job = training(data, replace(RECIPE, warmup_steps=150, steps=1))
    first, *_, last = run(job, 150)
    assert "denoising" not in first and last["weights"] < 0.1 * first["weights"] and last["cosine"] > 0.95
    assert "weights/down attn1" in last


@pytest.mark.parametrize("kind", ["plus", "paper"])
def test_an_interrupted_run_ends_with_the_same_weights(data, tmp_path, kind):
    recipe = replace(RECIPE, kind=kind, warmup_steps=3, steps=9)
    whole, begun, resumed = (training(data, recipe) for _ in range(3))
    straight = run(whole, 12)
    run(begun, 5)
    begun.save(tmp_path / "state.safetensors")
    resumed.restore(tmp_path / "state.safetensors")
    assert run(resumed, 7) == straight[5:]
    assert same(whole, resumed)
    assert all(torch.equal(v, resumed.average.state_dict()[k]) for k, v in whole.average.state_dict().items())
    other = training(data, replace(recipe, lr=1e-3))
    with pytest.raises(ValueError, match="another lr"):
        other.restore(tmp_path / "state.safetensors")


def test_a_run_goes_on_only_with_what_it_was_begun_with(data, tmp_path):
    state = tmp_path / "state.safetensors"
    begun = training(data)
    run(begun, 1)
    begun.save(state)
    wide = training(data, basis=Basis(12, 12, seed=1))  # of the same size, so that every tensor would fit
    for other, odd in ((wide, "basis"),
                       (training(data, pool=3), r"choice of training people \(4: .* 3: "),
                       (training(data, refinements=1), r"refinements \(2 then, 1 now\)")):  # fmt: skip
        with pytest.raises(ValueError, match=f"begun with another {odd}"):
            other.restore(state)
    shard = read_shard(data.folder, 0)
    write_shard(data.folder, 0, replace(shard, captions=["another [V] face", *shard.captions[1:]]))
    with pytest.raises(ValueError, match="another set of prepared people"):
        training(PreparedPeople(data.folder)).restore(state)
    data.settings["checkpoint"] = "def"
    with pytest.raises(ValueError, match="another checkpoint .abc then, def now"):
        training(data).restore(state)
    data.settings["checkpoint"] = "abc"
    training(data).restore(state)
    save_file(load_file(state), state, metadata={"step": "1"})
    with pytest.raises(ValueError, match="does not say what its run was begun with"):
        training(data).restore(state)


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_step_whose_numbers_are_not_finite_changes_nothing_and_ten_in_a_row_end_the_run(data, broken):
    class Breaking(ToyHost):
        asked, fails = 0, range(2, 5)

        def denoising_loss(self, x0, noise, sigma, context):
            self.asked += 1
            loss = super().denoising_loss(x0, noise, sigma, context)
            if self.asked - 1 not in self.fails:
                return loss
            return loss * float("nan") if broken == "loss" else loss + (loss * 0).sqrt()  # d sqrt(x) at 0 is infinite

    def everything():
        stores = job.net.state_dict(), job.average.state_dict(), job.optimizer.tensors()
        return [{k: v.clone() for k, v in store.items()} for store in stores]

    def same(one, other):
        return all(torch.equal(v, old[k]) for store, old in zip(one, other, strict=True) for k, v in store.items())

    job = training(data, host=Breaking())
    run(job, 2)
    before = everything()
    assert run(job, 3) == [{}] * 3 and job.step == 5 and same(everything(), before)
    assert "denoising" in run(job, 1)[0] and not same(everything(), before)
    before, job.host.fails = everything(), range(6, 99)
    with pytest.raises(ValueError, match="In step 16, as in the 9 before it, the loss is .* must be finite"):
        run(job, 20)
    assert same(everything(), before)


def test_the_loss_scale_changes_nothing_in_float32_and_saves_small_gradients_in_float16(data, monkeypatch):
    class Half(ToyHost):
        def __init__(self):
            super().__init__()
            self.linear.half()

        def denoising_loss(self, x0, noise, sigma, context):
            return 1e-7 * (self.linear(context.half())[:, 0].float() - x0.flatten(1)).pow(2).mean(1)

    def results():
        job = training(data, replace(RECIPE, warmup_steps=2, steps=2))
        shown, latents = run(job, 4), [data.latents(data.pictures[0])]
        fits = [fit_people(h, BASIS, latents, [["a [V] face"] * 4], FitSettings(20, 5e-2)) for h in (ToyHost(), Half())]
        small = training(data, replace(RECIPE, weight_loss=0.0), host=Half())
        start = small.net.head.weight.detach().clone()
        run(small, 3)
        return job.net.state_dict(), shown, fits[0][0], fits[1][1].item() / 1e-7, (small.net.head.weight - start).norm()

    weights, shown, theta, half, moved = results()
    monkeypatch.setattr(train, "LOSS_SCALE", 1.0)
    monkeypatch.setattr(precompute, "LOSS_SCALE", 1.0)
    weights_1, shown_1, theta_1, half_1, moved_1 = results()
    assert shown == shown_1 and torch.equal(theta, theta_1)
    assert all(torch.equal(v, weights_1[k]) for k, v in weights.items())
    assert half < 0.5 * half_1 and moved > 2 * moved_1


def test_each_cure_of_the_weight_loss_can_be_taken_away(data):
    now = draw(data, np.arange(2), 0, replace(RECIPE, people=2), (3, 2, 2))
    fitted = data.thetas(now.people)
    turned = torch.cat([-fitted[..., :12], -fitted[..., 12:]], -1)  # the same residuals, other numbers

    def job(*without):
        return training(data, replace(RECIPE, warmup_steps=5, without=without))

    whole, no_gauge, no_norm, no_mean = job(), job("gauge"), job("norm"), job("mean")
    assert whole._weights(turned, now)[0].abs() < 1e-4 and no_gauge._weights(turned, now)[0] > 0.5
    assert no_gauge._weights(fitted, now)[0] == 0
    far = fitted * 1.5
    shown = [j._weights(far, now) for j in (whole, no_norm, no_gauge)]
    assert shown[1][0] == pytest.approx((shown[0][0] * whole.size[0]).item())
    assert all(torch.equal(found["weights"], shown[0][1]["weights"]) for _, found in shown)  # one measure for all
    assert whole.net.mean.any() and not no_mean.net.mean.any() and (no_mean.net.scale == 1).all()
    raw = data.thetas(data.fitted).mean(0)
    assert torch.allclose(no_gauge.net.mean, raw) and not torch.allclose(whole.net.mean, raw)
    assert all(np.isfinite(list(step.values())).all() for j in (no_gauge, no_norm, no_mean) for step in run(j, 6))
    with pytest.raises(ValueError, match="paper has none of them"):
        replace(RECIPE, kind="paper", without=("norm",))


def test_other_pictures_as_targets_and_muon_can_be_taken_away_as_the_paper_has_it(data):
    class Listening(ToyHost):
        def encode_prompts(self, prompts):
            said.append(set(prompts))
            return super().encode_prompts(prompts)

    jobs, heard, said = {}, {}, []
    recipes = {"whole": RECIPE, "paper": replace(RECIPE, kind="paper", warmup_steps=0)}
    recipes |= {cure: replace(RECIPE, without=(cure,)) for cure in ("others", "muon")}
    for name, recipe in recipes.items():
        now = draw(data, np.arange(4), 3, recipe, (3, 2, 2))
        itself = bool((now.target == now.reference[:, None]).all())
        assert itself == (name in ("others", "paper")), name
        jobs[name] = training(data, recipe, host=Listening())
        run(jobs[name], 1)
        heard[name] = said.pop()
        said.clear()
    assert heard["others"] == heard["paper"] == {data.settings["prompt"]}
    by_muon = {name: bool(job.optimizer.groups) for name, job in jobs.items()}
    assert by_muon == {"whole": True, "paper": False, "others": True, "muon": False}


def test_controls_do_not_depend_on_who_shares_a_forward(data):
    class Noisy(ToyHost):
        def denoising_loss(self, x0, noise, sigma, context):
            return super().denoising_loss(x0, noise, sigma, context) + sigma * noise.flatten(1).pow(2).mean(1)

    job = training(data, host=Noisy())
    run(job, 3)
    whole, pairs, threes = (
        controls(job.average, job.identity, job.host, data, np.arange(4), together) for together in (4, 2, 3)
    )
    assert len(whole["plain"]) == 2
    for name, losses in whole.items():
        assert losses == pytest.approx(pairs[name], rel=1e-5) and losses == pytest.approx(threes[name], rel=1e-5)


def test_the_controls_leave_out_whoever_has_one_photo_unless_nobody_has_more(data):
    """Their own reference would be the other photo, which copying explains."""
    job = training(data)
    run(job, 2)
    losses = lambda people: controls(job.average, job.identity, job.host, data, np.array(people))  # noqa: E731
    three = losses([0, 1, 2])
    data.references[3] = data.references[3][:1]
    assert losses([0, 1, 2, 3]) == three
    for p in range(4):
        data.references[p] = data.references[p][:1]
    assert len(losses([0, 1, 2, 3])["predicted"]) == len(three["predicted"])


def test_accumulated_shares_are_the_whole_step(data):
    recipe = replace(RECIPE, steps=6)
    whole, shares = training(data, recipe), training(data, recipe, accumulate=2)
    for a, b in zip(run(whole, 6), run(shares, 6), strict=True):
        assert a.keys() == b.keys() and all(abs(a[k] - b[k]) < 1e-4 * max(1, abs(a[k])) for k in a)
    with pytest.raises(ValueError, match="multiple of 3"):
        training(data, recipe, accumulate=3)


def test_a_draw_never_shows_the_reference_and_halves_make_the_whole(data):
    whole = draw(data, np.arange(4), 7, RECIPE, (3, 2, 2))
    assert not (whole.target == whole.reference[:, None]).any()
    assert (data.owner[whole.target] == whole.people[:, None]).all() and data.is_reference[whole.reference].all()
    halves = [whole.part(i, 2) for i in range(2)]
    assert torch.equal(torch.cat([h.noise for h in halves]), whole.noise)
    again, next_step = (draw(data, np.arange(4), k, RECIPE, (3, 2, 2)) for k in (7, 8))
    assert torch.equal(again.noise, whole.noise) and not torch.equal(next_step.noise, whole.noise)
    literal = draw(data, np.arange(4), 7, replace(RECIPE, kind="paper"), (3, 2, 2))
    assert (literal.target == literal.reference[:, None]).all()


def test_a_fit_does_not_depend_on_the_company(data):
    latents, captions = [data.latents(data.pictures[p]) for p in range(4)], [["a [V] face"] * 4] * 4
    settings = FitSettings(20, 5e-2)
    together, loss = fit_people(ToyHost(), BASIS, latents, captions, settings)
    alone = torch.cat([fit_people(ToyHost(), BASIS, [z], captions[:1], settings)[0] for z in latents])
    assert torch.allclose(together, alone, atol=1e-5)
    assert (loss < 0.5 * torch.stack([z[0].pow(2).mean() for z in latents])).all()
    own, _ = fit_people(ToyHost(), BASIS, latents[:1] * 2, captions[:2], replace(settings, own_start=True))
    shared, _ = fit_people(ToyHost(), BASIS, latents[:1] * 2, captions[:2], settings)
    assert torch.equal(shared[0], shared[1]) and not torch.allclose(own[0], own[1])


def test_balancing_keeps_the_residual_and_the_spread_is_the_dense_one():
    theta = torch.randn(6, 3, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    even = balanced(theta, 12)
    dense = lambda t: torch.einsum("pla,plb->plab", t[..., :12], t[..., 12:])  # noqa: E731
    assert torch.allclose(dense(even), dense(theta))
    assert torch.allclose(even[..., :12].norm(dim=-1), even[..., 12:].norm(dim=-1))
    expected = (dense(theta) - dense(theta).mean(0)).pow(2).sum((2, 3)).mean(0)
    assert torch.allclose(spread(theta, 12), expected)
    assert torch.allclose(
        cosine(theta[..., :12], theta[..., 12:], even[..., :12], even[..., 12:]), torch.ones(6, 3, dtype=torch.float64)
    )


def test_levels_are_stratified_and_lean_to_the_upper_half():
    level = noise_levels(1000, 0.1, torch.Generator().manual_seed(0))
    assert level.min() >= 0 and level.max() < 1 and abs((level < 0.5).float().mean() - 0.1) < 0.01


def test_a_plan_grows_but_does_not_change_its_mind(tmp_path):
    assert open_plan(tmp_path, {"steps": 5}, dict.fromkeys("abc", ""), 2)[0] == [["a", "b"], ["c"]]
    assert open_plan(tmp_path, {"steps": 5}, dict.fromkeys("abcd", ""), 2)[0] == [["a", "b"], ["c"], ["d"]]
    with pytest.raises(ValueError, match=r"another steps \(5 then, 6 now\)"):
        open_plan(tmp_path, {"steps": 6}, {"a": ""}, 2)
    with pytest.raises(ValueError, match="no finished shard"):
        PreparedPeople(tmp_path)
    (tmp_path / "plan.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match="another version"):
        PreparedPeople(tmp_path)


def test_half_precision_reaches_the_network_in_one_process(data):
    def first_loss(precision):
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        torch.manual_seed(0)
        net = HyperNet(HyperNetConfig(16, 8, 16, 1, 2, 16, 1, 2, 2, 1, 24))
        accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
        identity = Identity(TABLE, BASIS, "[V] face", "toy", {})
        job = Training(net, identity, ToyHost(), data, np.arange(4), replace(RECIPE, warmup_steps=2), accelerator)
        return run(job, 2)[1]["weights"]

    exact, half = first_loss("no"), first_loss("bf16")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    assert exact != half and exact == pytest.approx(half, rel=0.05)
