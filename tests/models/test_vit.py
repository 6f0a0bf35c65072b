"""The model against torchvision's, against its own written-out form, and against what the paper says."""

import ast
import math
from pathlib import Path

import pytest
import torch
from torchvision.models import VisionTransformer as TorchvisionViT

from vit_lightning.models import vit
from vit_lightning.models.vit import MultiHeadSelfAttention, VisionTransformer


def small(**changes: object) -> VisionTransformer:
    settings: dict[str, object] = {
        "num_classes": 5,
        "image_size": 32,
        "patch_size": 8,
        "dim": 24,
        "depth": 3,
        "heads": 4,
    }
    return VisionTransformer(**(settings | changes))  # type: ignore[arg-type]  # settings of many types


def copy_from_torchvision(theirs: TorchvisionViT, ours: VisionTransformer) -> dict[str, str]:
    """Copies all weights; returns their name -> our name."""
    names = {
        "class_token": "class_token",
        "conv_proj.weight": "patch_embedding.projection.weight",
        "conv_proj.bias": "patch_embedding.projection.bias",
        "encoder.pos_embedding": "position_embedding",
        "encoder.ln.weight": "norm.weight",
        "encoder.ln.bias": "norm.bias",
        "heads.head.weight": "head.weight",
        "heads.head.bias": "head.bias",
    }
    parts = {
        "ln_1": "norm1",
        "self_attention.in_proj_": "attention.qkv.",
        "self_attention.out_proj": "attention.out",
        "ln_2": "norm2",
        "mlp.0": "mlp.expand",
        "mlp.3": "mlp.contract",
    }
    for layer in range(len(ours.blocks)):
        for their_part, our_part in parts.items():
            for kind in ("weight", "bias"):
                dot = "" if their_part.endswith("_") else "."
                theirs_name = f"encoder.layers.encoder_layer_{layer}.{their_part}{dot}{kind}"
                names[theirs_name] = f"blocks.{layer}.{our_part}{dot}{kind}"
    state = theirs.state_dict()
    assert set(names) == set(state)
    ours.load_state_dict({names[name]: value for name, value in state.items()}, strict=True)
    return names


def test_same_logits_and_gradients_as_torchvision() -> None:
    torch.manual_seed(0)
    theirs = TorchvisionViT(
        image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=24, mlp_dim=96, num_classes=5
    )
    for parameter in theirs.parameters():  # its zero-initialised head and biases would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    ours = small()
    names = copy_from_torchvision(theirs, ours)
    images, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 3, 4, 0])
    expected, found = theirs(images), ours(images)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.1
    gradients = {}
    for model, logits in ((theirs, expected), (ours, found)):
        loss = torch.nn.functional.cross_entropy(logits, labels)
        named = dict(model.named_parameters())
        gradients[model] = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    for name, gradient in gradients[theirs].items():
        torch.testing.assert_close(gradients[ours][names[name]], gradient, atol=1e-3, rtol=0)


def test_the_article_s_configuration_has_its_parameter_count() -> None:
    model = VisionTransformer(num_classes=4, image_size=224, patch_size=16, dim=256, depth=6, heads=8, mlp_ratio=4)
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_987_652


@pytest.mark.parametrize("tokens", [1, 7, 50])
def test_fused_and_eager_attention_agree(tokens: int) -> None:
    torch.manual_seed(1)
    attention = MultiHeadSelfAttention(dim=24, heads=3).eval().double()
    torch.nn.init.normal_(attention.qkv.weight)  # scores far from uniform
    x = torch.randn(2, tokens, 24).double()
    output, weights = attention.eager_attention(x)
    torch.testing.assert_close(attention(x), output, atol=1e-10, rtol=0)
    assert weights.shape == (2, 3, tokens, tokens)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, tokens).double())


