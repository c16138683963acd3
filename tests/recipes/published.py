"""The settings of the published configurations (Song et al. 2021, PyTorch), flattened, written down apart from ours."""

from collections.abc import Iterator
from typing import Any

Settings = dict[str, Any]

COMMON: Settings = {
    "seed": 42,
    "training.log_freq": 50,
    "training.snapshot_freq": 50_000,
    "training.snapshot_sampling": True,
    "training.likelihood_weighting": False,
    "training.continuous": True,
    "training.reduce_mean": False,
    "sampling.n_steps_each": 1,
    "sampling.noise_removal": True,
    "sampling.probability_flow": False,
    "eval.num_samples": 50_000,
    "eval.bpd_dataset": "test",
    "data.random_flip": True,
    "data.centered": False,
    "data.uniform_dequantization": False,
    "data.num_channels": 3,
    "model.sigma_min": 0.01,
    "model.beta_min": 0.1,
    "model.beta_max": 20.0,
    "model.embedding_type": "fourier",
    "optim.weight_decay": 0,
    "optim.lr": 2e-4,
    "optim.beta1": 0.9,
    "optim.eps": 1e-8,
    "optim.warmup": 5000,
    "optim.grad_clip": 1.0,
}


def data(size: int, steps: int, batch: int, often: int, snr: float, first: int, last: int, measured: int) -> Settings:
    return COMMON | {
        "data.image_size": size,
        "training.n_iters": steps,
        "training.batch_size": batch,
        "training.snapshot_freq_for_preemption": often,
        "sampling.snr": snr,
        "eval.begin_ckpt": first,
        "eval.end_ckpt": last,
        "eval.batch_size": measured,
    }


def noise(sigma_max: float, scales: int, dropout: float) -> Settings:
    return {"model.sigma_max": sigma_max, "model.num_scales": scales, "model.dropout": dropout}


CIFAR10 = data(32, 1_300_001, 128, 10_000, 0.16, 9, 26, 1024) | noise(50, 1000, 0.1)
CELEBA = data(64, 1_300_001, 128, 10_000, 0.17, 1, 26, 1024) | noise(90, 1000, 0.1)
LSUN = data(256, 2_400_001, 64, 5000, 0.075, 50, 96, 512) | noise(378, 2000, 0.0)
FACES = data(1024, 2_400_001, 8, 5000, 0.15, 1, 96, 1024) | noise(1348, 2000, 0.0)

VE = {
    "training.sde": "vesde",
    "model.scale_by_sigma": True,
    "model.ema_rate": 0.999,
    "sampling.predictor": "reverse_diffusion",
    "sampling.corrector": "langevin",
}
VP = {
    "training.sde": "vpsde",
    "training.reduce_mean": True,
    "data.centered": True,
    "model.scale_by_sigma": False,
    "model.ema_rate": 0.9999,
    "sampling.predictor": "euler_maruyama",
    "sampling.corrector": "none",
}
SUBVP = VP | {"training.sde": "subvpsde"}
DISCRETE = {"training.continuous": False}
ANCESTRAL = {"sampling.predictor": "ancestral_sampling"}
DEEP = {"model.num_res_blocks": 8, "training.n_iters": 950_001}

UNET = {
    "model.normalization": "GroupNorm",
    "model.nonlinearity": "swish",
    "model.nf": 128,
    "model.ch_mult": [1, 2, 2, 2],
    "model.attn_resolutions": [16],
    "model.resamp_with_conv": True,
    "model.conditional": True,
}
DDPM = UNET | {"model.name": "ddpm", "model.num_res_blocks": 2}
DDPM_256 = {"model.ch_mult": [1, 1, 2, 2, 4, 4], "model.num_scales": 1000, "optim.lr": 2e-5}
NCSNPP = UNET | {
    "model.name": "ncsnpp",
    "model.num_res_blocks": 4,
    "model.fir": True,
    "model.fir_kernel": [1, 3, 3, 1],
    "model.skip_rescale": True,
    "model.resblock_type": "biggan",
    "model.progressive": "none",
    "model.progressive_input": "residual",
    "model.progressive_combine": "sum",
    "model.attention_type": "ddpm",
    "model.init_scale": 0.0,
    "model.fourier_scale": 16,
    "model.conv_size": 3,
}
POSITIONAL = {"model.embedding_type": "positional"}
DDPMPP = NCSNPP | POSITIONAL | {"model.fir": False, "model.progressive_input": "none"}
SKIPS = {"model.progressive": "output_skip", "model.progressive_input": "input_skip"}
NCSNPP_256 = NCSNPP | SKIPS | {"model.ch_mult": [1, 1, 2, 2, 2, 2, 2], "model.num_res_blocks": 2}
NCSNPP_1024 = (
    NCSNPP
    | SKIPS
    | {
        "model.nf": 16,
        "model.ch_mult": [1, 2, 4, 8, 16, 32, 32, 32],
        "model.num_res_blocks": 1,
        "model.ema_rate": 0.9999,
    }
)


