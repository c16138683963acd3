"""Who is compared in `solvers.py`: every deterministic solver of this library, of diffusers, azula and k-diffusion.

A contestant walks from x_T to the data in `steps` steps of its own, through its own library's interface:

- ours: `run` with each sampler of the flow; and `decode`, whose tolerance takes the place of the steps.
- k-diffusion: a denoiser of y = x/alpha at sigma = r, r = sigma/alpha, and any array of sigmas, closed with a zero.
- azula: a `Denoiser` and a `Schedule` of alpha and sigma at equal steps of its time: any grid. It ends either at the
  grid's end, with a denoising evaluation there, or at alpha = 1, sigma = 0.
- diffusers: a scheduler with a table of 10,000 levels that lie as the grid's, picked by "linspace", or, from levels of
  equal time, by its own ways ("trailing", Karras, exponential, and for 2M Lu and beta). What it asks for is epsilon at
  `timesteps`; it gets epsilon at the r it computes with (its `sigmas`), so that rounding to whole timesteps costs it
  nothing. Where its last level is not zero, a denoising evaluation follows. Its tables are of VP, x = y/sqrt(1 + r²),
  or of VE; either holds any linear SDE.

All share the grids of `GRIDS` over the same r and their ends `ENDS`: that of sampling, a larger r, or the grid's last
level but one ("skipped"; diffusers does so by itself where it ends in zero). Samplers that are one method under two
names (DDIM and Euler in r, DPM-Solver++ of order 1) are taken once a library.
"""

import copy
import functools
import importlib
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from itertools import product

import torch
from torch import Tensor

import scorefield as sf
from scorefield import times
from scorefield.calibration import plan_for
from scorefield.calibration import solver as planned
from scorefield.flow import decode
from scorefield.samplers import run

ROWS = 10_000
ENDS = {"": None, " end .025": 0.025, " end .06": 0.06, " end .12": 0.12, " end skipped": None}
GRIDS = {
    "uniform": times.uniform,
    "quadratic": times.quadratic,
    "logsnr": times.logsnr,
    "edm": times.edm,
    "edm rho 5": partial(times.edm, rho=5),
    "edm rho 3": partial(times.edm, rho=3),
}


@dataclass
class Problem:
    """A model and a start x_T; `exact` is where the flow goes."""

    name: str
    model: sf.ScoreModel
    x: Tensor
    exact: Tensor | None = None

    def ratio(self, t: Tensor) -> Tensor:
        """r = sigma/alpha."""
        return self.model.sde.sigma(t) / self.model.sde.alpha(t)

    def time(self, r) -> Tensor:
        return self.model.sde.time(-2 * torch.log(torch.as_tensor(r, dtype=torch.float64)))

    def grid(self, steps: int, grid: str, end: str) -> Tensor:
        if "skipped" in end:
            return GRIDS[grid](self.model.sde, steps + 1)[:-1]
        return GRIDS[grid](self.model.sde, steps, ENDS[end] and float(self.time(ENDS[end])))

    def levels(self, steps: int, grid: str, end: str) -> Tensor:
        return self.ratio(self.grid(steps, grid, end))

    @property
    def start(self) -> tuple[Tensor, float]:
        """y = x/alpha at T, and r there."""
        t = torch.tensor(self.model.sde.T, dtype=torch.float64)
        return self.x / self.model.sde.alpha(t), float(self.ratio(t))

    def denoise(self, y: Tensor, r) -> Tensor:
        """E[x_0 | y = x/alpha]."""
        t = self.time(r)
        return self.model.denoise(self.model.sde.alpha(t).to(y) * y, t)

    def noise(self, y: Tensor, r) -> Tensor:
        t = self.time(r)
        return self.model.noise(self.model.sde.alpha(t).to(y) * y, t)


@dataclass(frozen=True)
class Contestant:
    """`walk(problem, steps)`; `evaluations` a step, a guess to start from; steps are tolerances where `adaptive`."""

    library: str
    solver: str
    grid: str
    walk: Callable[[Problem, int], Tensor] = field(repr=False)
    evaluations: int = 1
    adaptive: bool = False

    @property
    def name(self) -> str:
        return f"{self.library} | {self.solver} | {self.grid}"


