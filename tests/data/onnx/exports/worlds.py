"""The encoders of the fixtures: real architectures, built from their own libraries with tiny widths and depths."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models as tv
from torchvision.ops.misc import Conv2dNormActivation

SIZE = 32


class Encoder(nn.Module):
    """A backbone, a linear layer to the embedding and, for most, the L2 normalisation."""

    def __init__(self, backbone, features, dim=16, normalise=True, mean_std=False):
        super().__init__()
        self.backbone, self.head, self.normalise = backbone, nn.Linear(features, dim), normalise
        self.mean_std = mean_std
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x):
        if self.mean_std:
            x = (x - self.mean) / self.std
        e = self.head(self.backbone(x).flatten(1))
        return F.normalize(e, dim=1) if self.normalise else e


class NarrowResNet(tv.resnet.ResNet):
    """torchvision's ResNet with a sixteenth of its channels (an eighth in the stem's case of four)."""

    share = 16

    def _make_layer(self, block, planes, blocks, stride=1, dilate=False):
        if planes == 64:
            self.inplanes = 64 // self.share
            self.conv1 = nn.Conv2d(3, self.inplanes, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(self.inplanes)
        return super()._make_layer(block, planes // self.share, blocks, stride, dilate)


def resnet():
    net = NarrowResNet(tv.resnet.BasicBlock, [2, 1, 1, 1])
    net.fc = nn.Identity()
    return Encoder(net, 32, mean_std=True)


def resnext():
    # Bottlenecks with groups: width = planes * (base_width / 64) * groups.
    net = NarrowResNet(tv.resnet.Bottleneck, [1, 1, 1, 1], groups=2, width_per_group=32)
    net.layer4, net.fc = nn.Identity(), nn.Identity()
    return Encoder(net, 64)


def mobilenet_v2():
    settings = [[1, 8, 1, 1], [4, 8, 2, 2], [4, 16, 1, 2]]
    net = tv.MobileNetV2(width_mult=0.5, inverted_residual_setting=settings, round_nearest=4)
    channels = net.features[-2].conv[-2].out_channels
    net.features[-1] = Conv2dNormActivation(channels, 32, kernel_size=1, activation_layer=nn.ReLU6)
    net.classifier = nn.Identity()
    return Encoder(net, 32)


def mobilenet_v3():
    row = partial(tv.mobilenetv3.InvertedResidualConfig, width_mult=1.0)
    settings = [
        row(8, 3, 8, 8, True, "RE", 2, 1),
        row(8, 5, 24, 12, True, "HS", 2, 1),
        row(12, 5, 32, 12, True, "HS", 1, 2),
    ]
    net = tv.MobileNetV3(settings, last_channel=32)
    net.classifier = nn.Identity()
    return Encoder(net, 96)


def efficientnet():
    settings = [
        tv.efficientnet.FusedMBConvConfig(2, 3, 1, 8, 8, 1),
        tv.efficientnet.MBConvConfig(4, 3, 2, 8, 12, 2, 1.0, 1.0),
        tv.efficientnet.MBConvConfig(4, 5, 2, 12, 16, 1, 1.0, 1.0),
    ]
    net = tv.EfficientNet(settings, dropout=0.2, last_channel=32)
    net.classifier = nn.Identity()
    return Encoder(net, 32)


def convnext():
    settings = [tv.convnext.CNBlockConfig(8, 16, 1), tv.convnext.CNBlockConfig(16, 24, 1), tv.convnext.CNBlockConfig(24, None, 1)]
    net = tv.ConvNeXt(settings, layer_scale=0.5)
    net.classifier = nn.Sequential(tv.convnext.LayerNorm2d(24), nn.Flatten(1))
    return Encoder(net, 24)


def vit():
    net = tv.VisionTransformer(image_size=SIZE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    net.heads = nn.Identity()
    return Encoder(net, 16)


def swin():
    net = tv.SwinTransformer(patch_size=[2, 2], embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4])
    net.head = nn.Identity()
    return Encoder(net, 16)


def swin_v2():
    net = tv.SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[2], num_heads=[2], window_size=[4, 4],
        block=tv.swin_transformer.SwinTransformerBlockV2, downsample_layer=tv.swin_transformer.PatchMergingV2,
    )
    for module in net.modules():
        if hasattr(module, "cpb_mlp"):  # 512 hidden units, for 2 heads
            module.cpb_mlp = nn.Sequential(nn.Linear(2, 16), nn.ReLU(inplace=True), nn.Linear(16, 2, bias=False))
    net.head = nn.Identity()
    return Encoder(net, 8)


def densenet():
    net = tv.DenseNet(growth_rate=6, block_config=(2, 2, 2), num_init_features=8, bn_size=2)
    features = net.classifier.in_features
    net.classifier = nn.Identity()
    return Encoder(net, features)


def shufflenet():
    net = tv.ShuffleNetV2([2, 2, 2], [8, 16, 24, 32, 48])
    net.fc = nn.Identity()
    return Encoder(net, 48)


def timm_vit():
    from timm.models.vision_transformer import VisionTransformer

    net = VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=0,
        global_pool="avg", qk_norm=True, init_values=0.5, reg_tokens=2,
    )
    return Encoder(net, 16, normalise=False)


def timm_eva():
    """Rotary positions and gated feed-forward layers, as in EVA-02."""
    from timm.models.eva import Eva

    net = Eva(
        img_size=SIZE, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2, num_classes=0, swiglu_mlp=True,
        scale_mlp=True, use_rot_pos_emb=True, qkv_fused=False,
    )
    return Encoder(net, 16)


def timm_convnext_v2():
    """Global response normalisation."""
    from timm.models.convnext import ConvNeXt

    net = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), use_grn=True, ls_init_value=None, num_classes=0)
    return Encoder(net, 16)


def timm_blur_resnet():
    """Blur pooling (reflected padding, a fixed depthwise filter), squeeze-and-excitation, a deep stem, SiLU."""
    from timm.layers import BlurPool2d
    from timm.models.resnet import BasicBlock, ResNet

    net = ResNet(
        BasicBlock, [1, 1, 1, 1], channels=(8, 8, 12, 16), stem_width=4, stem_type="deep", avg_down=True, num_classes=0,
        aa_layer=BlurPool2d, act_layer=nn.SiLU, block_args=dict(attn_layer="se"),
    )
    return Encoder(net, 16)


class Mixture(nn.Module):
    """What the architectures above do not have: resizing, transposed convolution, other norms, activations, pads,
    indexing, power-mean pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 2, padding=(1, 2), padding_mode="reflect", dilation=1)
        self.group_norm, self.instance_norm = nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True)
        self.up = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=2)
        self.prelu = nn.PReLU(6)
        self.mix = nn.Conv2d(6, 8, 3, 2, 2, dilation=2)
        self.line = nn.Conv1d(8, 8, 3, padding=1, groups=4)
        self.lrn = nn.LocalResponseNorm(3, alpha=0.1)
        self.squeeze = nn.Conv2d(16, 8, 1)
        self.register_buffer("order", torch.tensor([3, 1, 0, 2, 7, 5, 6, 4]))
        self.power = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        x = F.elu(self.group_norm(self.stem(x)))
        x = F.interpolate(x, size=(12, 12), mode="bilinear", align_corners=False)
        x = x + F.interpolate(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), scale_factor=2, mode="nearest")
        x = F.selu(self.instance_norm(x))
        x = self.prelu(self.up(x))
        x = self.mix(F.pad(x, (1, 0, 0, 1), mode="replicate"))
        x = F.mish(x) + F.softplus(self.lrn(x))
        x = torch.cat([x, torch.roll(x, 1, dims=3)], 1)
        x = F.hardswish(self.squeeze(x))
        a, b = F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2).chunk(2, dim=1)
        x = torch.cat([a * torch.tanh(b), torch.maximum(a, b)], 1)[:, self.order]
        rows = torch.logsumexp(x, dim=3)
        weight = torch.softmax(self.line(rows), dim=-1)
        attended = torch.einsum("bch,bchw->bcw", weight, x)
        powered = F.interpolate(x, scale_factor=0.5, mode="bicubic", align_corners=False).clamp(min=1e-2).pow(self.power)
        return torch.cat([powered.mean((2, 3)).pow(1 / self.power), attended.amax(2), F.gelu(attended).mean(2)], 1)


