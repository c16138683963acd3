import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_model

import scorefield as sf

QUICK = {"n": 5, "steps": 3}


def test_the_ending_says_what_is_written(cli, here):
    assert cli("sample", "grey", out="a.png", **QUICK).status == 0
    assert Image.open("a.png").size == (32, 22)
    assert cli("sample", "grey", out="a.npz", seed=7, **QUICK).status == 0
    arrays = np.load("a.npz")
    assert arrays["samples"].shape == (5, 1, 8, 8)
    assert int(arrays["seed"]) == 7
    assert arrays["indices"].tolist() == [0, 1, 2, 3, 4]
    assert cli("sample", "colour", out="a", **QUICK).status == 0
    assert len(list(Path("a").glob("*.png"))) == 5


def test_samples_are_those_of_python_at_any_batch_size(cli, here):
    cli("sample", "grey", out="all.npz", seed=3, **QUICK)
    cli("sample", "grey", out="two.npz", seed=3, batch_size=2, **QUICK)
    expected = sf.sample(sf.load("./grey"), 5, seed=3, steps=3).numpy()
    assert np.abs(np.load("all.npz")["samples"] - expected).max() < 1e-5
    assert np.abs(np.load("two.npz")["samples"] - expected).max() < 1e-5


def test_the_way_to_the_samples_is_a_filmstrip_or_an_animation(cli, here):
    assert cli("sample", "grey", out="a.npz", n=3, steps=20, batch_size=2, trajectory="way.png").status == 0
    strip = np.asarray(Image.open("way.png"))
    assert strip.shape[:2] == (2 * 10 + 2, 12 * 10 + 2)  # the first batch, twelve frames of 8 pixels and a margin
    samples = np.load("a.npz")["samples"]
    assert np.abs(strip[2:10, -10:-2].squeeze() / 255 - samples[0, 0]).max() < 0.003
    assert cli("sample", "colour", out="b.npz", n=2, steps=4, sampler="unipc", trajectory="way.gif").status == 0
    film = Image.open("way.gif")
    assert film.n_frames == 4  # after steps 1 to 3, and the samples
    assert film.info["loop"] == 0


def test_what_has_no_way_to_show_is_said_at_once(cli, here):
    assert "--sampler ode" in cli("sample", "grey", out="a.npz", sampler="ode", trajectory="way.png").error
    assert ".png (a filmstrip) or .gif" in cli("sample", "grey", out="a.npz", trajectory="way.mp4").error
    assert "one file" in cli("sample", "grey", out="way.png", trajectory="./way.png").error
    assert "images only" in cli("sample", "vectors", out="a.npz", trajectory="way.png").error
    assert not Path("a.npz").exists()


def test_json_is_one_object_and_nothing_else(cli, here):
    outcome = cli("sample", "grey", "--json", out="a.npz", **QUICK)
    told = json.loads(outcome.out)
    assert outcome.err == ""
    assert (told["n"], told["seed"], told["steps"], told["grid"], told["out"]) == (5, 0, 3, "best", "a.npz")
    assert told["nfe"] == 4  # three steps and the denoising


@pytest.mark.parametrize(
    ("options", "sampler"),
    [
        ({"sampler": "ancestral"}, "Ancestral(variance='posterior')"),
        ({"sampler": "reverse-diffusion"}, "ReverseDiffusion(probability_flow=False)"),
        ({"sampler": "euler-maruyama"}, "EulerMaruyama(probability_flow=False)"),
        ({"sampler": "heun"}, str(sf.Heun())),
        ({"sampler": "ddim"}, str(sf.DDIM())),
        ({"sampler": "dpmpp-2m"}, str(sf.DPMSolver(2))),
        ({"sampler": "dpmpp-2m-sde"}, str(sf.DPMSolver(2, tau=1.0))),
        ({"sampler": "dpmpp-2s"}, str(sf.DPMSolverSinglestep())),
        ({"sampler": "dpmpp-3m"}, str(sf.DPMSolver(3))),
        ({"sampler": "unipc"}, str(sf.UniPC())),
        ({"sampler": "deis"}, str(sf.DEIS())),
        ({"sampler": "pc", "snr": 0.2}, str(sf.PredictorCorrector(sf.ReverseDiffusion(), sf.Langevin(0.2)))),
        ({"sampler": "ancestral", "corrector": "langevin"}, str(sf.PredictorCorrector(sf.Ancestral(), sf.Langevin()))),
        ({"sampler": "stochastic-heun"}, str(sf.StochasticHeun())),
    ],
)
def test_every_sampler_is_the_one_that_it_says(cli, here, options, sampler):
    told = json.loads(cli("sample", "grey", "--json", out="a.npz", grid="uniform", **QUICK, **options).out)
    assert told["sampler"] == sampler
    assert told["grid"] == "uniform"


def test_the_sampler_of_the_recipe(cli, here, tmp_path):
    published = ["sampling.predictor=none", "sampling.corrector=annealed_langevin", "sampling.corrector_steps=3"]
    tiny_model(here / "annealed", (1, 8, 8), "sde.name=ve", "sampling.steps=4", "sampling.snr=0.2", *published)
    told = json.loads(cli("sample", "annealed", "--json", out="a.npz", n=2, sampler="recipe").out)
    assert told["sampler"] == str(sf.samplers.CorrectorOnly(sf.Langevin(0.2, 3)))
    assert (told["steps"], told["grid"], told["nfe"]) == (4, "logsnr", 16)  # 3 at each of 5 times, and the denoising
    told = json.loads(cli("sample", "annealed", "--json", out="a.npz", n=2, sampler="recipe", steps=1).out)
    assert told["nfe"] == 7
    refused = cli("sample", "annealed", out="a.npz", n=2, sampler="recipe", snr=0.1).error
    assert refused == "--snr 0.1 with --sampler recipe, which has its own: name another sampler"