def refinenet(name: str, turns: int, snr: float, ema: float, lr: float) -> Settings:
    """NCSN and NCSNv2."""
    return DISCRETE | {
        "training.sde": "vesde",
        "model.name": name,
        "model.scale_by_sigma": name != "ncsn",
        "model.ema_rate": ema,
        "model.normalization": "InstanceNorm++",
        "model.nonlinearity": "elu",
        "model.nf": 128,
        "sampling.predictor": "none",
        "sampling.corrector": "ald",
        "sampling.n_steps_each": turns,
        "sampling.snr": snr,
        "optim.lr": lr,
        "optim.warmup": 0,
        "optim.grad_clip": -1.0,
    }


TEN = {"model.sigma_max": 1, "model.num_scales": 10}


def configurations() -> Iterator[tuple[str, Settings]]:
    """All 39, by name."""
    yield "ve/cifar10_ncsnpp", CIFAR10 | VE | DISCRETE | NCSNPP | POSITIONAL
    yield "ve/cifar10_ncsnpp_continuous", CIFAR10 | VE | NCSNPP
    yield "ve/cifar10_ncsnpp_deep_continuous", CIFAR10 | VE | NCSNPP | DEEP
    yield "ve/cifar10_ddpm", CIFAR10 | VE | DISCRETE | DDPM
    yield "ve/celeba_ncsnpp", CELEBA | VE | DISCRETE | NCSNPP | POSITIONAL
    yield "ve/bedroom_ncsnpp_continuous", LSUN | VE | NCSNPP_256
    yield "ve/church_ncsnpp_continuous", LSUN | VE | NCSNPP_256 | {"model.sigma_max": 380}
    yield "ve/celebahq_256_ncsnpp_continuous", LSUN | VE | NCSNPP_256 | {"model.sigma_max": 348}
    yield "ve/ffhq_256_ncsnpp_continuous", LSUN | VE | NCSNPP_256 | {"model.sigma_max": 348}
    yield "ve/celebahq_ncsnpp_continuous", FACES | VE | NCSNPP_1024
    yield "ve/ffhq_ncsnpp_continuous", FACES | VE | NCSNPP_1024 | {"training.reduce_mean": True}
    for name, images, scales, snr in (("cifar10", CIFAR10, 232, 0.176), ("celeba", CELEBA, 500, 0.128)):
        many = {"model.num_scales": scales}
        yield f"ve/ncsn/{name}", images | TEN | refinenet("ncsn", 100, 0.316, 0.0, 1e-3)
        yield f"ve/ncsn/{name}_5", images | TEN | refinenet("ncsn", 100, 0.316, 0.999, 1e-3)
        yield f"ve/ncsn/{name}_124", images | many | refinenet("ncsn", 5, snr, 0.0, 1e-3)
        yield f"ve/ncsn/{name}_1245", images | many | refinenet("ncsn", 5, snr, 0.999, 1e-3)
        yield f"ve/ncsnv2/{name}", images | many | refinenet("ncsnv2_64", 5, snr, 0.999, 1e-4)
    bedroom = {"data.image_size": 128, "training.batch_size": 128, "model.sigma_max": 190, "model.num_scales": 1086}
    yield "ve/ncsnv2/bedroom", LSUN | bedroom | refinenet("ncsnv2_128", 3, 0.095, 0.9999, 1e-4)

    yield (
        "vp/cifar10_ncsnpp",
        CIFAR10 | VP | DISCRETE | NCSNPP | POSITIONAL | {"sampling.predictor": "reverse_diffusion"},
    )
    yield "vp/cifar10_ncsnpp_continuous", CIFAR10 | VP | NCSNPP | POSITIONAL
    yield "vp/cifar10_ncsnpp_deep_continuous", CIFAR10 | VP | NCSNPP | POSITIONAL | DEEP
    yield "vp/cifar10_ddpmpp", CIFAR10 | VP | DISCRETE | ANCESTRAL | DDPMPP
    yield "vp/cifar10_ddpmpp_continuous", CIFAR10 | VP | DDPMPP
    yield "vp/cifar10_ddpmpp_deep_continuous", CIFAR10 | VP | DDPMPP | DEEP
    for name, images in (("bedroom", LSUN), ("celebahq", LSUN), ("church", LSUN)):
        yield f"vp/ddpm/{name}", images | VP | DISCRETE | ANCESTRAL | DDPM | DDPM_256
    yield "vp/ddpm/cifar10", CIFAR10 | VP | DISCRETE | ANCESTRAL | DDPM
    yield "vp/ddpm/cifar10_unconditional", CIFAR10 | VP | DISCRETE | ANCESTRAL | DDPM | {"model.conditional": False}
    yield "vp/ddpm/cifar10_continuous", CIFAR10 | VP | DDPM

    yield "subvp/cifar10_ddpm_continuous", CIFAR10 | SUBVP | DDPM
    yield "subvp/cifar10_ddpmpp_continuous", CIFAR10 | SUBVP | DDPMPP
    yield "subvp/cifar10_ddpmpp_deep_continuous", CIFAR10 | SUBVP | DDPMPP | DEEP
    yield "subvp/cifar10_ncsnpp_continuous", CIFAR10 | SUBVP | NCSNPP | POSITIONAL
    yield "subvp/cifar10_ncsnpp_deep_continuous", CIFAR10 | SUBVP | NCSNPP | POSITIONAL | DEEP