def tolerance(n: int) -> float:
    return 10 ** (-n / 4)


OURS = {
    "DDIM": (sf.DDIM(), 1),
    "Euler": (sf.EulerMaruyama(probability_flow=True), 1),
    "reverse diffusion": (sf.ReverseDiffusion(probability_flow=True), 1),
    "Heun": (sf.Heun(), 2),
    "DPM-Solver++ 2S": (sf.DPMSolverSinglestep(), 2),
    "UniPC 1": (sf.UniPC(1), 1),
}
for k in (3, 4):
    OURS |= {f"UniPC {k} noise": (sf.UniPC(k, "noise"), 1)}
for k in (2, 3, 4, 5):
    OURS |= {f"UniPC {k} velocity": (sf.UniPC(k, "velocity"), 1), f"AB {k}": (sf.AdamsBashforth(k), 1)}
for k in (2, 3, 4, 5, 6):
    OURS |= {f"DPM-Solver++ {k}M": (sf.DPMSolver(k), 1), f"UniPC {k}": (sf.UniPC(k), 1), f"DEIS {k}": (sf.DEIS(k), 1)}


def ours():
    def walk(sampler, grid, end, problem, steps):
        noise = sf.Noise(0, range(len(problem.x)))
        return run(sampler, problem.model, problem.x, problem.grid(steps, grid, end), noise=noise)

    for (solver, (sampler, evaluations)), grid, end in product(OURS.items(), GRIDS, ENDS):
        yield Contestant("ours", solver, grid + end, partial(walk, sampler, grid, end), evaluations)

    def calibrated(problem, steps):
        """What `budget=` takes: the plans beside the bundled models, found with other starts."""
        plan = plan_for(problem.model.sde, problem.model.plans, steps + 1)
        times, noise = torch.tensor(plan.times, dtype=torch.float64), sf.Noise(0, range(len(problem.x)))
        return run(planned(plan), problem.model, problem.x, times, noise=noise)

    yield Contestant("ours", "budget", "calibrated", calibrated)

    def flow(problem, n):
        """The flow from T to t_sample, rather than to t_min."""
        model, end = copy.copy(problem.model), problem.model.sde.t_sample
        if model.sde.t_min != end:
            model.sde = replace(model.sde, t_min=end)
        x = decode(model, problem.x, tol=tolerance(n))
        return problem.model.denoise(x, torch.tensor(end, dtype=torch.float64))

    yield Contestant("ours", "adaptive flow", "adaptive", flow, adaptive=True)


