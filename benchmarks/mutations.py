"""Plant slips in the mathematics, one at a time, and see which test catches each.

    python benchmarks/mutations.py [--only WORD] --out benchmarks/records/DATE_mutations

Each slip is one edit of a copy of the source; the tests that should notice run against the copy until the first failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SDE, TABLES, BASE = "sde/continuous.py", "sde/tables.py", "sde/base.py"
TEST_SDE, TEST_SCORE, TEST_FLOW, TEST_ODE = "test_sde.py", "test_score.py", "test_flow.py", "test_ode.py"
PREDICTORS, CORRECTORS = "samplers/test_predictors.py", "samplers/test_correctors.py"
EXPONENTIAL = "samplers/test_exponential.py"
SLIPS = [
    ("Adams: the corrector through a value less", "ode/adams.py", "index <= orders[..., None]", "index < orders[..., None]", TEST_ODE),
    ("Adams: the predictor without the step's size", "ode/adams.py", "weights = h[:, None, None] * ", "weights = ", TEST_ODE),
    ("adaptive flow: labels stay when samples leave", "flow.py", "model.select(rows).flow_variable()", "model.flow_variable()", TEST_FLOW),
    ("Brownian bridge: its variance doubled", "brownian.py", "spread = 0.5 * math", "spread = 0.7071 * math", "test_brownian.py"),
    ("stochastic Heun: the second stage at the first time", "samplers/adaptive.py", "moved(euler, s)", "moved(euler, t)", PREDICTORS),
    ("adaptive SDE: noise not scaled to the way", "samplers/adaptive.py", "math.sqrt(way) * increments", "increments", "samplers/test_adaptive.py"),
    ("budgets: refined grids of a step less", "calibration.py", "steps + 1 - len(head)", "steps - len(head)", "test_calibration.py"),
    ("UniPC of the noise: coefficients of the data", "samplers/exponential.py", '"noise": -1.0', '"noise": 1.0', EXPONENTIAL),
    ("velocity: the sum for the difference", "samplers/exponential.py", "model.blend(x, t, -one, one)", "model.blend(x, t, one, one)", EXPONENTIAL),
    ("velocity: the last step by one value", "samplers/exponential.py", "coefficients(self.clock(t), 0.0, [self.clock(time) for time, _ in past], 0.0)", "[0.0] * (len(past) - 1) + [-self.clock(t)]", EXPONENTIAL),
    ("blend: the sign of the noise", "score.py", "(data * q - noise * p) / m", "(data * q + noise * p) / m", TEST_SCORE),
    ("posterior: sigma for its square", "guidance/posterior.py", "torch.where(informative, sigma**2 / alpha, 0)", "torch.where(informative, sigma / alpha, 0)", "guidance/test_posterior.py"),
    ("PiGDM: r for r²", "guidance/posterior.py", "ratio**2 / (1 + (ratio", "ratio / (1 + (ratio", "guidance/test_posterior.py"),
    ("DiffPIR: the noise without r", "guidance/posterior.py", "(self.measurement.std * alpha / sigma) ** 2", "self.measurement.std ** 2", "guidance/test_posterior.py"),
    ("DDRM: the pull by r² for r", "guidance/ddrm.py", "denoised + ratio * (kept * (known", "denoised + ratio**2 * (kept * (known", "guidance/test_posteriors_page.py"),
    ("particles: weights that forget the proposal", "guidance/smc.py", "weights + correction, twist", "weights, twist", "guidance/test_posteriors_page.py"),
    ("particles: a twist without r", "guidance/smc.py", "(ratio * d) ** 2", "d ** 2", "guidance/test_posteriors_page.py"),
    ("TMPD: negative sums as nothing", "guidance/posterior.py", ".real.abs()", ".real.clamp(min=0)", "guidance/test_posteriors_page.py"),
    ("systems: a step that may run away", "guidance/systems.py", ".sqrt().clamp(max=1).nan_to_num(0.0)", ".sqrt().clamp(min=1).nan_to_num(0.0)", "guidance/test_posterior.py"),
    ("systems: the least residual only", "guidance/systems.py", "chosen = least + share[:, None]", "chosen = least + 0 * share[:, None]", "guidance/test_posterior.py"),
    ("systems: rounding counts as an image", "guidance/systems.py", "ended |= going & (size <= rounding)", "ended |= going & (size <= 0)", "guidance/test_posterior.py"),
    ("systems: coarse numbers see nothing", "guidance/systems.py", "100, 0.01", "100, 1.0", "guidance/test_posterior.py"),
    ("processes: a group outlives the interpreter", "cli/processes.py", "from torch.distributed import nn  # noqa", "pass  # noqa", "cli/test_cli_scale.py"),
    ("Fourier: half a pair for a whole", "guidance/frequencies.py", "torch.sqrt(0.5 * (self.known", "torch.sqrt((self.known", "guidance/test_operators.py"),
    ("masks: one of all for one of each", "guidance/operators.py", "self.known.ndim == y.ndim and", "", "guidance/test_operators.py"),
    ("labels: the first of all for those of a batch", "api.py", "flow.log_likelihood(model.select(torch.tensor(batch))", "flow.log_likelihood(model.select(torch.tensor(batch) * 0)", "guidance/test_guided.py"),
    ("posterior: labels of samples for those of measurements", "conditional.py", "denoiser(model.select(rows), whole)", "denoiser(model.select(rows * 0), whole)", "guidance/test_guided.py"),
    ("complex measurements as real ones", "api.py", "weight.dtype.to_complex() if y.is_complex() else weight.dtype", "weight.dtype", "guidance/test_posterior.py"),
    ("budget: the last evaluation forgotten", "conditional.py", "budget // cost - 1 if", "budget // cost if", "guidance/test_posterior.py"),
    ("posterior of a mixture: prior weights", "exact.py", "self.log_weights - 0.5 * explained", "self.log_weights - 0 * explained", "test_exact.py"),
    ("turns: the forward kernel without noise", "guidance/replacement.py", "a * x + torch.sqrt(v) * draw(noise, x)", "a * x + 0 * draw(noise, x)", "guidance/test_replacement.py"),
    ("VP: a factor 2 in alpha'", SDE, "return -0.5 * self.beta(t) * self.alpha(t)", "return -self.beta(t) * self.alpha(t)", TEST_SDE),
    ("VP: sigma without its square root", SDE, "return torch.sqrt(-torch.expm1(-self.integral(t)))", "return -torch.expm1(-self.integral(t))", TEST_SDE),
    ("VP: sigma' with alpha for alpha²", SDE, "0.5 * self.beta(t) * self.alpha(t) ** 2 / self.sigma(t)", "0.5 * self.beta(t) * self.alpha(t) / self.sigma(t)", TEST_SDE),
    ("VP: the integral of beta without ½", SDE, "t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)", "t * (self.beta_min + (self.beta_max - self.beta_min) * t)", TEST_SDE),
    ("sub-VP: a sign in v", SDE, "(1 + a * self.alpha(s) ** 2)", "(1 - a * self.alpha(s) ** 2)", TEST_SDE),
    ("sub-VP: the inverse without its 2", SDE, "2 * torch.asinh(0.5 * torch.exp(-0.5 * logsnr))", "torch.asinh(0.5 * torch.exp(-0.5 * logsnr))", TEST_SDE),
    ("VE: t for s in the transition", SDE, "self.sigma(s) ** 2 * torch.expm1(2 * self._rate * (t - s))", "self.sigma(t) ** 2 * torch.expm1(2 * self._rate * (t - s))", TEST_SDE),
    ("VE: log-SNR halved", SDE, "return -2 * (math.log(self.sigma_min) + self._rate * t)", "return -(math.log(self.sigma_min) + self._rate * t)", TEST_SDE),
    ("rectified flow: a forgotten in v", SDE, "(t - s) / (1 - s) * (t + a * s)", "(t - s) / (1 - s) * (t + s)", TEST_SDE),
    ("g² without its factor 2", BASE, "torch.sqrt(2 * self.sigma(t) * (", "torch.sqrt(self.sigma(t) * (", TEST_SDE),
    ("g²: the sign of f sigma", BASE, "(self.dsigma(t) - self.drift_rate(t) * self.sigma(t))", "(self.dsigma(t) + self.drift_rate(t) * self.sigma(t))", TEST_SDE),
    ("v with half the log-SNR", BASE, "torch.expm1(self.logsnr(t) - self.logsnr(s))", "torch.expm1(0.5 * (self.logsnr(t) - self.logsnr(s)))", TEST_SDE),
    ("prior: log std counted once", BASE, "- dim * (math.log(self.std) + 0.5 * math.log(2 * math.pi))", "- math.log(self.std) - dim * 0.5 * math.log(2 * math.pi)", TEST_SDE),
    ("DDPM: beta for log(1 - beta)", TABLES, "torch.cumsum(torch.log1p(-beta), 0)", "torch.cumsum(-beta, 0)", TEST_SDE),
    ("SMLD: rows off by one", TABLES, "(t - self.t_min).clamp(min=0)", "t.clamp(min=0)", TEST_SDE),
    ("velocity with the whole score", "score.py", "- 0.5 * expand(self.sde.diffusion(t), x) ** 2", "- expand(self.sde.diffusion(t), x) ** 2", TEST_FLOW),
    ("score with the wrong sign", "score.py", "return -self.noise(x, t) / expand", "return self.noise(x, t) / expand", TEST_SCORE),
    ("denoised: the sign of F", "score.py", "return q / m, -sde.sigma(t) / m", "return q / m, sde.sigma(t) / m", TEST_SCORE),
    ("v: alpha and sigma exchanged", "score.py", "return -sigma / n, alpha / n", "return -alpha / n, sigma / n", TEST_SCORE),
    ("EDM: input scale without the data's deviation", "score.py", "return 1 / torch.hypot(sde.alpha(t) * self.data_std, sde.sigma(t))", "return 1 / torch.hypot(sde.alpha(t), sde.sigma(t))", TEST_SCORE),
    ("mixture: posterior without log-determinant", "exact.py", "(y * y / variances + torch.log(variances)).sum(-1)", "(y * y / variances).sum(-1)", "test_exact.py"),
    ("angle form: sine and cosine exchanged", "flow_variable.py", "-torch.sin(u) / self.data_std, torch.cos(u)", "-torch.cos(u) / self.data_std, torch.sin(u)", TEST_FLOW),
    ("angle form: log-SNR halved", "flow_variable.py", "self.sde.time(2 * (torch.log(", "self.sde.time(1 * (torch.log(", TEST_FLOW),
    ("angle form: volume upside down", "flow_variable.py", "math.log(math.hypot(*self._ends(self.sde.T)) / math.hypot(*self._ends(self.sde.t_min)))", "math.log(math.hypot(*self._ends(self.sde.t_min)) / math.hypot(*self._ends(self.sde.T)))", TEST_FLOW),
    ("standard error without its square root", "flow.py", "divergence.std(1) / math.sqrt(count)", "divergence.std(1) / count", TEST_FLOW),
    ("exact trace: mean for sum", "flow.py", "traces.sum(1, keepdim=True) if exact", "traces.mean(1, keepdim=True) if exact", TEST_FLOW),
    ("Dormand–Prince: a digit exchanged", "ode/runge_kutta.py", "-5103 / 18656)", "-5103 / 18566)", TEST_ODE),
    ("Dormand–Prince: an error weight's sign", "ode/runge_kutta.py", "-17253 / 339200", "17253 / 339200", TEST_ODE),
    ("Euler–Maruyama: dt for its square root", "samplers/predictors.py", "g * torch.sqrt(t - s) * draw", "g * (t - s) * draw", PREDICTORS),
    ("Euler–Maruyama: g for g²", "samplers/predictors.py", "- g**2 * model.score", "- g * model.score", PREDICTORS),
    ("reverse diffusion: a for 2 - a", "samplers/predictors.py", "return (2 - a) * x + v * score", "return a * x + v * score", PREDICTORS),
    ("ancestral: ratio for its square", "samplers/predictors.py", "mean = a * ratio**2 * x", "mean = a * ratio * x", PREDICTORS),
    ("ancestral: the forward variance", "samplers/predictors.py", "torch.sqrt(v) * (ratio if", "torch.sqrt(v) * (1.0 if", PREDICTORS),
    ("DDIM: alpha at the wrong time", "samplers/predictors.py", "y = sde.alpha(s) * denoised", "y = sde.alpha(t) * denoised", PREDICTORS),
    ("exponential: the polynomial's nodes in log-SNR, lambda elsewhere", "samplers/exponential.py", "return 0.5 * float(self.sde.logsnr(t))", "return float(self.sde.logsnr(t))", EXPONENTIAL),
    ("exponential: k = 1 with noise", "samplers/exponential.py", "1 + self.tau**2", "1.0", EXPONENTIAL),
    ("exponential: one value too few", "samplers/exponential.py", "del past[:-most]", "del past[: 1 - most]", EXPONENTIAL),
    ("2S: independent noise in both halves", "samplers/exponential.py", "integrator.step(early, middle, s, [])", "early", EXPONENTIAL),
    ("UniPC: the correction's sign", "samplers/exponential.py", "change + (new - old) * value", "change + (old - new) * value", EXPONENTIAL),
    ("Heun: the correction's sign", "samplers/heun.py", "(first - model.noise(euler, s))", "(model.noise(euler, s) - first)", PREDICTORS),
    ("Langevin: sqrt(delta) for sqrt(2 delta)", "samplers/correctors.py", "torch.sqrt(2 * delta) * z", "torch.sqrt(delta) * z", CORRECTORS),
    ("Langevin: snr not squared", "samplers/correctors.py", "2 * (self.snr * length) ** 2", "2 * self.snr * length**2", CORRECTORS),
    ("replacement: known part at t, not s", "samplers/base.py", "self.sampler.step(model, x, t, s, noise, past), s, noise)", "self.sampler.step(model, x, t, s, noise, past), t, noise)", "guidance"),
    ("replacement: the known part not perturbed", "guidance/replacement.py", "torch.sqrt(variance.clamp(min=0)) * operator.spectrum(z)", "0 * operator.spectrum(z)", "guidance"),
    ("loss: out for out²", "losses.py", "form.noise(sde, t)[1] ** 2 * error", "form.noise(sde, t)[1] * error", "test_losses.py"),
    ("likelihood weight without its 2", "losses.py", "return 2 * (alpha * sde.dsigma(t)", "return (alpha * sde.dsigma(t)", "test_losses.py"),
    ("importance: density for 1/density", "losses.py", "(1 / (density * (sde.T - sde.t_min)))", "(density * (sde.T - sde.t_min))", "test_losses.py"),
    ("dequantization with 255", "space.py", "(x.to(u.dtype) + u) / self.levels", "(x.to(u.dtype) + u) / (self.levels - 1)", "test_space.py"),
    ("data units: the sign of log scale", "api.py", "torch.full_like(parts[\"prior\"], -space.log_scale)", "torch.full_like(parts[\"prior\"], space.log_scale)", "test_api.py"),
    ("bits per dimension in nats", "api.py", "-log_prob / (space.dim * math.log(2))", "-log_prob / space.dim", "test_api.py"),
]  # fmt: skip


def caught_by(source: str, old: str, new: str, tests: str) -> str | None:
    """The first test that fails with `old` replaced by `new`; None where all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / "scorefield" / source
        text = path.read_text()
        if old not in text:
            raise SystemExit(f"{source} no longer has {old!r}: bring the slip up to date")
        path.write_text(text.replace(old, new))
        command = [
            sys.executable,
            "-m",
            "pytest",
            f"tests/{tests}",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--no-header",
        ]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        output = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", output, re.MULTILINE)
    return found.group(1) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="slips whose description has this word")
    parser.add_argument("--out", type=Path, help="folder for the record")
    arguments = parser.parse_args()
    chosen = [slip for slip in SLIPS if arguments.only in slip[0]]
    rows = []
    for what, source, old, new, tests in chosen:
        test = caught_by(source, old, new, tests)
        rows.append((what, source, test))
        print(f"{what}: {test or 'NOT CAUGHT'}", flush=True)
    caught = sum(test is not None for *_, test in rows)
    table = "\n".join(
        f"| {what} | `{source}` | {f'`{test}`' if test else '**not caught**'} |" for what, source, test in rows
    )
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "README.md").write_text(
            f"# Planted slips in the mathematics\n\n{caught} of {len(rows)} caught, each by the first test that failed "
            f"(`python benchmarks/mutations.py`).\n\n| slip | in | caught by |\n|---|---|---|\n{table}\n"
        )
    print(f"{caught} of {len(rows)} caught")


if __name__ == "__main__":
    main()
