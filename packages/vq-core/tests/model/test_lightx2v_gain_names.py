from vq_core.model.lightx2v_gain_names import affine_norm, is_affine_norm


def test_a_gain_is_spelt_twice() -> None:
    assert affine_norm("blocks.7.norm1.gain") == ("blocks.7.affine_norm1.weight", "blocks.7.affine_norm1.bias")
    assert affine_norm("blocks.0.norm3.gain") == ("blocks.0.affine_norm3.weight", "blocks.0.affine_norm3.bias")
    assert affine_norm("vace_blocks.2.norm3.gain")[0] == "vace_blocks.2.affine_norm3.weight"


def test_only_they_are_recognised() -> None:
    assert all(map(is_affine_norm, affine_norm("blocks.7.norm1.gain")))
    assert not any(map(is_affine_norm, ("blocks.7.norm1.weight", "blocks.7.affine_norm2.weight", "affine_norm1.bias")))