def test_the_flow_takes_a_tolerance(cli, here):
    loose, tight = (
        json.loads(cli("sample", "grey", "--json", out="a.npz", n=2, sampler="ode", tol=tol).out)["nfe"]
        for tol in (0.5, 1e-3)
    )
    assert loose < tight


def test_half_the_precision_gives_nearly_the_same(cli, here, monkeypatch):
    for precision in ("fp32", "bf16"):
        assert cli("sample", "grey", out=f"{precision}.npz", precision=precision, **QUICK).status == 0
    wide, narrow = (np.load(f"{precision}.npz")["samples"].astype(float) for precision in ("fp32", "bf16"))
    assert 0 < np.abs(wide - narrow).max() < 0.1
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "install g++" in cli("sample", "grey", "--compile", out="a.npz", **QUICK).error


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"sampler": "ode", "steps": 4}, "give --tol"),
        ({"sampler": "ode", "grid": "uniform"}, "give --tol"),
        ({"sampler": "ode", "corrector": "langevin"}, "give --tol"),
        ({"sampler": "adaptive-sde", "steps": 4}, "give --tol"),
        ({"tol": 0.1}, "name one"),
        ({"snr": 0.2}, "name one"),
        ({"budget": 9, "sampler": "ddim"}, "leave one out"),
        ({"budget": 9, "steps": 4}, "leave out one"),
        ({"sampler": "ddim", "tol": 0.1}, "give --steps"),
        ({"sampler": "ddim", "snr": 0.2}, "give --corrector langevin"),
        ({"sampler": "pc", "corrector": "none"}, "give --sampler reverse-diffusion"),
        ({"sampler": "pc", "snr": 2}, "0 < snr < 1"),
    ],
)
def test_an_option_without_effect_is_an_error(cli, here, options, remedy):
    assert remedy in cli("sample", "grey", out="a.npz", **options).error


def test_a_class_is_asked_for_by_its_number(cli, here):
    for label in (0, 9):
        assert cli("sample", "classes", out=f"{label}.npz", label=label, **QUICK).status == 0
    assert not np.array_equal(np.load("0.npz")["samples"], np.load("9.npz")["samples"])
    assert "expected 0 to 9" in cli("sample", "classes", out="a.npz", label=10).error
    assert "no classifier lies beside it" in cli("sample", "grey", out="a.npz", label=1).error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 2, "--batch-size"),
        (MemoryError(), 2, "--batch-size"),
    ],
)
def test_what_was_made_before_an_interruption_is_kept(cli, here, monkeypatch, error, status, words):
    real, calls = sf.api.sample, []

    def third_fails(*arguments, **options):
        calls.append(options["first"])
        if len(calls) == 3:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(sf, "sample", third_fails)
    outcome = cli("sample", "grey", out="a.npz", batch_size=2, **QUICK)
    assert outcome.status == status
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
    assert "the 4 of 5 that were done are in a.npz" in outcome.err
    expected = real(sf.load("./grey"), 4, steps=3).numpy()
    assert np.abs(np.load("a.npz")["samples"] - expected).max() < 1e-5


@pytest.mark.parametrize("out", ["a.gif", "grey", "grey/model.json/a.png"])
def test_what_could_not_be_written_is_not_sampled(cli, here, monkeypatch, out):
    monkeypatch.setattr(sf, "sample", lambda *_, **__: pytest.fail("sampled"))
    assert out in cli("sample", "grey", out=out).error


def test_a_calibrated_budget_is_spent_as_was_found(cli, here):
    """The plans lie beside the model, and what is drawn with a budget goes by them."""
    outcome = cli("calibrate", "grey", "--json", budgets="3,4", samples=2, trials=3)
    assert outcome.status == 0, outcome.err
    told = json.loads(outcome.out)["budgets"]
    plans = sf.load("./grey").plans
    assert sorted(plans) == [3, 4]
    assert {int(b): (t["solver"], t["error"]) for b, t in told.items()} == {
        b: (plan.solver, plan.error) for b, plan in plans.items()
    }
    assert all(t["error"] <= t["default_error"] for t in told.values())
    drawn = json.loads(cli("sample", "grey", "--json", out="a.npz", n=2, budget=4).out)
    assert (drawn["nfe"], drawn["steps"]) == (4, 3)
    assert cli("sample", "grey", out="b.npz", n=2, budget=4).status == 0
    sampler, times = sf.api.choose(sf.load("./grey"), budget=4)
    assert times.tolist() == list(plans[4].times)
    assert drawn["sampler"] == str(sampler)
    (here / "grey" / "calibration.json").write_text("{")
    assert "calibrate the model again" in cli("sample", "grey", out="a.npz", n=1).error


@pytest.mark.parametrize("budgets", ["1", "a", "5,", ""])
def test_budgets_are_numbers(cli, here, budgets):
    assert "give numbers of evaluations from 2 on" in cli("calibrate", "grey", budgets=budgets).error
