"""The networks of Karras et al. (2022) written again for tests, and pickles of them like the published ones.

What is faithful are the names of modules and weights, the order of operations, and the form of the pickle: an object
is a call of `torch_utils.persistence._reconstruct_persistent_obj` with the source code of its module, the name of its
class and its attributes. What is not here is a way back: these pickles are read by scorefield only.
"""

import pickle
import sys
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SOURCE = "raise SystemExit('the source code of a network was executed')"


def _reconstruct_persistent_obj(meta):
    raise AssertionError("a pickle was run")


class Persistent(nn.Module):
    """A module that pickles like those of NVIDIA's `persistence`."""

    def __init_subclass__(cls):
        made = cls.__init__

        def recorded(self, *args, **kwargs):
            made(self, *args, **kwargs)
            self._init_args, self._init_kwargs = args, kwargs

        cls.__init__ = recorded

    def __reduce_ex__(self, protocol):
        state = dict(self.__dict__)
        meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": type(self).__name__, "state": state}
        return _reconstruct_persistent_obj, (meta,), None


class Linear(Persistent):
    def __init__(self, inputs, outputs, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(0.3 * torch.randn(outputs)) if bias else None

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


class Conv2d(Persistent):
    """A convolution behind (or, fused, before or after) a filter that halves or doubles; `size` 0 only filters."""

    def __init__(self, inputs, outputs, size, *, up=False, down=False, taps=(1, 1), fused=False):
        super().__init__()
        self.up, self.down, self.fused = up, down, fused
        scale = (inputs * max(size, 1) ** 2) ** -0.5
        self.weight = nn.Parameter(scale * torch.randn(outputs, inputs, size, size)) if size else None
        self.bias = nn.Parameter(0.3 * torch.randn(outputs)) if size else None
        line = torch.tensor(taps, dtype=torch.float32)
        self.register_buffer("resample_filter", torch.outer(line, line)[None, None] / line.sum() ** 2)
        if not (up or down):
            self.resample_filter = None

    def forward(self, x):
        margin = 0 if self.weight is None else self.weight.shape[-1] // 2
        reach = 0 if self.resample_filter is None else (self.resample_filter.shape[-1] - 1) // 2
        if self.down and self.fused:
            x = functional.conv2d(x, self.weight, padding=margin + reach)
            kernel = self.resample_filter.repeat(x.shape[1], 1, 1, 1)
            return functional.conv2d(x, kernel, stride=2, groups=x.shape[1]) + self.bias[:, None, None]
        if self.up or self.down:
            kernel, along = self.resample_filter.repeat(x.shape[1], 1, 1, 1), {"stride": 2, "groups": x.shape[1]}
            if self.up:
                x = functional.conv_transpose2d(x, 4 * kernel, padding=reach, **along)
            else:
                x = functional.conv2d(x, kernel, padding=reach, **along)
        return x if self.weight is None else functional.conv2d(x, self.weight, self.bias, padding=margin)


class GroupNorm(Persistent):
    def __init__(self, channels):
        super().__init__()
        self.num_groups, self.eps = min(32, channels // 4), 1e-6
        self.weight = nn.Parameter(1 + 0.3 * torch.randn(channels))
        self.bias = nn.Parameter(0.3 * torch.randn(channels))

    def forward(self, x):
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class UNetBlock(Persistent):
    def __init__(self, inputs, outputs, emb, *, up=False, down=False, attention=False, taps=(1, 1)):
        super().__init__()
        self.in_channels, self.out_channels, self.num_heads = inputs, outputs, int(attention)
        self.skip_scale = np.sqrt(0.5)
        self.norm0 = GroupNorm(inputs)
        self.conv0 = Conv2d(inputs, outputs, 3, up=up, down=down, taps=taps)
        self.affine = Linear(emb, outputs)
        self.norm1 = GroupNorm(outputs)
        self.conv1 = Conv2d(outputs, outputs, 3)
        changes = up or down or inputs != outputs
        self.skip = Conv2d(inputs, outputs, 1, up=up, down=down, taps=taps) if changes else None
        if attention:
            self.norm2 = GroupNorm(outputs)
            self.qkv = Conv2d(outputs, 3 * outputs, 1)
            self.proj = Conv2d(outputs, outputs, 1)

    def forward(self, x, emb):
        h = self.conv0(functional.silu(self.norm0(x))) + self.affine(emb)[:, :, None, None]
        h = self.conv1(functional.silu(self.norm1(h)))
        x = (h + (x if self.skip is None else self.skip(x))) * self.skip_scale
        if self.num_heads:
            q, k, v = self.qkv(self.norm2(x)).reshape(len(x), x.shape[1], 3, -1).unbind(2)
            weights = torch.einsum("ncq,nck->nqk", q, k / x.shape[1] ** 0.5).softmax(2)
            x = (self.proj(torch.einsum("nqk,nck->ncq", weights, v).reshape(x.shape)) + x) * self.skip_scale
        return x


class PositionalEmbedding(Persistent):
    def __init__(self, num_channels):
        super().__init__()
        self.num_channels = num_channels

    def forward(self, c):
        half = self.num_channels // 2
        angles = torch.outer(c, (1 / 10000) ** (torch.arange(half, dtype=c.dtype) / (half - 1)))
        return torch.cat([angles.cos(), angles.sin()], 1)


class FourierEmbedding(Persistent):
    def __init__(self, num_channels):
        super().__init__()
        self.register_buffer("freqs", 2 * torch.randn(num_channels // 2))

    def forward(self, c):
        angles = torch.outer(c, 2 * np.pi * self.freqs)
        return torch.cat([angles.cos(), angles.sin()], 1)


class SongUNet(Persistent):
    def __init__(
        self,
        img_resolution,
        in_channels,
        out_channels,
        label_dim=0,
        augment_dim=0,
        model_channels=128,
        channel_mult=(1, 2, 2, 2),
        num_blocks=4,
        attn_resolutions=(16,),
        dropout=0.1,
        embedding_type="positional",
        channel_mult_noise=1,
        encoder_type="standard",
        decoder_type="standard",
        resample_filter=(1, 1),
    ):
        super().__init__()
        emb, noise = 4 * model_channels, model_channels * channel_mult_noise
        self.map_noise = (PositionalEmbedding if embedding_type == "positional" else FourierEmbedding)(noise)
        self.map_label = Linear(label_dim, noise) if label_dim else None
        self.map_augment = Linear(augment_dim, noise, bias=False) if augment_dim else None
        self.map_layer0, self.map_layer1 = Linear(noise, emb), Linear(emb, emb)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        sizes = [img_resolution >> level for level in range(len(channel_mult))]
        width, pyramid, kept = model_channels, in_channels, [model_channels]
        self.enc[f"{sizes[0]}x{sizes[0]}_conv"] = Conv2d(in_channels, width, 3)
        for size, mult in zip(sizes, channel_mult, strict=True):
            here = f"{size}x{size}"
            if size != sizes[0]:
                self.enc[f"{here}_down"] = UNetBlock(width, width, emb, down=True, taps=resample_filter)
                kept.append(width)
                if encoder_type == "skip":
                    self.enc[f"{here}_aux_down"] = Conv2d(pyramid, pyramid, 0, down=True, taps=resample_filter)
                    self.enc[f"{here}_aux_skip"] = Conv2d(pyramid, width, 1)
                elif encoder_type == "residual":
                    fused = Conv2d(pyramid, width, 3, down=True, taps=resample_filter, fused=True)
                    self.enc[f"{here}_aux_residual"], pyramid = fused, width
            for i in range(num_blocks):
                block = UNetBlock(width, model_channels * mult, emb, attention=size in attn_resolutions)
                self.enc[f"{here}_block{i}"], width = block, model_channels * mult
                kept.append(width)
        for size, mult in reversed(list(zip(sizes, channel_mult, strict=True))):
            here = f"{size}x{size}"
            if size == sizes[-1]:
                self.dec[f"{here}_in0"] = UNetBlock(width, width, emb, attention=True)
                self.dec[f"{here}_in1"] = UNetBlock(width, width, emb)
            else:
                self.dec[f"{here}_up"] = UNetBlock(width, width, emb, up=True, taps=resample_filter)
            for i in range(num_blocks + 1):
                attention = i == num_blocks and size in attn_resolutions
                block = UNetBlock(width + kept.pop(), model_channels * mult, emb, attention=attention)
                self.dec[f"{here}_block{i}"], width = block, model_channels * mult
            if decoder_type == "skip" or size == sizes[0]:
                if decoder_type == "skip" and size != sizes[-1]:
                    filtered = Conv2d(out_channels, out_channels, 0, up=True, taps=resample_filter)
                    self.dec[f"{here}_aux_up"] = filtered
                self.dec[f"{here}_aux_norm"] = GroupNorm(width)
                self.dec[f"{here}_aux_conv"] = Conv2d(width, out_channels, 3)

    def forward(self, x, c, labels):
        cosines, sines = self.map_noise(c).chunk(2, 1)
        emb = torch.cat([sines, cosines], 1)
        if self.map_label is not None:
            emb = emb + self.map_label(labels * labels.shape[1] ** 0.5)
        emb = functional.silu(self.map_layer1(functional.silu(self.map_layer0(emb))))
        kept, aux = [], x
        for name, layer in self.enc.items():
            if "aux_down" in name:
                aux = layer(aux)
            elif "aux_skip" in name:
                x = kept[-1] = x + layer(aux)
            elif "aux_residual" in name:
                x = kept[-1] = aux = (x + layer(aux)) / 2**0.5
            else:
                x = layer(x, emb) if isinstance(layer, UNetBlock) else layer(x)
                kept.append(x)
        aux = None
        for name, layer in self.dec.items():
            if "aux_up" in name:
                aux = layer(aux)
            elif "aux_norm" in name:
                normed = layer(x)
            elif "aux_conv" in name:
                image = layer(functional.silu(normed))
                aux = image if aux is None else aux + image
            else:
                x = layer(x if x.shape[1] == layer.in_channels else torch.cat([x, kept.pop()], 1), emb)
        return aux


class Precond(Persistent):
    """D(y; sigma) = skip y + out F(in y, c) of a network F."""

    def __init__(self, img_resolution, img_channels, label_dim=0, **model):
        super().__init__()
        self.img_resolution, self.img_channels, self.label_dim = img_resolution, img_channels, label_dim
        self.use_fp16 = False
        sizes = {"img_resolution": img_resolution, "in_channels": img_channels, "out_channels": img_channels}
        self.model = SongUNet(**sizes, label_dim=label_dim, **model)

    def forward(self, y, sigma, labels=None):
        if labels is None:
            labels = y.new_zeros(1, self.label_dim)
        s = sigma[:, None, None, None]
        skip, out, scale = self.factors(s)
        return skip * y + out * self.model(scale * y, self.told(sigma), labels)


class VPPrecond(Precond):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.beta_d, self.beta_min, self.M, self.epsilon_t = 19.9, 0.1, 1000, 1e-5

    def factors(self, s):
        return 1, -s, 1 / (s**2 + 1).sqrt()

    def told(self, sigma):
        root = (self.beta_min**2 + 2 * self.beta_d * (1 + sigma.double() ** 2).log()).sqrt()
        return ((self.M - 1) * (root - self.beta_min) / self.beta_d).to(sigma)


class VEPrecond(Precond):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sigma_min, self.sigma_max = 0.02, 100

    def factors(self, s):
        return 1, s, 1

    def told(self, sigma):
        return (0.5 * sigma).log()


class EDMPrecond(Precond):
    def __init__(self, *args, sigma_data=0.5, **kwargs):
        super().__init__(*args, **kwargs)
        self.sigma_min, self.sigma_max, self.sigma_data = 0, float("inf"), sigma_data

    def factors(self, s):
        d = self.sigma_data
        return d**2 / (s**2 + d**2), s * d / (s**2 + d**2).sqrt(), 1 / (s**2 + d**2).sqrt()

    def told(self, sigma):
        return sigma.log() / 4


def dumps(content, protocol=4):
    """A pickle in which the persistence module has its published name."""
    package, module = ModuleType("torch_utils"), ModuleType("torch_utils.persistence")
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj
    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    sys.modules |= {"torch_utils": package, "torch_utils.persistence": module}
    try:
        return pickle.dumps(content, protocol)
    finally:
        del sys.modules["torch_utils"], sys.modules["torch_utils.persistence"]