def k_diffusion_sampling():
    """`k_diffusion.sampling` without the package's own imports, which want much that it does not need."""
    package = types.ModuleType("k_diffusion")
    package.__spec__ = find_spec("k_diffusion")
    package.__path__ = list(package.__spec__.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    return importlib.import_module("k_diffusion.sampling")


def k_diffusion():
    k = k_diffusion_sampling()
    quiet = {"disable": True}
    still = {**quiet, "eta": 0.0, "noise_sampler": lambda *_: 0.0}
    solvers = {
        "euler": (k.sample_euler, quiet, 1),
        "heun": (k.sample_heun, quiet, 2),
        "dpm_2": (k.sample_dpm_2, quiet, 2),
        **{f"lms {order}": (k.sample_lms, {**quiet, "order": order}, 1) for order in (2, 3, 4, 6)},
        "dpmpp_2s": (k.sample_dpmpp_2s_ancestral, still, 2),
        "dpmpp_sde, eta 0": (k.sample_dpmpp_sde, still, 2),
        "dpmpp_2m": (k.sample_dpmpp_2m, quiet, 1),
        "dpmpp_2m_sde heun, eta 0": (k.sample_dpmpp_2m_sde, {**still, "solver_type": "heun"}, 1),
        "dpmpp_3m_sde, eta 0": (k.sample_dpmpp_3m_sde, still, 1),
    }

    def denoiser(problem):
        return lambda y, sigma, **_: problem.denoise(y, sigma[0])

    def walk(sample, options, sigmas, problem, steps):
        y, _ = problem.start
        return sample(denoiser(problem), y, k.append_zero(sigmas(problem, steps)), **options)

    def polyexponential(rho, problem, steps):
        low = float(problem.ratio(torch.tensor(problem.model.sde.t_sample, dtype=torch.float64)))
        ramp = torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** rho
        return low * (problem.start[1] / low) ** ramp

    def fast(end, problem, evaluations):
        high, low = problem.levels(1, "edm", end)
        y = k.sample_dpm_fast(denoiser(problem), problem.start[0], low, high, evaluations, **still)
        return problem.denoise(y, low)

    def adaptive(order, problem, n):
        high, low = problem.levels(1, "edm", "")
        options = {"order": order, "rtol": tolerance(n), "atol": tolerance(n) / 6, **still}
        return problem.denoise(k.sample_dpm_adaptive(denoiser(problem), problem.start[0], low, high, **options), low)

    for solver, (sample, options, evaluations) in solvers.items():
        sigmas = {grid + end: partial(Problem.levels, grid=grid, end=end) for grid in GRIDS for end in ENDS}
        sigmas |= {f"polyexponential {rho}": partial(polyexponential, rho) for rho in (0.8, 1.25)}
        for grid, levels in sigmas.items():
            yield Contestant("k-diffusion", solver, grid, partial(walk, sample, options, levels), evaluations)
    for end in [end for end in ENDS if "skipped" not in end]:
        yield Contestant("k-diffusion", "dpm_fast", "logsnr" + end, partial(fast, end))
    for order in (2, 3):
        yield Contestant("k-diffusion", f"dpm_adaptive {order}", "adaptive", partial(adaptive, order), adaptive=True)


def azula():
    from azula import sample
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import Schedule

    class Levels(Schedule):
        """alpha and sigma at t = 1, 1 - 1/steps, …, 0."""

        def __init__(self, alpha, sigma):
            self.levels = alpha, sigma

        def __call__(self, t):
            row = torch.round((1 - t) * (len(self.levels[0]) - 1)).long()
            return self.levels[0][row], self.levels[1][row]

    class Model(Denoiser):
        def __init__(self, problem, schedule):
            super().__init__()
            self.problem, self.schedule = [problem], schedule

        def forward(self, x, t):
            alpha, sigma = self.schedule(t)
            return DiracPosterior(self.problem[0].denoise(x / alpha.to(x), sigma / alpha))

    solvers = {"DDIM": (sample.DDIMSampler, {}, 1), "Heun": (sample.HeunSampler, {}, 2)}
    orders = {"zAB": (2, 3, 4, 6), "vAB": (2, 3, 4, 6), "zEAB": (2, 3, 4, 5), "xEAB": (2, 3, 4, 5), "REAB": (2, 3)}
    for kind in orders:
        for order in orders[kind]:
            solvers[f"{kind} {order}"] = getattr(sample, kind + "Sampler"), {"order": order}, 1

    def walk(sampler, options, grid, end, last, problem, steps):
        t = problem.grid(steps, grid, end)
        alpha, sigma = problem.model.sde.alpha(t), problem.model.sde.sigma(t)
        if last == "zero":
            alpha, sigma = torch.cat([alpha, torch.ones(1)]), torch.cat([sigma, torch.zeros(1)])
        model = Model(problem, Levels(alpha, sigma))
        options = {"steps": len(alpha) - 1, "silent": True, "dtype": torch.float64, **options}
        x = sampler(model, **options)(problem.x).to(problem.x)
        return x if last == "zero" else problem.denoise(x / alpha[-1].to(x), sigma[-1] / alpha[-1])

    for (solver, (sampler, options, evaluations)), grid, end in product(solvers.items(), GRIDS, ENDS):
        for last in ("denoise", "zero") if "AB" in solver and "EAB" not in solver else ("denoise",):
            bound = partial(walk, sampler, options, grid, end, last)
            name = grid + end + (" to zero" if last == "zero" else "")
            yield Contestant("azula", solver, name, bound, evaluations)


def diffusers():
    import diffusers as d

    @functools.lru_cache(4)
    def fresh(scheduler, options, sde, grid, end):
        """A scheduler with a table of the levels r of the grid, least noise first."""
        r = Problem("", types.SimpleNamespace(sde=sde), None).levels(ROWS - 1, grid, end).flip(0)
        square = 1 / (1 + r**2)
        betas = 1 - square / torch.cat([torch.ones(1), square[:-1]])
        made = scheduler(num_train_timesteps=ROWS, trained_betas=betas.numpy(), **dict(options))
        made.alphas_cumprod = square
        return made

    def build(scheduler, options, problem, grid, end):
        return copy.deepcopy(fresh(scheduler, tuple(options.items()), problem.model.sde, grid, end))

    def walk(scheduler, options, ve, grid, end, problem, steps):
        """Walk `timesteps`, in x = y/sqrt(1 + r²) or, for schedulers of VE, in y."""
        y, high = problem.start
        made = build(scheduler, options, problem, grid, end)
        made.set_timesteps(steps)
        made.set_begin_index(0)
        now = float(made.sigmas[0])
        x = y * (now / high if high else 1) / (1 if ve else (1 + now**2) ** 0.5)
        for t in made.timesteps:
            at = made.step_index or 0
            middle = getattr(made, "sigmas_interpol", None) is not None and not made.state_in_first_order
            r = float(made.sigmas_interpol[at] if middle else made.sigmas[at])
            if ve:
                made.scale_model_input(x, t)
            eps = problem.noise(x if ve else x * (1 + r**2) ** 0.5, r)
            x = made.step(eps, t, x).prev_sample.to(problem.x)
        last = float(made.sigmas[-1])
        return problem.denoise(x * (1 if ve else (1 + last**2) ** 0.5), last) if last else x

    def edm(options, rho, end, problem, steps):
        """The scheduler of EDM takes the network's F of data of standard deviation 0.5, whose coefficients it has."""
        y, high = problem.start
        low = float(problem.levels(1, "edm", end)[-1])
        made = d.EDMDPMSolverMultistepScheduler(sigma_min=low, sigma_max=high, rho=rho, **options)
        made.set_timesteps(steps)
        made.set_begin_index(0)
        for t in made.timesteps:
            r = float(made.sigmas[made.step_index or 0])
            made.scale_model_input(y, t)
            skip, out = 0.25 / (r**2 + 0.25), r * 0.5 / (r**2 + 0.25) ** 0.5
            y = made.step((problem.denoise(y, r) - skip * y) / out, t, y).prev_sample.to(problem.x)
        return y

    def rows(scheduler, options, grid, end, problem, steps):
        """Schedulers that know rows of the table and no sigmas."""
        made = build(scheduler, options, problem, grid, end)
        made.set_timesteps(steps)
        r = ((1 - made.alphas_cumprod) / made.alphas_cumprod) ** 0.5
        y, high = problem.start
        first = r[int(made.timesteps[0])]
        x = y * (first / high).to(y) / (1 + first**2).sqrt().to(y)
        for t in made.timesteps:
            eps = problem.noise(x * (1 + r[int(t)] ** 2).sqrt().to(x), r[int(t)])
            x = made.step(eps, int(t), x).prev_sample.to(problem.x)
        return x if made.final_alpha_cumprod == 1 else problem.denoise(x * (1 + r[0] ** 2).sqrt().to(x), r[0])

    def ipndm(grid, end, problem, steps):
        """IPNDM takes the sigmas of its steps for betas, and the velocity alpha eps - sigma D of VP."""
        levels = problem.levels(steps - 1, grid, end) if steps > 1 else torch.tensor([problem.start[1]])
        levels = torch.cat([levels, torch.zeros(1)])
        made = d.IPNDMScheduler(trained_betas=(levels / (1 + levels**2).sqrt()).numpy())
        made.set_timesteps(steps)
        made.betas, made.alphas = levels / (1 + levels**2).sqrt(), 1 / (1 + levels**2).sqrt()
        y, _ = problem.start
        x = y * made.alphas[0].to(y)
        for i, t in enumerate(made.timesteps):
            made._step_index, alpha, sigma = i, made.alphas[i].to(x), made.betas[i].to(x)
            v = (problem.noise(x / alpha, levels[i]) - sigma * x) / alpha
            x = made.step(v, t, x).prev_sample.to(problem.x)
        return x

    dpm, single, unipc = d.DPMSolverMultistepScheduler, d.DPMSolverSinglestepScheduler, d.UniPCMultistepScheduler
    full = {"lower_order_final": False}
    least = {"final_sigmas_type": "sigma_min", **full}
    known = {"DPM++ 2M heun": (dpm, {"solver_type": "heun"}, False, 1)}  # scheduler, options, of VE, evaluations a step
    for k in (1, 2, 3, 4, 5):
        order = {"solver_order": k}
        known[f"UniPC {k}"] = unipc, order, False, 1
        known[f"UniPC {k} sigma_min"] = unipc, {**order, **least}, False, 1
        if k > 1:
            known[f"UniPC {k} bh1 sigma_min"] = unipc, {**order, **least, "solver_type": "bh1"}, False, 1
            known[f"UniPC {k} noise"] = unipc, {**order, **least, "predict_x0": False}, False, 1
            both = {"predictor_order": k, "corrector_order": min(k, 4), "tau_func": lambda _: 0}
        if k in (2, 3):
            known[f"DPM++ {k}M"] = dpm, order, False, 1
            known[f"DPM++ {k}M sigma_min"] = dpm, {**order, **least}, False, 1
            known[f"DPM {k}M sigma_min"] = dpm, {**order, **least, "algorithm_type": "dpmsolver"}, False, 1
            known[f"DPM++ {k}S"] = single, {**order, "lower_order_final": True}, False, 1
            known[f"DEIS {k}"] = d.DEISMultistepScheduler, order, False, 1
            known[f"DEIS {k} to the end"] = d.DEISMultistepScheduler, {**order, **full}, False, 1
        if k in (2, 3, 4):
            known[f"SA-Solver {k}"] = d.SASolverScheduler, both, False, 1
            known[f"SA-Solver {k} to the end"] = d.SASolverScheduler, {**both, **full}, False, 1
    for solver, evaluations in {"Euler": 1, "LMS": 1, "Heun": 2, "KDPM2": 2}.items():
        known[solver] = getattr(d, f"{solver}DiscreteScheduler"), {}, True, evaluations
    tables = [end for end in ENDS if "skipped" not in end]
    own = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}
    for solver, (scheduler, options, ve, evaluations) in known.items():
        for end in tables:
            for grid in GRIDS:
                bound = partial(walk, scheduler, options, ve, grid, end)
                yield Contestant("diffusers", solver, grid + end, bound, evaluations)
            flags = {name: {flag: True} for name, flag in own.items()} | {"trailing": {"timestep_spacing": "trailing"}}
            if solver == "DPM++ 2M":
                flags |= {"lu": {"use_lu_lambdas": True}, "beta": {"use_beta_sigmas": True}}
            for name, flag in flags.items():
                if "sigma_min" not in solver and not ve and (name != "trailing" or scheduler is not single):
                    bound = partial(walk, scheduler, {**options, **flag}, ve, "uniform", end)
                    yield Contestant("diffusers", solver, name + end, bound, evaluations)
    for end in tables:
        for order, rho in product((2, 3), (3, 5, 7)):
            bound = partial(edm, {"solver_order": order}, rho, end)
            yield Contestant("diffusers", f"EDM DPM++ {order}M", f"karras rho {rho}{end}", bound)
        for grid in GRIDS:
            yield Contestant("diffusers", "IPNDM", grid + end, partial(ipndm, grid, end))
            for spacing in ("leading", "trailing"):
                ddim = {"clip_sample": False, "timestep_spacing": spacing}
                pndm = {"skip_prk_steps": True, "set_alpha_to_one": True, "timestep_spacing": spacing}
                for solver, scheduler, options in (
                    ("DDIM", d.DDIMScheduler, ddim),
                    ("PNDM", d.PNDMScheduler, pndm),
                    ("PNDM, Runge-Kutta start", d.PNDMScheduler, {**pndm, "skip_prk_steps": False}),
                ):
                    if spacing == "leading" or grid == "uniform":
                        bound = partial(rows, scheduler, options, grid, end)
                        yield Contestant("diffusers", solver, f"{grid} {spacing}{end}", bound)


PEERS = {"diffusers": diffusers, "azula": azula, "k_diffusion": k_diffusion}


def contestants() -> list[Contestant]:
    """All that are installed."""
    found = list(ours())
    for package, make in PEERS.items():
        if find_spec(package) is None:
            print(f"{package} is not installed: left out")
        else:
            found += make()
    return found