def test_the_first_tokens_alone_come_out_as_they_do_among_all() -> None:
    torch.manual_seed(1)
    block = small().blocks[0].eval()
    x = torch.randn(2, 17, 24)
    torch.testing.assert_close(block(x, first=3), block(x)[:, :3], atol=1e-5, rtol=0)


def test_dropout_falls_on_the_attention_s_weights() -> None:
    """With one-hot values and no mixing afterwards, what comes out are the weights themselves."""
    torch.manual_seed(0)
    attention = MultiHeadSelfAttention(dim=8, heads=1, dropout=0.25)
    attention.out_dropout.rate = 0.0
    with torch.no_grad():
        attention.qkv.bias.zero_()
        attention.out.bias.zero_()
        attention.qkv.weight[16:] = attention.out.weight.copy_(torch.eye(8))
    tokens = torch.eye(8).expand(500, 8, 8)
    expected = attention.eager_attention(tokens)[1][0, 0] / 0.75
    found = attention(tokens)
    dropped = found == 0
    torch.testing.assert_close(found[~dropped], expected.expand(500, 8, 8)[~dropped], atol=1e-5, rtol=0)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.01)
    attention.eval()
    torch.testing.assert_close(attention(tokens), 0.75 * expected.expand(500, 8, 8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_probabilities_in_bf16_are_those_in_fp32_but_for_a_hundredth(pool: str) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(num_classes=4, dim=192, heads=6, image_size=96, pool=pool).eval()  # type: ignore[arg-type]  # one of the two
    torch.nn.init.normal_(model.head.weight, std=0.1)  # answers as different as those of a trained model
    x = torch.randn(16, 3, 96, 96)
    with torch.inference_mode():
        expected = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.softmax(dim=1), expected.softmax(dim=1), atol=1e-2, rtol=0)
    assert expected.softmax(dim=1).max() > 0.6


@pytest.mark.parametrize(("pool", "tokens"), [("cls", 13), ("gap", 12)])
@pytest.mark.parametrize("image_size", [(24, 32), (32, 24)])
def test_non_square_images_and_both_pools(pool: str, tokens: int, image_size: tuple[int, int]) -> None:
    model = small(image_size=image_size, pool=pool).eval()
    logits, maps = model(torch.randn(2, 3, *image_size), return_attention=True)
    assert logits.shape == (2, 5)
    assert [attention.shape for attention in maps] == [(2, 4, tokens, tokens)] * 3


def test_gap_averages_all_tokens() -> None:
    model = small(pool="gap").eval()
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.randn(2, 16, 24)
    expected = torch.stack([model.head(model.norm(tokens[:, i])) for i in range(16)]).mean(dim=0)
    torch.testing.assert_close(model.classify(tokens), expected, atol=1e-5, rtol=0)


def test_maps_are_the_ones_that_the_logits_come_from() -> None:
    """Attention pushed onto one token by hand has to show in the map of that layer."""
    model = small(depth=1).eval()
    block = model.blocks[0]
    with torch.no_grad():
        block.attention.qkv.weight.zero_()
        block.attention.qkv.bias.zero_()
        model.position_embedding.zero_()
        model.position_embedding[0, 5, 0] = 50.0  # token 5 alone has a large first channel before the norm
        block.attention.qkv.weight[24, 0] = 40.0  # key of head 0 reads that channel
        block.attention.qkv.bias[0] = 40.0  # query of head 0 asks for it, whatever the token
    _, (attention,) = model(torch.randn(3, 3, 32, 32), return_attention=True)
    assert (attention[:, 0, :, 5] > 0.99).all()
    torch.testing.assert_close(attention[:, 1], torch.full_like(attention[:, 1], 1 / 17))


def test_one_image_is_a_batch_of_one() -> None:
    model = small().eval()
    torch.nn.init.normal_(model.head.weight)
    image = torch.randn(3, 32, 32)
    torch.testing.assert_close(model(image), model(image[None])[0])
    logits, maps = model(image, return_attention=True)
    assert logits.shape == (5,)
    assert maps[0].shape == (4, 17, 17)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({"image_size": 30}, ("30", "8", "32")),
        ({"image_size": (32, 44)}, ("width 44", "8")),
        ({"dim": 25}, ("25", "4")),
        ({"heads": 0}, ("heads is 0",)),
        ({"num_classes": 0}, ("num_classes is 0",)),
        ({"dropout": 1.0}, ("dropout is 1.0",)),
        ({"mlp_ratio": 0.01}, ("0.01", "24")),
        ({"pool": "max"}, ("'max'", "'gap'")),
        ({"init": "zeros"}, ("'zeros'", "'article'")),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_both_numbers(
    changes: dict[str, object], numbers: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the numbers are the match
        small(**changes)
    for number in numbers:
        assert number in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 32, 40), (3, 16, 16), (32, 32), (1, 2, 3, 32, 32)])