def mixture():
    return Encoder(Mixture(), 24)


WORLDS = {
    "resnet": resnet,
    "resnext": resnext,
    "mobilenet-v2": mobilenet_v2,
    "mobilenet-v3": mobilenet_v3,
    "efficientnet": efficientnet,
    "convnext": convnext,
    "vit": vit,
    "swin": swin,
    "swin-v2": swin_v2,
    "densenet": densenet,
    "shufflenet": shufflenet,
    "timm-vit": timm_vit,
    "timm-eva": timm_eva,
    "timm-convnext-v2": timm_convnext_v2,
    "timm-blur-resnet": timm_blur_resnet,
    "mixture": mixture,
}


def randomise(model, images):
    """Weights as after some training: batch norms that know the activations, scales and biases that are not 1 and 0."""
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            if parameter.dim() <= 1 and name.endswith("weight"):
                parameter.copy_(torch.empty_like(parameter).uniform_(0.6, 1.4))
            elif name.endswith("bias"):
                parameter.copy_(torch.randn_like(parameter) * 0.1)
            elif "grn" in name or "gamma" in name or "layer_scale" in name:
                parameter.copy_(torch.empty_like(parameter).uniform_(0.3, 0.7))
            elif "relative_position_bias" in name or "pos_embed" in name or "token" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
            elif parameter.dim() == 2:
                parameter.copy_(torch.randn_like(parameter) / math.sqrt(parameter.shape[1]))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for shift in range(4):
            model(images.roll(5 * shift, 2))
    model.eval()
    return model