PARAMETERS = {
    "subvp/cifar10_ddpm_continuous": 35_218_947,
    "subvp/cifar10_ddpmpp_continuous": 61_804_419,
    "subvp/cifar10_ddpmpp_deep_continuous": 106_632_579,
    "subvp/cifar10_ncsnpp_continuous": 62_693_251,
    "subvp/cifar10_ncsnpp_deep_continuous": 107_521_411,
    "ve/bedroom_ncsnpp_continuous": 65_574_549,
    "ve/celeba_ncsnpp": 62_693_251,
    "ve/celebahq_256_ncsnpp_continuous": 65_574_549,
    "ve/celebahq_ncsnpp_continuous": 105_785_896,
    "ve/church_ncsnpp_continuous": 65_574_549,
    "ve/cifar10_ddpm": 35_218_947,
    "ve/cifar10_ncsnpp": 62_693_251,
    "ve/cifar10_ncsnpp_continuous": 62_758_915,
    "ve/cifar10_ncsnpp_deep_continuous": 107_587_075,
    "ve/ffhq_256_ncsnpp_continuous": 65_574_549,
    "ve/ffhq_ncsnpp_continuous": 105_785_896,
    "ve/ncsn/celeba": 30_117_635,
    "ve/ncsn/celeba_124": 51_379_715,
    "ve/ncsn/celeba_1245": 51_379_715,
    "ve/ncsn/celeba_5": 30_117_635,
    "ve/ncsn/cifar10": 30_117_635,
    "ve/ncsn/cifar10_124": 39_750_659,
    "ve/ncsn/cifar10_1245": 39_750_659,
    "ve/ncsn/cifar10_5": 30_117_635,
    "ve/ncsnv2/bedroom": 83_445_379,
    "ve/ncsnv2/celeba": 29_694_083,
    "ve/ncsnv2/cifar10": 29_694_083,
    "vp/cifar10_ddpmpp": 61_804_419,
    "vp/cifar10_ddpmpp_continuous": 61_804_419,
    "vp/cifar10_ddpmpp_deep_continuous": 106_632_579,
    "vp/cifar10_ncsnpp": 62_693_251,
    "vp/cifar10_ncsnpp_continuous": 62_693_251,
    "vp/cifar10_ncsnpp_deep_continuous": 107_521_411,
    "vp/ddpm/bedroom": 111_569_923,
    "vp/ddpm/celebahq": 111_569_923,
    "vp/ddpm/church": 111_569_923,
    "vp/ddpm/cifar10": 35_218_947,
    "vp/ddpm/cifar10_continuous": 35_218_947,
    "vp/ddpm/cifar10_unconditional": 32_329_347,
}
"""Parameters with the fixed frequencies of a Fourier embedding, which the published code counts."""