def test_input_of_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        small()(torch.zeros(shape))
    assert str(tuple(shape)) in str(caught.value)
    assert "(3, 32, 32)" in str(caught.value)


def test_init_vit_is_glorot_s_with_a_zero_head() -> None:
    model = small(dim=64, image_size=64)
    assert model.head.weight.abs().max() == 0
    bound = math.sqrt(6 / (64 + 64))  # of one square matrix, not of the three side by side
    for block in model.blocks:
        for matrix in block.attention.qkv.weight.chunk(3):
            assert matrix.abs().max().item() == pytest.approx(bound, rel=0.01)
            assert matrix.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert block.mlp.expand.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (64 + 256)), rel=0.01)
        assert block.mlp.expand.bias.abs().max() == 0
    projection = model.patch_embedding.projection
    assert projection.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 8 * 8), rel=0.05)
    assert model.position_embedding.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.class_token is not None
    assert model.class_token.std().item() == pytest.approx(0.02, rel=0.4)
    said = " ".join((VisionTransformer.__doc__ or "").split())  # where it is not the paper's code, it says so
    assert "but there the class token starts at zero and the MLP's biases are normal with 1e-6" in said


def test_init_article_has_unit_normal_tokens_and_torch_s_layers() -> None:
    model = small(dim=64, init="article")
    assert model.position_embedding.std().item() == pytest.approx(1.0, rel=0.15)
    assert model.class_token is not None
    assert model.class_token.std().item() == pytest.approx(1.0, rel=0.4)
    assert model.blocks[0].mlp.expand.weight.abs().max().item() == pytest.approx(1 / 8, rel=0.05)  # 1 / sqrt(64)


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout", "mlp_dropout", "drop_path"])
def test_each_rate_acts_in_training_only(rate: str) -> None:
    torch.manual_seed(0)
    model = small(**{rate: 0.5})
    torch.nn.init.normal_(model.head.weight)
    x = torch.randn(8, 3, 32, 32)
    model.eval()
    torch.testing.assert_close(model(x), model(x))
    model.train()
    assert (model(x) - model(x)).abs().max() > 1e-4


def test_drop_path_rises_to_the_last_block() -> None:
    assert [block.drop_path.rate for block in small(drop_path=0.2).blocks] == pytest.approx([0.0, 0.1, 0.2])


def test_models_import_torch_alone() -> None:
    for file in Path(vit.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        outside = {
            name.partition(".")[0]
            for name in imported
            if not name.startswith(("vit_lightning.models", "vit_lightning.arguments"))
        }
        assert outside <= {"collections", "itertools", "math", "os", "typing", "torch"}, file.name


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_an_exported_network_takes_any_number_of_images(pool: str) -> None:
    """A `len(x)` would be written down as the number of images at hand, without a word."""
    model = small(pool=pool).eval()
    torch.nn.init.normal_(model.head.weight)
    shapes = {"x": {0: torch.export.Dim.AUTO}}
    exported = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=shapes).module()
    x = torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(exported(x), model(x))
